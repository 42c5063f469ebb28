// SPDX-License-Identifier: MIT OR Apache-2.0
//! The login page. There are no passwords: the user enters a name and accepts or declines.

use serde_json::Value;
use url::Url;

use super::random::random;
use super::server::Provider;
use super::state::{AuthorizationCode, Grant};
use crate::form::{Form, all, decode, encode, first};
use crate::http::{Request, Response};
use crate::locked;

/// Lifetime of an authorization code, in seconds.
const CODE_LIFETIME: u64 = 60;

/// An authorization request that passed all checks.
struct AuthorizationRequest {
    client: String,
    redirect_uri: String,
    scopes: Vec<String>,
    resources: Vec<String>,
    challenge: Option<String>,
    state: Option<String>,
    nonce: Option<String>,
}

impl Provider {
    /// `GET /authorize`: the login page. It contains the whole request, so the provider keeps no state.
    pub(super) fn login_page(&self, query: &str) -> Response {
        match self.check(&decode(query.as_bytes())) {
            Ok(_) => page(200, &form_page(query)),
            Err(refused) => refused,
        }
    }

    /// `POST /authorize`: handles the posted name and decision.
    pub(super) fn log_in(&self, request: &Request) -> Response {
        let posted = decode(&request.body);
        let query = first(&posted, "request").unwrap_or_default();
        let asked = match self.check(&decode(query.as_bytes())) {
            Ok(asked) => asked,
            Err(refused) => return refused,
        };
        if first(&posted, "decision") == Some("decline") {
            return asked.redirect(&[("error", "access_denied"), ("error_description", "the user declined")]);
        }
        let user = first(&posted, "username").map(str::trim).unwrap_or_default();
        if user.is_empty() || user.len() > 255 || user.chars().any(char::is_control) {
            return page(400, "<p>This is not a valid user name.</p>");
        }
        match self.issue_code(&asked, user) {
            Ok(code) => asked.redirect(&[("code", &code)]),
            Err(reason) => asked.redirect(&[("error", "server_error"), ("error_description", &reason)]),
        }
    }

    fn issue_code(&self, asked: &AuthorizationRequest, user: &str) -> Result<String, String> {
        let code = random()?;
        let now = self.now();
        let grant = Grant {
            client: asked.client.clone(),
            user: user.to_owned(),
            scopes: asked.scopes.clone(),
            resources: asked.resources.clone(),
            login_time: now,
            nonce: asked.nonce.clone(),
        };
        let issued = AuthorizationCode {
            grant,
            redirect_uri: asked.redirect_uri.clone(),
            challenge: asked.challenge.clone(),
            expires: now + CODE_LIFETIME,
        };
        let mut state = locked(&self.state);
        state.codes.retain(|_, code| code.expires > now);
        state.codes.insert(code.clone(), issued);
        Ok(code)
    }

    /// Checks a request; the error is a page or a redirect. A browser is only sent to an address that the
    /// client has registered (RFC 6749, 4.1.2.1).
    fn check(&self, query: &Form) -> Result<AuthorizationRequest, Response> {
        let client = first(query, "client_id").and_then(|id| self.client(id));
        let client = client.ok_or_else(|| page(400, "<p>The client is unknown.</p>"))?;
        let redirect_uri = first(query, "redirect_uri").unwrap_or_default();
        if !client.redirect_uris.iter().any(|registered| registered == redirect_uri) {
            return Err(page(400, "<p>The client has not registered this redirect URI.</p>"));
        }
        let owned = |key: &str| first(query, key).map(str::to_owned);
        let policy = self.policy();
        let asked = AuthorizationRequest {
            client: client.id.clone(),
            redirect_uri: redirect_uri.to_owned(),
            scopes: first(query, "scope")
                .unwrap_or_default()
                .split(' ')
                .filter(|scope| policy.scopes.iter().any(|known| known == scope))
                .map(str::to_owned)
                .collect(),
            resources: all(query, "resource").into_iter().map(str::to_owned).collect(),
            challenge: owned("code_challenge"),
            state: owned("state"),
            nonce: owned("nonce"),
        };
        let refuse = |error, description| Err(asked.redirect(&[("error", error), ("error_description", description)]));
        if first(query, "response_type") != Some("code") {
            return refuse("unsupported_response_type", "only the response type code is supported");
        }
        if asked.challenge.is_none() && client.secret.is_none() && client.jwks.is_none() {
            return refuse("invalid_request", "a public client needs PKCE");
        }
        if asked.challenge.is_some() && first(query, "code_challenge_method") != Some("S256") {
            return refuse("invalid_request", "the code challenge method must be S256");
        }
        if !asked.resources.iter().all(|resource| is_absolute(resource)) {
            return refuse("invalid_target", "resource indicator must be an absolute URI without a fragment");
        }
        Ok(asked)
    }
}

impl AuthorizationRequest {
    /// Sends the browser back to the client.
    fn redirect(&self, answer: &[(&str, &str)]) -> Response {
        let mut pairs: Vec<(String, String)> =
            answer.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        pairs.extend(self.state.clone().map(|state| ("state".to_owned(), state)));
        let separator = if self.redirect_uri.contains('?') { '&' } else { '?' };
        Response::empty(303).with("Location", format!("{}{separator}{}", self.redirect_uri, encode(&pairs)))
    }
}

/// Whether a resource is an absolute URI without a fragment (RFC 8707, 2).
fn is_absolute(resource: &str) -> bool {
    Url::parse(resource).is_ok_and(|url| url.fragment().is_none())
}

fn page(status: u16, content: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Log in</title>\n{content}\n</html>\n"
    );
    Response::typed(status, "text/html; charset=utf-8", html).with("Cache-Control", "no-store")
}

fn form_page(query: &str) -> String {
    let scope = decode(query.as_bytes()).into_iter().find(|(key, _)| key == "scope").map(|(_, scope)| scope);
    format!(
        "<h1>Log in</h1>\n<form method=\"post\">\n<input type=\"hidden\" name=\"request\" value=\"{}\">\n\
         <label>User name <input name=\"username\" autofocus></label>\n<p>Requested scope: {}</p>\n\
         <button name=\"decision\" value=\"accept\">Log in and accept</button>\n\
         <button name=\"decision\" value=\"decline\">Decline</button>\n</form>",
        escape(query),
        escape(&scope.unwrap_or_default()),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The discovery document (OpenID Connect Discovery 1.0, 3).
pub(super) fn discovery(issuer: &str, scopes: &[String]) -> Value {
    serde_json::json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "jwks_uri": format!("{issuer}/jwks"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
        "code_challenge_methods_supported": ["S256"],
    })
}
