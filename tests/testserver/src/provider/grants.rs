// SPDX-License-Identifier: MIT OR Apache-2.0
//! The token endpoint, which issues tokens for the grant of a login, and the revocation endpoint.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::policy::{Client, Policy};
use super::random::random;
use super::refusal::refusal;
use super::server::Provider;
use super::state::Grant;
use crate::form::{Form, all, first};
use crate::http::Response;
use crate::locked;

impl Provider {
    /// The regular answer of the token endpoint.
    pub(super) fn grant_tokens(&self, client: &Client, form: &Form) -> Response {
        let result = match first(form, "grant_type") {
            Some("authorization_code") => self.redeem_code(client, form),
            Some("refresh_token") => self.refresh(client, form),
            _ => Err(refusal(400, "unsupported_grant_type", "unsupported grant_type requested")),
        };
        result.unwrap_or_else(|refused| refused)
    }

    fn redeem_code(&self, client: &Client, form: &Form) -> Result<Response, Response> {
        let invalid = || refusal(400, "invalid_grant", "grant request is invalid");
        let code = first(form, "code").and_then(|code| locked(&self.state).codes.remove(code)).ok_or_else(invalid)?;
        let proven = match (&code.challenge, first(form, "code_verifier")) {
            (Some(challenge), Some(verifier)) => *challenge == URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)),
            (None, None) => true,
            _ => false,
        };
        let same_client = code.grant.client == client.id && first(form, "redirect_uri") == Some(&code.redirect_uri);
        if !proven || !same_client || code.expires <= self.now() {
            return Err(invalid());
        }
        let audience = audience(&self.policy(), &code.grant, &all(form, "resource"))?;
        let refresh_token = random().map_err(server_error)?;
        locked(&self.state).refresh_tokens.insert(refresh_token.clone(), code.grant.clone());
        self.answer(&code.grant, &code.grant.scopes, &audience, &refresh_token)
    }

    fn refresh(&self, client: &Client, form: &Form) -> Result<Response, Response> {
        let invalid = || refusal(400, "invalid_grant", "grant request is invalid");
        let refresh_token = first(form, "refresh_token").ok_or_else(invalid)?;
        let grant = locked(&self.state).refresh_tokens.get(refresh_token).cloned().ok_or_else(invalid)?;
        if grant.client != client.id {
            return Err(invalid());
        }
        let scopes = match first(form, "scope").filter(|scope| !scope.is_empty()) {
            Some(asked) => narrowed_scopes(&grant, asked)?,
            None => grant.scopes.clone(),
        };
        let audience = audience(&self.policy(), &grant, &all(form, "resource"))?;
        self.answer(&grant, &scopes, &audience, refresh_token)
    }

    fn answer(
        &self,
        grant: &Grant,
        scopes: &[String],
        audience: &Value,
        refresh_token: &str,
    ) -> Result<Response, Response> {
        let granted: Vec<String> = scopes.iter().filter(|scope| *scope != "offline_access").cloned().collect();
        let access_token = self.access_token(grant, &granted, audience).map_err(server_error)?;
        let mut answer = json!({
            "access_token": access_token, "token_type": "Bearer", "expires_in": self.policy().lifetime,
            "scope": granted.join(" "), "refresh_token": refresh_token,
        });
        if let (true, Some(members)) = (granted.iter().any(|scope| scope == "openid"), answer.as_object_mut()) {
            members.insert("id_token".into(), self.id_token(grant, &access_token).map_err(server_error)?.into());
        }
        Ok(Response::json(200, &answer).with("Cache-Control", "no-store"))
    }

    /// The regular answer of the revocation endpoint. It is the same for unknown tokens (RFC 7009).
    pub(super) fn revoke_token(&self, client: &Client, form: &Form) -> Response {
        let Some(token) = first(form, "token") else {
            return refusal(400, "invalid_request", "missing required parameter 'token'");
        };
        let mut state = locked(&self.state);
        match state.refresh_tokens.get(token) {
            Some(grant) if grant.client == client.id => {
                state.refresh_tokens.remove(token);
            }
            Some(_) => {}
            None => {
                state.revoked.insert(token.to_owned());
            }
        }
        Response::empty(200)
    }
}

fn server_error(reason: impl AsRef<str>) -> Response {
    refusal(500, "server_error", reason.as_ref())
}

/// The scopes of a refresh. All must have been granted at the login. The error texts are those of the captures.
fn narrowed_scopes(grant: &Grant, asked: &str) -> Result<Vec<String>, Response> {
    let asked: Vec<String> = asked.split(' ').map(str::to_owned).collect();
    if asked.iter().any(String::is_empty) {
        return Err(refusal(400, "invalid_scope", "scope contains invalid characters"));
    }
    let granted = |scope: &&String| *scope == "offline_access" || grant.scopes.contains(scope);
    match asked.iter().filter(|scope| !granted(scope)).count() {
        // In the order of the login, not of the refresh.
        0 => Ok(grant.scopes.iter().filter(|scope| asked.contains(scope)).cloned().collect()),
        1 => Err(refusal(400, "invalid_scope", "refresh token missing requested scope")),
        _ => Err(refusal(400, "invalid_scope", "refresh token missing requested scopes")),
    }
}

/// The audience of an access token: the requested resources if the login named them, otherwise those of the login,
/// otherwise the default.
fn audience(policy: &Policy, grant: &Grant, asked: &[&str]) -> Result<Value, Response> {
    let known =
        |resource: &&str| grant.resources.iter().any(|login| login == resource) || policy.permits_at_refresh(resource);
    if !asked.iter().all(known) {
        return Err(refusal(400, "invalid_target", "resource indicator is missing, or unknown"));
    }
    let chosen: Vec<&str> =
        if asked.is_empty() { grant.resources.iter().map(String::as_str).collect() } else { asked.to_vec() };
    Ok(match chosen.as_slice() {
        [] => policy.default_audience.clone().into(),
        [one] => (*one).into(),
        several => several.into(),
    })
}
