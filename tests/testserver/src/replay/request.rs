// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends the request of a step.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::capture::CapturedRequest;
use super::spacing::spaced;
use super::target::Target;
use super::vars::Vars;
use crate::client::Fetch;
use crate::http::Response;

/// Sends the request of a step.
pub(super) fn send(request: &CapturedRequest, target: &Target, vars: &Vars) -> Result<Response, String> {
    let base = match (&request.endpoint, &request.path, &request.url) {
        (Some(endpoint), _, _) => target
            .endpoints
            .get(endpoint)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("the server has no {endpoint}"))?,
        (_, Some(path), _) => format!("{}{}", target.issuer, vars.fill(path)?),
        (_, _, Some(url)) => vars.text(url)?,
        _ => return Err("the request has no endpoint, path or url".into()),
    };
    let url = format!("{base}{}", vars.fill(&request.suffix)?);
    let mut headers =
        vec![("User-Agent".to_owned(), "capture/1.0".to_owned()), ("Accept".to_owned(), "application/json".to_owned())];
    let mut body = Vec::new();
    if let Some(value) = &request.json {
        body = spaced(&vars.value(value)?)?;
        headers.push(("Content-Type".into(), "application/json".into()));
    } else if let Some(form) = &request.form {
        body = crate::form::encode(&pairs(form, vars)?).into_bytes();
        headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
    } else if let Some(raw) = &request.raw {
        body = vars.fill(raw)?.into_bytes();
    }
    if let Some(auth) = &request.auth {
        headers.push(("Authorization".into(), format!("Basic {}", STANDARD.encode(vars.fill(auth)?))));
    }
    for (name, value) in &request.headers {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.push((name.clone(), vars.fill(value)?));
    }
    headers.retain(|(_, value)| !value.is_empty());
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    target.network.fetch(&request.method, &url, &headers, &body)
}

/// The pairs of a form, which is an object, or a list of pairs if a key occurs more than once.
fn pairs(form: &Value, vars: &Vars) -> Result<Vec<(String, String)>, String> {
    let filled = vars.value(form)?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match &filled {
        Value::Object(members) => Ok(members.iter().map(|(key, value)| (key.clone(), text(value))).collect()),
        Value::Array(list) => list
            .iter()
            .map(|pair| match (pair.get(0), pair.get(1)) {
                (Some(key), Some(value)) => Ok((text(key), text(value))),
                _ => Err("an entry of the form is not a pair".to_owned()),
            })
            .collect(),
        _ => Err("the form is neither an object nor a list".into()),
    }
}
