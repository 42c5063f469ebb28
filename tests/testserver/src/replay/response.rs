// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the answer of a step with the capture.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::capture::{CapturedResponse, DecodedJwt};
use super::pattern::{self, compare, shortened};
use super::vars::Vars;
use crate::http::Response;
use crate::mytoken::unix_now;

/// Compares an answer with the capture.
pub(super) fn check(
    expected: &CapturedResponse,
    answer: &Response,
    unordered: &[String],
    own_login: bool,
    vars: &mut Vars,
) -> Result<(), String> {
    let shown = || shortened(&String::from_utf8_lossy(&answer.body).into());
    if answer.status != expected.status {
        return Err(format!("status: expected {}, got {}: {}", expected.status, answer.status, shown()));
    }
    let content_type =
        answer.header("Content-Type").filter(|_| expected.status != 303 || expected.content_type.is_some());
    if content_type != expected.content_type.as_deref() {
        return Err(format!("Content-Type: expected {:?}, got {content_type:?}", expected.content_type));
    }
    if let Some(location) = &expected.location {
        let got = answer.header("Location").unwrap_or_default();
        if got != vars.fill(location)? {
            return Err(format!("Location: expected {location}, got {got}"));
        }
    }
    let now = unix_now();
    for (name, value) in &expected.headers {
        match (value, answer.header(name)) {
            (None, None) => {}
            (Some(value), Some(got)) => {
                compare(value, &got.into(), &[], now, vars).map_err(|reason| format!("header {name}{reason}"))?;
            }
            (value, got) => return Err(format!("header {name}: expected {value:?}, got {got:?}")),
        }
    }
    match (&expected.json, expected.text.as_deref()) {
        (Some(json), _) => {
            let got: Value =
                serde_json::from_slice(&answer.body).map_err(|error| format!("body: {error}: {}", shown()))?;
            let mut json = without_runtime_texts(expected.status, json);
            if !own_login {
                ignore_login_client(&mut json);
            }
            compare(&json, &got, unordered, now, vars)
                .map_err(|reason| format!("body {reason}; whole body {}", shown()))
        }
        (None, Some("@any")) => Ok(()),
        (None, Some(text)) => compare(&text.into(), &String::from_utf8_lossy(&answer.body).into(), &[], now, vars)
            .map_err(|reason| format!("body{reason}")),
        (None, None) if answer.body.is_empty() || expected.location.is_some() => Ok(()),
        // The page of a browser step is not in the captures.
        (None, None) if expected.content_type.as_deref().is_some_and(|media| media.starts_with("text/html")) => Ok(()),
        (None, None) => Err(format!("body: expected none, got {}", shown())),
    }
}

/// Error texts of a runtime, decoder or database are not compared: any text is accepted.
fn without_runtime_texts(status: u16, expected: &Value) -> Value {
    const DECODER: [&str; 3] = ["json: cannot unmarshal ", "invalid character ", "failed to decode: "];
    let mut expected = expected.clone();
    let internal = matches!(
        expected.get("error").and_then(Value::as_str),
        Some("internal_server_error" | "Internal Server Error")
    );
    if let Some(description) = expected.get_mut("error_description") {
        let quoted = description.as_str().is_some_and(|text| DECODER.iter().any(|start| text.starts_with(start)));
        if (status == 500 && internal) || (status == 400 && quoted) {
            *description = "@any".into();
        }
    }
    expected
}

/// Address and user agent of login events are not compared after `--first-token`: they belong to the command.
fn ignore_login_client(expected: &mut Value) {
    for event in expected.get_mut("events").and_then(Value::as_array_mut).into_iter().flatten() {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let of_login = text("event") == "transfer_code_used" || text("comment").contains("oidc_flow");
        for name in ["ip", "user_agent"] {
            if let (true, Some(value)) = (of_login, event.get_mut(name)) {
                *value = "@any".into();
            }
        }
    }
}

/// Compares header and claims of the JWT at a path of the body.
pub(super) fn check_jwt(place: &str, expected: &DecodedJwt, body: &Value, vars: &mut Vars) -> Result<(), String> {
    let token = body.pointer(&format!("/{}", place.replace('.', "/"))).and_then(Value::as_str).unwrap_or_default();
    let mut parts = token.split('.').map(|part| {
        let raw = URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("{place}: {error}"))?;
        serde_json::from_slice::<Value>(&raw).map_err(|error| format!("{place}: {error}"))
    });
    let mut next = || parts.next().unwrap_or_else(|| Err(format!("{place}: no JWT")));
    let (header, claims) = (next()?, next()?);
    let now = unix_now();
    compare(&expected.header, &header, &[], now, vars).map_err(|reason| format!("header of {place}: {reason}"))?;
    compare(&expected.claims, &claims, &[], now, vars).map_err(|reason| format!("claims of {place}: {reason}"))
}

/// Compares the query of the returned `authorization_uri`.
pub(super) fn check_authorization_query(expected: &Value, body: &Value, vars: &mut Vars) -> Result<(), String> {
    let uri = body.get("authorization_uri").and_then(Value::as_str).unwrap_or_default();
    let mut query: Map<String, Value> = Map::new();
    for (key, value) in pattern::query(uri) {
        if let Value::Array(list) = query.entry(key).or_insert_with(|| json!([])) {
            list.push(value.into());
        }
    }
    compare(expected, &query.into(), &[], unix_now(), vars).map_err(|reason| format!("authorization_uri: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_login_events_are_not_compared() {
        let mut expected = json!({"events": [
            {"event": "created", "comment": "Used grant_type oidc_flow x", "ip": "i", "user_agent": "u"},
            {"event": "created", "comment": "Used grant_type mytoken", "ip": "i", "user_agent": "u"},
        ]});
        ignore_login_client(&mut expected);
        assert_eq!(expected["events"][0]["ip"], "@any");
        assert_eq!(expected["events"][1]["ip"], "i");
    }

    #[test]
    fn only_runtime_error_texts_are_not_compared() {
        for (status, error, description, relaxed) in [
            (500, "internal_server_error", "Error 1205", true),
            (500, "Internal Server Error", "runtime error", true),
            (400, "invalid_request", "json: cannot unmarshal array", true),
            (400, "invalid_request", "token not valid", false),
            (401, "invalid_token", "token is not valid yet", false),
        ] {
            let expected = json!({"error": error, "error_description": description});
            let after = without_runtime_texts(status, &expected);
            assert_eq!(after.get("error_description") == Some(&"@any".into()), relaxed, "{description}");
            assert_eq!(after.get("error"), expected.get("error"));
        }
    }
}
