// SPDX-License-Identifier: MIT OR Apache-2.0
//! Userinfo and introspection (RFC 7662).

use serde_json::{Map, Value, json};

use super::policy::Client;
use super::refusal::refusal;
use super::server::Provider;
use crate::form::{Form, first};
use crate::http::{Request, Response};
use crate::locked;

impl Provider {
    /// `GET` or `POST /userinfo`.
    pub(super) fn userinfo(&self, request: &Request) -> Response {
        let Some(token) = request.header("Authorization").and_then(bearer) else {
            return challenge(401, "invalid_request", "no access token provided");
        };
        let Some(claims) = self.verify_access_token(token) else {
            return challenge(401, "invalid_token", "invalid token provided");
        };
        let scopes = scopes(&claims);
        if !scopes.iter().any(|scope| scope == "openid") {
            return challenge(403, "insufficient_scope", "access token missing openid scope");
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        Response::json(200, &Value::Object(self.setup.users.claims(subject, &scopes)))
    }

    /// `POST /introspect`, for clients with a secret or key.
    pub(super) fn introspect(&self, client: &Client, form: &Form) -> Response {
        if client.secret.is_none() && client.jwks.is_none() {
            return refusal(401, "invalid_client", "client authentication failed");
        }
        let token = first(form, "token").unwrap_or_default();
        let answer = match (self.verify_access_token(token), locked(&self.state).refresh_tokens.get(token)) {
            (Some(mut claims), _) => {
                claims.insert("active".into(), true.into());
                claims.insert("token_type".into(), "Bearer".into());
                claims.insert("username".into(), claims.get("sub").cloned().unwrap_or_default());
                Value::Object(claims)
            }
            (None, Some(grant)) => json!({
                "active": true, "iss": self.issuer(), "sub": grant.user, "username": grant.user,
                "client_id": grant.client, "scope": grant.scopes.join(" "),
            }),
            (None, None) => json!({"active": false}),
        };
        Response::json(200, &answer)
    }
}

/// The token of a Bearer header.
#[must_use]
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// The scopes of an access token.
#[must_use]
pub fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let text = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
    text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

fn challenge(status: u16, error: &str, description: &str) -> Response {
    refusal(status, error, description)
        .with("WWW-Authenticate", format!("Bearer error=\"{error}\", error_description=\"{description}\""))
}
