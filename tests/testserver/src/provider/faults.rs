// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of single endpoints. Names and answers are those of `provider_fault` in the captures. Further faults are for
//! clients that talk to the provider themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::refusal::refusal;
use crate::http::{Reply, Response};

/// Endpoints of the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Endpoint {
    Discovery,
    Authorization,
    #[default]
    Token,
    Revocation,
    Jwks,
    Userinfo,
    Introspection,
}

type EditMembers = fn(&mut Map<String, Value>);

/// What an endpoint does instead of its regular answer.
#[derive(Clone)]
enum Effect {
    Replace(Response),
    Edit(EditMembers),
    /// The regular answer with another media type.
    Relabel(&'static str),
    Late(Duration),
    Drip(Duration),
    Close,
    Refuse,
}

/// A fault that is set.
#[derive(Clone)]
pub struct ProviderFault(Effect);

/// The faults that are set, each with the number of its remaining requests, if limited.
#[derive(Default)]
pub struct ProviderFaults(BTreeMap<Endpoint, (ProviderFault, Option<u64>)>);

/// A request to set a fault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// Its name; `none` ends the fault of the endpoint.
    pub name: String,
    /// The endpoint; `token` if absent.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Milliseconds for `latency` and `drip`, bytes for `huge-body`.
    #[serde(default)]
    pub argument: Option<u64>,
    /// Number of requests after which the fault ends; unlimited if absent.
    #[serde(default)]
    pub times: Option<u64>,
}

impl ProviderFaults {
    /// Sets the fault of an endpoint; it replaces an earlier one.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn set(&mut self, order: &FaultOrder) -> Result<(), String> {
        if order.name == "none" || order.times == Some(0) {
            self.0.remove(&order.endpoint);
            return Ok(());
        }
        let effect = effect(&order.name, order.argument);
        let effect = effect.ok_or_else(|| format!("unknown fault {:?}", order.name))?;
        self.0.insert(order.endpoint, (ProviderFault(effect), order.times));
        Ok(())
    }

    /// Ends all faults.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for a request to this endpoint, if any.
    pub fn take_for(&mut self, endpoint: Endpoint) -> Option<ProviderFault> {
        let (fault, left) = self.0.get_mut(&endpoint)?;
        let fault = fault.clone();
        if let Some(left) = left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(&endpoint);
            }
        }
        Some(fault)
    }

    /// Whether connections must be refused. The listener does that: a handler is called only after the connection.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.0.values().any(|(fault, _)| matches!(fault.0, Effect::Refuse))
    }
}

impl ProviderFault {
    /// Answers the request with the fault.
    pub fn answer(&self, regular: impl FnOnce() -> Response) -> Reply {
        match &self.0 {
            Effect::Replace(response) => Reply::Answer(response.clone()),
            Effect::Edit(edit) => Reply::Answer(edited(regular(), *edit)),
            Effect::Relabel(media_type) => {
                let mut response = regular();
                response.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
                Reply::Answer(response.with("Content-Type", *media_type))
            }
            Effect::Late(pause) => Reply::Late(regular(), *pause),
            Effect::Drip(pause) => Reply::Drip(regular(), *pause),
            Effect::Close | Effect::Refuse => Reply::Close,
        }
    }
}

