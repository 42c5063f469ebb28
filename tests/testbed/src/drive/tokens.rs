// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of stories. The site's servers make them, or they are read from the helper's store.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::drive::people::control;
use crate::site::foreign;
use crate::site::plan::TESTBED_INSIDE;
use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER, PROVIDER};
use crate::{Error, Need, Result, Site};

/// Capabilities of a first mytoken.
pub const CAPABILITIES: [&str; 3] = ["AT", "create_mytoken", "tokeninfo"];

/// An access token (JWT) of the site's provider for `user`. A foreign server gives it for a mytoken.
///
/// # Errors
/// When the control API or the server refuses.
pub fn access_token(site: &Site, user: &str) -> Result<String> {
    if site.options().foreign.is_some() {
        let request = json!({
            "grant_type": "mytoken", "mytoken": mytoken(site, user, &json!({}))?,
            "scope": "openid profile storage.read", "audience": AUDIENCE,
        });
        return text(&call(site, "/api/v0/token/access", &request)?, "access_token");
    }
    let request = json!({"user": user, "scope": "openid profile storage.read", "claims": {"aud": AUDIENCE}});
    text(&parse(&control(site, "/provider/mint", Some(&request.to_string()))?)?, "token")
}

/// A first mytoken of `user` with the restrictions that the helper sets. (Access tokens of an unrestricted mytoken have
/// more scopes than requested, MT-09.) `more` adds or replaces members: `rotation`, `restrictions`, `response_type`.
///
/// # Errors
/// When the server refuses.
pub fn mytoken(site: &Site, user: &str, more: &Value) -> Result<String> {
    let clause = json!({"exp": in_an_hour(), "scope": "openid profile storage.read", "audience": [AUDIENCE]});
    let mut request = json!({"user": user, "capabilities": CAPABILITIES, "restrictions": [clause]});
    if let (Some(members), Some(more)) = (request.as_object_mut(), more.as_object()) {
        members.extend(more.clone());
    }
    if let Some(foreign) = &site.options().foreign {
        let form = request.as_object_mut().and_then(|members| {
            members.extend([("issuer".to_owned(), json!(foreign.issuer)), ("save".to_owned(), json!("mt"))]);
            members.remove("response_type")
        });
        let mytoken = foreign.controls.run(Need::FirstToken, &[], &request.to_string())?;
        let Some(form) = form else { return Ok(mytoken) };
        // The command prints whole mytokens only.
        let request = json!({
            "grant_type": "mytoken", "mytoken": mytoken, "capabilities": request.get("capabilities"), "response_type": form,
        });
        return text(&call(site, "/api/v0/token/my", &request)?, "mytoken");
    }
    text(&parse(&control(site, "/mytoken/first-token", Some(&request.to_string()))?)?, "mytoken")
}

/// A sub-token of `parent` with these capabilities and the parent's clauses.
///
/// # Errors
/// When the server refuses.
pub fn child(site: &Site, parent: &str, capabilities: &[&str]) -> Result<String> {
    let request = json!({"grant_type": "mytoken", "mytoken": parent, "capabilities": capabilities});
    text(&call(site, "/api/v0/token/my", &request)?, "mytoken")
}

/// Stores a mytoken as `mytoken-ssh login` does.
///
/// # Errors
/// When it cannot be stored.
pub fn store(site: &Site, user: &str, mytoken: &str) -> Result<()> {
    if let Some(foreign) = &site.options().foreign {
        return foreign::store(site, user, foreign, mytoken).map(drop);
    }
    let argv = [TESTBED_INSIDE, "keep-mytoken", "--server", MYTOKEN_SERVER, "--issuer", PROVIDER, "--ca", CA];
    site.command(user, argv).stdin(mytoken).run()?.ok().map(drop)
}

/// The mytoken of `user` in the helper's store.
///
/// # Errors
/// When there is no mytoken.
pub fn stored(site: &Site, user: &str) -> Result<String> {
    let mytoken = site.sh(user, "jq -er .mytoken .config/mytoken/tokens/*.json")?.ok()?.stdout;
    Ok(mytoken.trim().to_owned())
}

/// A transfer code for this mytoken.
///
/// # Errors
/// When the server refuses.
pub fn transfer_code(site: &Site, mytoken: &str) -> Result<String> {
    text(&call(site, "/api/v0/token/transfer", &json!({"mytoken": mytoken}))?, "transfer_code")
}

/// A transfer code for a new sub-token of `parent` with this name and the parent's clauses. It can make sub-tokens itself.
///
/// # Errors
/// When the server refuses.
pub fn code_of_child(site: &Site, parent: &str, name: &str) -> Result<String> {
    let request = json!({
        "grant_type": "mytoken", "mytoken": parent, "name": name, "response_type": "transfer_code",
        "capabilities": ["AT", "create_mytoken", "tokeninfo:introspect"],
    });
    text(&call(site, "/api/v0/token/my", &request)?, "transfer_code")
}

