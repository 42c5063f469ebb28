// SPDX-License-Identifier: MIT OR Apache-2.0
//! The consent page (MT-27): the user sees the request, can change it, and is sent to the provider.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult, escape};
use crate::mytoken::body;
use crate::mytoken::model::clauses::{Clause, without_duplicates};
use crate::mytoken::model::store::{CodeState, PendingLogin};
use crate::mytoken::model::upstream::Upstream;
use crate::mytoken::model::{capabilities, clause_json};
use crate::mytoken::server::{RequestContext, Server};

impl Server {
    /// Shows the page.
    pub(crate) fn consent_page(&self, context: &RequestContext<'_>, code: &str) -> ApiResult<Response> {
        let state = self.state();
        let login = state
            .logins
            .get(code)
            .filter(|login| login.expires >= context.now)
            .ok_or_else(|| ApiError::new(404, "Not Found", "Not Found"))?;
        let upstream = self.upstream(login.upstream)?;
        Ok(consent_html(login, upstream))
    }

    /// Handles the decision. The posted values replace the requested ones; an empty body declines.
    pub(crate) fn consent(&self, context: &RequestContext<'_>, code: &str) -> ApiResult<Response> {
        let mut state = self.state();
        let state = &mut *state;
        let login = state
            .logins
            .get_mut(code)
            .filter(|login| login.expires >= context.now)
            .ok_or_else(|| ApiError::internal("Not Found"))?;
        if context.request.body.is_empty() {
            let url = native_page_url("/native/abort", &login.wanted.application_name, false);
            if let Some(code) = login.polling_code.as_ref().and_then(|code| state.codes.get_mut(code)) {
                code.state = CodeState::Declined;
            }
            state.logins.remove(code);
            return Ok(Response::json(278, &json!({"url": url})));
        }
        let members = body::json(context.request, "ConsentApprovalRequest")?;
        let restrictions = posted_clauses(members.get("restrictions"))?;
        let mut posted = capabilities::names(members.get("capabilities"));
        if posted.is_empty() {
            posted = capabilities::DEFAULT.map(String::from).into();
        }
        if let Some(unknown) = posted.iter().find(|capability| !capabilities::is_known(capability)) {
            return Err(ApiError::invalid_request(format!("unknown capability '{{{unknown} }}'")));
        }
        let rotation = state.templates.rotation(members.get("rotation").filter(|value| value.is_object()))?;
        let upstream = self.upstream(self.find_upstream(&body::text(&members, "oidc_issuer")?)?)?;
        if rotation.is_some() && login.wanted.rotation.is_none() {
            return Err(ApiError::panic());
        }
        login.wanted.name = body::text(&members, "name")?;
        login.wanted.capabilities = posted;
        login.wanted.restrictions = without_duplicates(restrictions);
        login.wanted.rotation = rotation.or(login.wanted.rotation);
        Ok(Response::json(278, &json!({"authorization_uri": self.authorization_uri(login, upstream)?})))
    }

    fn authorization_uri(&self, login: &PendingLogin, upstream: &Upstream) -> ApiResult<String> {
        let mut uri = url::Url::parse(&upstream.info.authorization_endpoint)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let mut audiences: Vec<&String> =
            login.wanted.restrictions.iter().filter_map(|clause| clause.audience.as_ref()).flatten().collect();
        if self.config.quirks.last_audience_only {
            audiences = audiences.pop().into_iter().collect();
        }
        uri.query_pairs_mut()
            .append_pair("client_id", &upstream.info.client_id)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(&login.verifier)))
            .append_pair("code_challenge_method", "S256")
            .append_pair("prompt", "consent")
            .append_pair("redirect_uri", &format!("{}/redirect", self.config.issuer))
            .append_pair("response_type", "code")
            .append_pair("scope", &login_scope(&login.wanted.restrictions, &upstream.info.scopes))
            .append_pair("state", &login.state)
            .extend_pairs(audiences.into_iter().map(|audience| ("resource", audience)));
        Ok(uri.into())
    }
}

