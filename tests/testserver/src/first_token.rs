// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gets a user's first mytoken: starts the flow, consents, logs in at the provider and polls. The
//! parameter `wanted` is a `first_token` of the captures:
//! `{"capabilities": [...], "restrictions"?, "rotation"?, "name"?, "issuer"?, "user": "alice"}`.
//! Other members go into the request that starts the flow (`response_type`, `max_token_len`, ...).

use serde_json::{Map, Value, json};

use crate::browser::Visit;
use crate::client::Fetch;
use crate::http::Response;

/// Members of `first_token` that are not sent to the server.
const NOT_SENT: &[&str] = &["user", "save", "issuer"];

/// Members that the user approves on the consent page.
const APPROVED: &[&str] = &["oidc_issuer", "capabilities", "restrictions", "rotation", "name"];

/// Gets a mytoken for the user and returns the whole answer of the server.
///
/// # Errors
/// A server refused a request or did not answer.
pub fn obtain(fetch: &dyn Fetch, server: &str, provider: &str, wanted: &Value) -> Result<Value, String> {
    let wanted = wanted.as_object().ok_or("the body is not an object")?;
    let user = wanted.get("user").and_then(Value::as_str).ok_or("the member user is missing")?;
    let mut start = json!({
        "grant_type": "oidc_flow", "oidc_flow": "authorization_code", "client_type": "native", "name": "t",
        "oidc_issuer": wanted.get("issuer").and_then(Value::as_str).unwrap_or(provider),
    });
    let members = start.as_object_mut().ok_or("not an object")?;
    members.extend(
        wanted.iter().filter(|(key, _)| !NOT_SENT.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())),
    );
    let approval: Map<String, Value> = members
        .iter()
        .filter(|(key, _)| APPROVED.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();

    let discovery = format!("{server}/.well-known/mytoken-configuration");
    let document = json_body("discovery", &fetch.fetch("GET", &discovery, &[], b"")?, 200)?;
    let endpoint = text(&document, "mytoken_endpoint")?;
    let started = post(fetch, "the start of the flow", &endpoint, &start, 200)?;
    let consented = post(fetch, "the consent", &text(&started, "consent_uri")?, &approval.into(), 278)?;
    let end = Visit::new(fetch, &mut |_| ()).open(&text(&consented, "authorization_uri")?, user)?;
    if end.status != 303 {
        return Err(format!("the login of {user} ended with status {}", end.status));
    }
    let poll = json!({"grant_type": "polling_code", "polling_code": text(&started, "polling_code")?});
    post(fetch, "the poll", &endpoint, &poll, 200)
}

fn post(fetch: &dyn Fetch, what: &str, url: &str, body: &Value, expected_status: u16) -> Result<Value, String> {
    let headers =
        [("Content-Type", "application/json"), ("Accept", "application/json"), ("User-Agent", "testserver/1.0")];
    json_body(what, &fetch.fetch("POST", url, &headers, body.to_string().as_bytes())?, expected_status)
}

/// The body of an answer with the expected status.
fn json_body(what: &str, answer: &Response, expected_status: u16) -> Result<Value, String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == expected_status {
        return Ok(body);
    }
    let reason =
        body.get("error_description").or(body.get("error")).and_then(Value::as_str).unwrap_or("no reason given");
    Err(format!("{what} failed with status {}: {reason}", answer.status))
}

fn text(answer: &Value, member: &str) -> Result<String, String> {
    answer.get(member).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("the answer has no {member}"))
}
