// SPDX-License-Identifier: MIT OR Apache-2.0
//! A strict resource server. It checks signature, issuer, audience, scope and times, without leeway.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::http::{Handler, Reply, Request, Response};
use crate::jwks;
use crate::provider::Provider;
use crate::provider::inspection::{bearer, scopes};

/// Paths and the scopes they need.
const PATHS: &[(&str, &str)] = &[("/data", "storage.read"), ("/compute", "compute.read")];

/// The resource server.
pub struct ResourceServer {
    /// The only issuer that is accepted. Its keys are read for each request, so a rotation takes effect at once.
    pub issuer: Arc<dyn Issuer>,
    /// The audiences of this server; a token must name one of them.
    pub audiences: Vec<String>,
}

/// An issuer of access tokens.
pub trait Issuer: Send + Sync {
    /// Its URL.
    fn url(&self) -> String;

    /// Its JWKS document.
    ///
    /// # Errors
    /// The keys are not available.
    fn keys(&self) -> Result<Value, String>;
}

impl Issuer for Provider {
    fn url(&self) -> String {
        self.issuer().to_owned()
    }

    fn keys(&self) -> Result<Value, String> {
        Ok(self.jwks())
    }
}

/// Why a request is refused.
struct BearerError {
    status: u16,
    error: &'static str,
    reason: String,
}

fn refused(status: u16, error: &'static str, reason: impl Into<String>) -> BearerError {
    BearerError { status, error, reason: reason.into() }
}

fn invalid(reason: impl Into<String>) -> BearerError {
    refused(401, "invalid_token", reason)
}

impl ResourceServer {
    fn authorize(&self, request: &Request, needed: &str, now: u64) -> Result<Value, BearerError> {
        let header = request.header("Authorization").ok_or_else(|| invalid("there is no access token"))?;
        let token = bearer(header).ok_or_else(|| invalid("the Authorization header contains no Bearer token"))?;
        let keys = self.issuer.keys().map_err(|reason| refused(503, "temporarily_unavailable", reason))?;
        let claims = jwks::verify(token, &keys).map_err(invalid)?;
        let exp = self.check(&claims, now)?;
        let granted = scopes(&claims);
        if !granted.iter().any(|scope| scope == needed) {
            let reason = format!("the token has the scopes {:?}, {needed} is required", granted.join(" "));
            return Err(refused(403, "insufficient_scope", reason));
        }
        let subject = claims.get("sub").cloned().unwrap_or_default();
        Ok(json!({"sub": subject, "exp": exp, "scope": granted.join(" "), "seconds_left": exp - now}))
    }

    /// Checks everything but the scope; returns the expiry.
    fn check(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, BearerError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let time = |name: &str| claims.get(name).and_then(Value::as_u64);
        if text("iss") != Some(self.issuer.url().as_str()) {
            return Err(invalid("the token is from another issuer"));
        }
        if claims.contains_key("at_hash") || claims.contains_key("nonce") {
            return Err(invalid("this is an ID token"));
        }
        let audiences: Vec<&str> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences.iter().any(|audience| self.audiences.iter().any(|own| own == audience)) {
            return Err(invalid(format!("the token is for {audiences:?}, not for {:?}", self.audiences)));
        }
        let exp = time("exp").ok_or_else(|| invalid("the token has no expiry"))?;
        // RFC 7519, 4.1.4: not accepted on or after this time.
        if exp <= now {
            return Err(invalid(format!("the token expired {} s ago", now - exp)));
        }
        match time("nbf") {
            Some(nbf) if nbf > now => Err(invalid(format!("the token is not valid before {} s from now", nbf - now))),
            _ => Ok(exp),
        }
    }

    fn answer(&self, request: &Request, now: u64) -> Response {
        let Some((_, needed)) = PATHS.iter().find(|(path, _)| *path == request.path) else {
            return Response::json(404, &json!({"error": "not_found", "reason": "the paths are /data and /compute"}));
        };
        if request.method != "GET" {
            return Response::json(405, &json!({"error": "method_not_allowed", "reason": "only GET is allowed"}))
                .with("Allow", "GET");
        }
        match self.authorize(request, needed, now) {
            Ok(answer) => Response::json(200, &answer),
            Err(why) => Response::json(why.status, &json!({"error": why.error, "reason": why.reason}))
                .with("WWW-Authenticate", format!("Bearer error=\"{}\"", why.error)),
        }
    }
}

