// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays one scenario.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::capture::{Ask, Browser, Decoded, Expected, Scenario, Step};
use super::first::{self, Source};
use super::pattern::{self, brief, compare};
use super::vars::Vars;
use super::world::World;
use crate::client::Fetch;
use crate::http::Response;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Why a scenario cannot be played against a server whose provider is not ours, if it cannot.
pub(super) fn obstacle(scenario: &Scenario, source: &Source) -> Option<&'static str> {
    if matches!(source, Source::Login) {
        return None;
    }
    let any = |needs: fn(&Step) -> bool| scenario.steps.iter().any(needs);
    if any(|step| step.provider_fault.is_some()) {
        return Some("the provider would have to misbehave");
    }
    if any(|step| step.browser.is_some()) {
        return Some("a browser would have to log in");
    }
    if any(|step| step.provider_requests.is_some()) {
        return Some("the requests to the provider cannot be seen");
    }
    let tokens = scenario.first_token.is_some() || !scenario.more_tokens.is_empty();
    (tokens && matches!(source, Source::Nobody)).then_some("a first token is needed (--first-token)")
}

/// Plays a scenario to its end or its first difference.
pub(super) fn play(scenario: &Scenario, world: &World, source: &Source) -> Outcome {
    let now = crate::mytoken::unix_now();
    let mut vars = Vars::new(now, scenario.slow);
    vars.set("issuer", world.issuer.clone());
    vars.set("op", world.op.clone());
    for token in scenario.first_token.iter().chain(&scenario.more_tokens) {
        if let Err(reason) = first::obtain(token, world, source, &mut vars) {
            return Outcome::Failed(format!("first token: {reason}"));
        }
    }
    for step in &scenario.steps {
        if let Err(reason) = take(step, world, source, &mut vars) {
            return Outcome::Failed(format!("step '{}': {reason}", step.name));
        }
    }
    Outcome::Passed
}

fn take(step: &Step, world: &World, source: &Source, vars: &mut Vars) -> Result<(), String> {
    if let Some(seconds) = step.sleep {
        std::thread::sleep(std::time::Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?);
        return Ok(());
    }
    let control = world.control.as_deref();
    if let Some(control) = control {
        control.take_requests();
    }
    let expected = step.response.as_ref().ok_or("the capture has no response here")?;
    let answer = match (&step.request, &step.browser) {
        (Some(ask), _) => {
            fault(world, step.provider_fault.as_deref())?;
            let answer = send(ask, world, vars);
            fault(world, None)?;
            answer?
        }
        (None, Some(browser)) => visit(browser, step.provider_fault.as_deref(), world, vars)?,
        (None, None) => return Err("the capture has no request here".into()),
    };
    let own_login = matches!(source, Source::Login);
    check(expected, &answer, &step.unordered, own_login, vars)?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    for (place, decoded) in &step.jwt {
        check_jwt(place, decoded, &body, vars)?;
    }
    let now = crate::mytoken::unix_now();
    if let Some(expected) = &step.authorization_query {
        let uri = body.get("authorization_uri").and_then(Value::as_str).unwrap_or_default();
        let mut query: Map<String, Value> = Map::new();
        for (key, value) in pattern::query(uri) {
            if let Value::Array(list) = query.entry(key).or_insert_with(|| json!([])) {
                list.push(value.into());
            }
        }
        compare(expected, &query.into(), &[], now, vars).map_err(|reason| format!("authorization_uri: {reason}"))?;
    }
    if let (Some(expected), Some(control)) = (&step.provider_requests, control) {
        let requests = control.take_requests().into();
        compare(expected, &requests, &[], now, vars).map_err(|reason| format!("requests to the provider: {reason}"))?;
    }
    Ok(())
}

fn fault(world: &World, name: Option<&str>) -> Result<(), String> {
    match &world.control {
        Some(control) => control.set_token_fault(name),
        None => Ok(()),
    }
}