/// URL of the mytoken server, without a slash at its end.
#[must_use]
pub fn server(site: &Site) -> &str {
    let foreign = site.options().foreign.as_ref();
    foreign.map_or(MYTOKEN_SERVER, |foreign| foreign.server.as_str()).trim_end_matches('/')
}

/// The file with the root certificate of the mytoken server. `None`: the distribution's are enough.
#[must_use]
pub fn ca_of_server(site: &Site) -> Option<&'static str> {
    site.options().foreign.as_ref().is_none_or(|foreign| foreign.ca.is_some()).then_some(CA)
}

/// Introspects a mytoken: `{"valid", "token": {..claims..}, ..}`.
///
/// # Errors
/// When the server refuses.
pub fn introspect(site: &Site, mytoken: &str) -> Result<Value> {
    call(site, "/api/v0/tokeninfo", &json!({"action": "introspect", "mytoken": mytoken}))
}

/// The server's history of a mytoken (`this`), of its sub-tokens (`children`), or of both: `{"events": [{"event",
/// "time", "mom_id", ..}]}`, newest first; null if there are no events. The request counts as a use of the mytoken.
///
/// # Errors
/// When the server refuses.
pub fn history(site: &Site, mytoken: &str, whose: &[&str]) -> Result<Value> {
    call(site, "/api/v0/tokeninfo", &json!({"action": "event_history", "mytoken": mytoken, "mom_ids": whose}))
}

/// The `mom_id` of each sub-token of a mytoken, and of their sub-tokens, that the server lists and that has not expired. The
/// mytoken needs the capability `tokeninfo`.
///
/// # Errors
/// When the server refuses.
pub fn living_sub_tokens(site: &Site, mytoken: &str) -> Result<Vec<String>> {
    let tree = call(site, "/api/v0/tokeninfo", &json!({"action": "subtokens", "mytoken": mytoken}))?;
    let mut found = Vec::new();
    let mut trees: Vec<&Value> =
        tree.pointer("/mytokens/children").and_then(Value::as_array).into_iter().flatten().collect();
    while let Some(tree) = trees.pop() {
        let token = tree.get("token").unwrap_or(tree);
        let has_expired = token.get("expires_at").and_then(Value::as_u64).is_some_and(|exp| exp <= now());
        let mom_id = token.get("mom_id").and_then(Value::as_str).unwrap_or_default();
        found.extend((!has_expired).then(|| mom_id.to_owned()));
        trees.extend(tree.get("children").and_then(Value::as_array).into_iter().flatten());
    }
    Ok(found)
}

/// Whether the server accepts a mytoken. The mytoken needs the capability `tokeninfo`: without it, a valid mytoken gets
/// the same answer as a revoked one. The request counts as a use of the mytoken.
///
/// # Errors
/// When the server does not answer or refuses the request.
pub fn is_valid(site: &Site, mytoken: &str) -> Result<bool> {
    let answer = post(site, "/api/v0/tokeninfo", &json!({"action": "introspect", "mytoken": mytoken}))?;
    match answer.lines().last() {
        Some("200") => Ok(true),
        Some("401") => Ok(false),
        _ => Err(Error::Refused(format!("the introspection of a mytoken was answered with {answer}"))),
    }
}

fn call(site: &Site, path: &str, body: &Value) -> Result<Value> {
    let answer = post(site, path, body)?;
    match answer.trim_end().rsplit_once('\n') {
        Some((body, status)) if status.starts_with('2') => parse(body),
        _ => Err(Error::Refused(format!("{path} was answered with {answer}"))),
    }
}

/// Returns the body of the answer, and its status on the last line.
fn post(site: &Site, path: &str, body: &Value) -> Result<String> {
    let url = format!("{}{path}", server(site));
    let mut argv = vec!["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}\n"];
    argv.extend(ca_of_server(site).into_iter().flat_map(|ca| ["--cacert", ca]));
    argv.extend(["-H", "Content-Type: application/json", "-d", "@-", &url]);
    Ok(site.command("root", argv).stdin(body.to_string()).run()?.ok()?.stdout)
}

fn in_an_hour() -> u64 {
    now() + 3600
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn parse(answer: &str) -> Result<Value> {
    serde_json::from_str(answer).map_err(|error| Error::Refused(format!("{error}: {answer}")))
}

fn text(answer: &Value, member: &str) -> Result<String> {
    let found = answer.get(member).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Error::Refused(format!("the answer has no {member}: {answer}")))
}