impl Handler for ResourceServer {
    fn handle(&self, request: &Request) -> Reply {
        Reply::Answer(self.answer(request, crate::unix_time()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::mint::TokenOrder;
    use crate::provider::tests::provider;

    #[test]
    fn valid_tokens_are_accepted_and_others_refused_with_the_reason() {
        let provider = Arc::new(provider(&json!({"default_audience": "https://se.test"})));
        let server = ResourceServer {
            issuer: provider.clone(),
            audiences: vec!["https://se.test".into(), "https://site".into()],
        };
        let now = crate::unix_time();
        let ask = |path: &str, authorization: Option<String>, now: u64| {
            let headers = authorization.map(|value| ("Authorization".into(), value)).into_iter().collect();
            let request = Request {
                method: "GET".into(),
                path: path.into(),
                query: None,
                headers,
                body: Vec::new(),
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            let response = server.answer(&request, now);
            (response.status, serde_json::from_slice::<Value>(&response.body).unwrap())
        };
        let mint = |order: &Value| {
            let mut order: TokenOrder = serde_json::from_value(order.clone()).unwrap();
            // The test uses one fixed time. Making an RSA key takes seconds, so the usual `nbf` could be later.
            order.claims.entry("nbf").or_insert(now.into());
            Some(format!("Bearer {}", provider.mint(&order).unwrap()))
        };
        let good = json!({"user": "bob", "scope": "openid storage.read", "claims": {"exp": now + 15}});
        let expected = json!({"sub": "bob", "exp": now + 15, "scope": "openid storage.read", "seconds_left": 15});
        assert_eq!(ask("/data", mint(&good), now), (200, expected));
        let several = json!({"claims": {"aud": ["https://else", "https://site"]}});
        assert_eq!(ask("/compute", mint(&several), now).0, 200);
        assert_eq!(ask("/data", None, now).0, 401);
        assert_eq!(ask("/data", Some("Basic abc".into()), now).0, 401);
        assert_eq!(ask("/secrets", mint(&good), now).0, 404);
        let table = [
            (good.clone(), "/compute", 0, 403, "compute.read is required"),
            (good.clone(), "/data", 15, 401, "expired 0 s ago"),
            (good.clone(), "/data", 17, 401, "expired 2 s ago"),
            (json!({"claims": {"nbf": now + 3}}), "/data", 0, 401, "not valid before 3 s"),
            (json!({"claims": {"exp": null}}), "/data", 0, 401, "no expiry"),
            (json!({"claims": {"exp": "soon"}}), "/data", 0, 401, "no expiry"),
            (json!({"claims": {"aud": "https://else"}}), "/data", 0, 401, "https://else"),
            (json!({"claims": {"aud": null}}), "/data", 0, 401, "is for []"),
            (json!({"claims": {"iss": "https://evil"}}), "/data", 0, 401, "another issuer"),
            (json!({"id_token": true, "claims": {"aud": "https://se.test"}}), "/data", 0, 401, "ID token"),
            (json!({"foreign_key": true}), "/data", 0, 401, "signature"),
            (json!({"tamper": "claims"}), "/data", 0, 401, "signature"),
            (json!({"alg": "none"}), "/data", 0, 401, "not a signed JWT"),
            (json!({"alg": "HS256"}), "/data", 0, 401, "not accepted"),
            (json!({"header": {"crit": ["x"]}}), "/data", 0, 401, "critical"),
            (json!({"opaque": true}), "/data", 0, 401, "not a signed JWT"),
        ];
        for (order, path, later, status, reason) in table {
            let (got, answer) = ask(path, mint(&order), now + later);
            assert_eq!(got, status, "{order}: {answer}");
            assert!(answer["reason"].as_str().unwrap().contains(reason), "{order}: {answer}");
        }
        let old = mint(&json!({}));
        provider.rotate_keys(true).unwrap();
        assert_eq!(ask("/data", old, now).0, 401);
        assert_eq!(ask("/data", mint(&json!({})), now).0, 200);
    }
}