/// Sends the request of a step.
fn send(ask: &Ask, world: &World, vars: &Vars) -> Result<Response, String> {
    let base = match (&ask.endpoint, &ask.path, &ask.url) {
        (Some(endpoint), _, _) => world
            .endpoints
            .get(endpoint)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("the server has no {endpoint}"))?,
        (_, Some(path), _) => format!("{}{}", world.issuer, vars.fill(path)?),
        (_, _, Some(url)) => vars.text(url)?,
        _ => return Err("the capture has no address here".into()),
    };
    let url = format!("{base}{}", vars.fill(&ask.suffix)?);
    let mut headers =
        vec![("User-Agent".to_owned(), "capture/1.0".to_owned()), ("Accept".to_owned(), "application/json".to_owned())];
    let mut body = Vec::new();
    if let Some(value) = &ask.json {
        body = vars.value(value)?.to_string().into_bytes();
        headers.push(("Content-Type".into(), "application/json".into()));
    } else if let Some(form) = &ask.form {
        body = crate::form::encode(&pairs(form, vars)?).into_bytes();
        headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
    } else if let Some(raw) = &ask.raw {
        body = vars.fill(raw)?.into_bytes();
    }
    if let Some(auth) = &ask.auth {
        headers.push(("Authorization".into(), format!("Basic {}", STANDARD.encode(vars.fill(auth)?))));
    }
    for (name, value) in &ask.headers {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.push((name.clone(), vars.fill(value)?));
    }
    headers.retain(|(_, value)| !value.is_empty());
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.network.fetch(&ask.method, &url, &headers, &body)
}

/// A form is an object, or a list of pairs where a key repeats.
fn pairs(form: &Value, vars: &Vars) -> Result<Vec<(String, String)>, String> {
    let filled = vars.value(form)?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match &filled {
        Value::Object(members) => Ok(members.iter().map(|(key, value)| (key.clone(), text(value))).collect()),
        Value::Array(list) => list
            .iter()
            .map(|pair| match (pair.get(0), pair.get(1)) {
                (Some(key), Some(value)) => Ok((text(key), text(value))),
                _ => Err("a pair of the form is none".to_owned()),
            })
            .collect(),
        _ => Err("the form is none".into()),
    }
}

/// A browser's way to the server's `/redirect`. A fault begins after the provider has given its code.
fn visit(browser: &Browser, fault_name: Option<&str>, world: &World, vars: &Vars) -> Result<Response, String> {
    let back = first::log_in(&vars.text(&browser.open)?, &vars.text(&browser.user)?, world)?;
    fault(world, fault_name)?;
    let answer = first::browse(&back, world);
    fault(world, None)?;
    answer
}

/// Compares an answer with what the capture has.
fn check(
    expected: &Expected,
    answer: &Response,
    unordered: &[String],
    own_login: bool,
    vars: &mut Vars,
) -> Result<(), String> {
    let shown = || brief(&String::from_utf8_lossy(&answer.body).into());
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
    let now = crate::mytoken::unix_now();
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
            let mut json = without_prose(expected.status, json);
            if !own_login {
                forgive_login(&mut json);
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

/// Texts of a language's runtime, decoder or database are no contract: there must be one, no more.
fn without_prose(status: u16, expected: &Value) -> Value {
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

/// A program that gets first tokens does so from where, and as what, it likes; the history tells.
fn forgive_login(expected: &mut Value) {
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

fn check_jwt(place: &str, expected: &Decoded, body: &Value, vars: &mut Vars) -> Result<(), String> {
    let token = body.pointer(&format!("/{}", place.replace('.', "/"))).and_then(Value::as_str).unwrap_or_default();
    let mut parts = token.split('.').map(|part| {
        let raw = URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("{place}: {error}"))?;
        serde_json::from_slice::<Value>(&raw).map_err(|error| format!("{place}: {error}"))
    });
    let mut next = || parts.next().unwrap_or_else(|| Err(format!("{place}: no JWT")));
    let (header, claims) = (next()?, next()?);
    let now = crate::mytoken::unix_now();
    compare(&expected.header, &header, &[], now, vars).map_err(|reason| format!("header of {place}: {reason}"))?;
    compare(&expected.claims, &claims, &[], now, vars).map_err(|reason| format!("claims of {place}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_login_of_a_history_is_forgiven() {
        let mut expected = json!({"events": [
            {"event": "created", "comment": "Used grant_type oidc_flow x", "ip": "i", "user_agent": "u"},
            {"event": "created", "comment": "Used grant_type mytoken", "ip": "i", "user_agent": "u"},
        ]});
        forgive_login(&mut expected);
        assert_eq!(expected["events"][0]["ip"], "@any");
        assert_eq!(expected["events"][1]["ip"], "i");
    }

    #[test]
    fn only_prose_is_not_compared() {
        for (status, error, description, relaxed) in [
            (500, "internal_server_error", "Error 1205", true),
            (500, "Internal Server Error", "runtime error", true),
            (400, "invalid_request", "json: cannot unmarshal array", true),
            (400, "invalid_request", "token not valid", false),
            (401, "invalid_token", "token is not valid yet", false),
        ] {
            let expected = json!({"error": error, "error_description": description});
            let after = without_prose(status, &expected);
            assert_eq!(after.get("error_description") == Some(&"@any".into()), relaxed, "{description}");
            assert_eq!(after.get("error"), expected.get("error"));
        }
    }
}