fn effect(name: &str, argument: Option<u64>) -> Option<Effect> {
    let html = |status| Effect::Replace(Response::typed(status, "text/html", "<html><body>not today</body></html>"));
    let text = |status| Response::typed(status, "text/plain", "");
    let json = |body: &str| Effect::Replace(Response::typed(200, "application/json", body));
    let refused = |status, error, description| Effect::Replace(refusal(status, error, description));
    let pause = |default| Duration::from_millis(argument.unwrap_or(default));
    Some(match name {
        "500-html" => html(500),
        "502-html" => html(502),
        "400-html" => html(400),
        "200-html" => html(200),
        "503-empty" => Effect::Replace(text(503)),
        "429" => Effect::Replace(text(429).with("Retry-After", "7")),
        "200-empty-object" => json("{}"),
        "200-empty-body" => json(""),
        "200-json-as-text" => Effect::Relabel("text/plain"),
        "400-invalid-grant" => refused(400, "invalid_grant", "refresh token revoked"),
        "400-no-description" => Effect::Replace(Response::json(400, &json!({"error": "invalid_grant"}))),
        "400-invalid-scope" => refused(400, "invalid_scope", "scope not allowed"),
        "401-invalid-client" => refused(401, "invalid_client", "client authentication failed"),
        "close" => Effect::Close,
        "refused" => Effect::Refuse,
        "slow-10s" => Effect::Late(Duration::from_secs(10)),
        "no-expires-in" => Effect::Edit(|answer| drop(answer.remove("expires_in"))),
        "no-scope" => Effect::Edit(|answer| drop(answer.remove("scope"))),
        "no-rt" => Effect::Edit(|answer| drop(answer.remove("refresh_token"))),
        "no-id-token" => Effect::Edit(|answer| drop(answer.remove("id_token"))),
        "expires-in-string" => Effect::Edit(|answer| put(answer, "expires_in", "3600")),
        "opaque" => Effect::Edit(|answer| put(answer, "access_token", OPAQUE)),
        "opaque-no-type" => Effect::Edit(|answer| {
            put(answer, "access_token", OPAQUE);
            answer.remove("token_type");
        }),
        "narrower-scope" => Effect::Edit(|answer| put(answer, "scope", "openid")),
        // The following are not in the captures.
        "latency" => Effect::Late(pause(1000)),
        "drip" => Effect::Drip(pause(1000)),
        "foreign-issuer" => Effect::Edit(|answer| put(answer, "issuer", "https://other.example.org")),
        "keys-elsewhere" => Effect::Edit(|answer| put(answer, "jwks_uri", "https://keys.example.org/jwks")),
        "foreign-subject" => Effect::Edit(|answer| put(answer, "sub", "somebody-else")),
        "no-keys" => json(r#"{"keys":[]}"#),
        "redirect" => Effect::Replace(Response::empty(308).with("Location", "https://other.example.org/")),
        "huge-body" => {
            let size = usize::try_from(argument.unwrap_or(64 << 20)).ok()?.min(256 << 20);
            json(&format!("{{\"pad\":\"{}\"}}", "x".repeat(size)))
        }
        _ => return None,
    })
}

const OPAQUE: &str = "opaque-access-token-0123456789";

fn put(answer: &mut Map<String, Value>, member: &str, value: &str) {
    answer.insert(member.into(), value.into());
}

/// Changes members of a successful answer; an error answer stays unchanged.
fn edited(mut response: Response, edit: EditMembers) -> Response {
    if let (200, Ok(mut members)) = (response.status, serde_json::from_slice::<Map<String, Value>>(&response.body)) {
        edit(&mut members);
        response.body = Value::Object(members).to_string().into_bytes();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::link::TokenEndpoint;
    use crate::provider::tests::{answer, body, call, log_in, pairs, provider};

    /// Checks status, content type and a part of the body for each fault of the captures.
    #[test]
    fn faults_answer_as_the_captures_say() {
        let provider = provider(&json!({}));
        let tokens = log_in(&provider, "openid compute.read", &[]);
        let form =
            pairs(&[("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"].as_str().unwrap())]);
        let plain = |name, status, media_type, expected: &str| {
            provider.set_token_fault(Some(name)).unwrap();
            let response = provider.token(&form).unwrap();
            let text = String::from_utf8(response.body.clone()).unwrap();
            assert_eq!((response.status, response.header("Content-Type")), (status, Some(media_type)), "{name}");
            assert!(if expected.is_empty() { text.is_empty() } else { text.contains(expected) }, "{name}: {text}");
        };
        for name in ["500-html", "502-html", "400-html", "200-html"] {
            plain(name, name[..3].parse().unwrap(), "text/html", "<html>");
        }
        plain("503-empty", 503, "text/plain", "");
        plain("429", 429, "text/plain", "");
        assert_eq!(provider.token(&form).unwrap().header("Retry-After"), Some("7"));
        plain("200-empty-object", 200, "application/json", "{}");
        plain("200-empty-body", 200, "application/json", "");
        plain("200-json-as-text", 200, "text/plain", "\"access_token\"");
        plain(
            "400-invalid-grant",
            400,
            "application/json",
            r#"{"error":"invalid_grant","error_description":"refresh token revoked"}"#,
        );
        plain("400-no-description", 400, "application/json", r#"{"error":"invalid_grant"}"#);
        plain("400-invalid-scope", 400, "application/json", "scope not allowed");
        plain("401-invalid-client", 401, "application/json", "client authentication failed");
        let member = |name, member: &str| {
            provider.set_token_fault(Some(name)).unwrap();
            let answer = body(&provider.token(&form).unwrap());
            assert!(answer.as_object().unwrap().len() >= 4, "{name}: other members are missing");
            answer.get(member).cloned()
        };
        for (name, missing) in [
            ("no-expires-in", "expires_in"),
            ("no-scope", "scope"),
            ("no-rt", "refresh_token"),
            ("no-id-token", "id_token"),
            ("opaque-no-type", "token_type"),
        ] {
            assert_eq!(member(name, missing), None, "{name}");
        }
        assert_eq!(member("expires-in-string", "expires_in"), Some(json!("3600")));
        assert_eq!(member("narrower-scope", "scope"), Some(json!("openid")));
        for name in ["opaque", "opaque-no-type"] {
            assert_eq!(member(name, "access_token"), Some(json!("opaque-access-token-0123456789")));
        }
        assert!(provider.set_token_fault(Some("no such fault")).is_err());
        let at = |endpoint, name, method, path| {
            provider.clear_faults();
            provider
                .set_fault(&FaultOrder { name: String::from(name), endpoint, argument: Some(5), times: None })
                .unwrap();
            call(&provider, method, path, &[], &[])
        };
        assert!(
            matches!(at(Endpoint::Jwks, "latency", "GET", "/jwks"), Reply::Late(_, pause) if pause.as_millis() == 5)
        );
        assert!(matches!(at(Endpoint::Jwks, "drip", "GET", "/jwks"), Reply::Drip(_, _)));
        assert!(matches!(at(Endpoint::Jwks, "close", "GET", "/jwks"), Reply::Close));
        let document = answer(at(Endpoint::Discovery, "foreign-issuer", "GET", "/.well-known/openid-configuration"));
        assert_eq!(body(&document)["issuer"], "https://other.example.org");
        provider.set_token_fault(Some("slow-10s")).unwrap();
        let late = call(&provider, "POST", "/token", &[], &[]);
        assert!(matches!(late, Reply::Late(_, pause) if pause.as_secs() == 10));
    }

    #[test]
    fn a_fault_ends_after_its_number_of_requests() {
        let provider = provider(&json!({}));
        let order = json!({"name": "500-html", "endpoint": "jwks", "times": 2});
        provider.set_fault(&serde_json::from_value(order).unwrap()).unwrap();
        let statuses = [(); 3].map(|()| answer(call(&provider, "GET", "/jwks", &[], &[])).status);
        assert_eq!(statuses, [500, 500, 200]);
    }
}