/// Reads the posted clauses. Only an array is accepted, times must be integers, and `this` is not resolved.
fn posted_clauses(value: Option<&Value>) -> ApiResult<Vec<Clause>> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(body::type_mismatch(
                other,
                "Go struct field ConsentApprovalRequest.restrictions of type restrictions.Restrictions",
            ));
        }
    };
    let empty = Map::new();
    let mut clauses = Vec::new();
    for item in list {
        let members = match item {
            Value::Object(members) => members,
            Value::Null => &empty,
            other => return Err(body::type_mismatch(other, "Go value of type restrictions.Restriction")),
        };
        clauses.push(clause_json::clause(members, None)?);
    }
    clauses.retain(|clause| !clause.is_empty());
    Ok(clauses)
}

/// The scopes of all clauses, or of the provider if no clause has any, plus those that every login needs.
fn login_scope(clauses: &[Clause], all: &[String]) -> String {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in clauses.iter().flat_map(|clause| clause.scope.split_whitespace()) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        scopes.extend(all.iter().map(String::as_str));
    }
    for needed in ["offline_access", "openid"] {
        if !scopes.contains(&needed) {
            scopes.push(needed);
        }
    }
    scopes.join(" ")
}

/// The URL of a page of the native flow, with the application's name if there is one. `encode` is false where the
/// original does not encode the name.
pub(crate) fn native_page_url(path: &str, application: &str, encode: bool) -> String {
    if application.is_empty() {
        return path.to_owned();
    }
    let encoded: String = url::form_urlencoded::byte_serialize(application.as_bytes()).collect();
    format!("{path}?application={}", if encode { &encoded } else { application })
}

/// The page. Its buttons use a script, because HTML forms cannot send JSON.
fn consent_html(login: &PendingLogin, upstream: &Upstream) -> Response {
    let wanted = &login.wanted;
    let capabilities = if wanted.capabilities.is_empty() {
        capabilities::DEFAULT.map(String::from).into()
    } else {
        wanted.capabilities.clone()
    };
    let mut approval = Map::new();
    approval.insert("oidc_issuer".into(), json!(upstream.info.issuer));
    approval.insert("name".into(), json!(wanted.name));
    approval.insert("capabilities".into(), json!(capabilities));
    if !wanted.restrictions.is_empty() {
        approval.insert("restrictions".into(), json!(wanted.restrictions));
    }
    if let Some(rotation) = wanted.rotation {
        approval.insert("rotation".into(), json!(rotation));
    }
    let approval = Value::Object(approval);
    let body = format!(
        r#"<!DOCTYPE html><html><head><meta charset="utf-8"><title>Consent</title></head><body>
<h1>A mytoken for {application}</h1>
<pre id="approval" data-approval="{attribute}">{shown}</pre>
<button id="approve">Approve</button> <button id="decline">Decline</button>
<script>
async function send(body) {{
  const answer = await fetch(location.href, {{method: "POST", headers: {{"Content-Type": "application/json", "Accept": "application/json"}}, body}});
  const next = await answer.json();
  location.href = next.authorization_uri || next.url;
}}
document.getElementById("approve").onclick = () => send(document.getElementById("approval").dataset.approval);
document.getElementById("decline").onclick = () => send("");
</script></body></html>
"#,
        application =
            escape(if wanted.application_name.is_empty() { "an application" } else { &wanted.application_name }),
        attribute = escape(&approval.to_string()),
        shown = escape(&serde_json::to_string_pretty(&approval).unwrap_or_default()),
    );
    Response::typed(200, "text/html; charset=utf-8", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_requests_the_scopes_of_all_clauses() {
        let clauses = |value| serde_json::from_value::<Vec<Clause>>(value).unwrap();
        let all = ["openid".to_owned(), "offline_access".to_owned(), "x".to_owned()];
        for (restrictions, expected) in [
            (json!([]), "openid offline_access x"),
            (json!([{"scope": "openid a"}, {"exp": 5}]), "openid a offline_access"),
            (json!([{"scope": "a"}, {"scope": "b a"}]), "a b offline_access openid"),
        ] {
            assert_eq!(login_scope(&clauses(restrictions), &all), expected);
        }
    }

    #[test]
    fn the_url_contains_the_application_name_if_there_is_one() {
        assert_eq!(native_page_url("/native", "", true), "/native");
        assert_eq!(native_page_url("/native/abort", "my app", false), "/native/abort?application=my app");
    }
}
