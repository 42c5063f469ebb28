// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of stories: made by the site's servers, or read from the helper's store.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::drive::people::control;
use crate::site::plan::TESTBED_INSIDE;
use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER, PROVIDER};
use crate::{Error, Result, Site};

/// Capabilities of a first mytoken.
pub const CAPABILITIES: [&str; 3] = ["AT", "create_mytoken", "tokeninfo"];

/// An access token (JWT) of the site's provider for `user`.
///
/// # Errors
/// When the control API refuses.
pub fn access_token(site: &Site, user: &str) -> Result<String> {
    let order = json!({"user": user, "scope": "openid profile storage.read", "claims": {"aud": AUDIENCE}});
    text(&parsed(&control(site, "/provider/mint", Some(&order.to_string()))?)?, "token")
}

/// A first mytoken of `user` with the restrictions that the helper sets: access tokens of an unrestricted one have
/// more scopes than requested (MT-09). `more` adds or replaces members: `rotation`, `restrictions`, `response_type`.
///
/// # Errors
/// When the server refuses.
pub fn mytoken(site: &Site, user: &str, more: &Value) -> Result<String> {
    let clause = json!({"exp": in_an_hour(), "scope": "openid profile storage.read", "audience": [AUDIENCE]});
    let mut order = json!({"user": user, "capabilities": CAPABILITIES, "restrictions": [clause]});
    if let (Some(members), Some(more)) = (order.as_object_mut(), more.as_object()) {
        members.extend(more.clone());
    }
    text(&parsed(&control(site, "/mytoken/first-token", Some(&order.to_string()))?)?, "mytoken")
}

/// A mytoken made from another, with these capabilities and the other's clauses.
///
/// # Errors
/// When the server refuses.
pub fn child(site: &Site, parent: &str, capabilities: &[&str]) -> Result<String> {
    let request = json!({"grant_type": "mytoken", "mytoken": parent, "capabilities": capabilities});
    text(&ask(site, "/api/v0/token/my", &request)?, "mytoken")
}

/// Stores a mytoken as `mytoken-ssh login` does.
///
/// # Errors
/// When it cannot be stored.
pub fn store(site: &Site, user: &str, mytoken: &str) -> Result<()> {
    let argv = [TESTBED_INSIDE, "keep-mytoken", "--server", MYTOKEN_SERVER, "--issuer", PROVIDER, "--ca", CA];
    site.command(user, argv).stdin(mytoken).run()?.ok().map(drop)
}

/// The mytoken that the helper keeps for `user`.
///
/// # Errors
/// When there is no mytoken.
pub fn stored(site: &Site, user: &str) -> Result<String> {
    let shown = site.sh(user, "jq -er .mytoken .config/mytoken/tokens/*.json")?.ok()?.stdout;
    Ok(shown.trim().to_owned())
}

/// A transfer code for this mytoken.
///
/// # Errors
/// When the server refuses.
pub fn transfer_code(site: &Site, mytoken: &str) -> Result<String> {
    text(&ask(site, "/api/v0/token/transfer", &json!({"mytoken": mytoken}))?, "transfer_code")
}

/// Introspects a mytoken: `{"valid", "token": {..claims..}, ..}`.
///
/// # Errors
/// When the server refuses.
pub fn introspect(site: &Site, mytoken: &str) -> Result<Value> {
    ask(site, "/api/v0/tokeninfo", &json!({"action": "introspect", "mytoken": mytoken}))
}

/// The server's history of a mytoken (`this`), of those made from it (`children`), or both: `{"events": [{"event",
/// "time", "mom_id", ..}]}`, newest first, null if there are none. The request counts as a use of the mytoken.
///
/// # Errors
/// When the server refuses.
pub fn history(site: &Site, mytoken: &str, whose: &[&str]) -> Result<Value> {
    ask(site, "/api/v0/tokeninfo", &json!({"action": "event_history", "mytoken": mytoken, "mom_ids": whose}))
}

/// Whether the server accepts a mytoken. The mytoken needs the capability `tokeninfo`; without it, it could not be told
/// from a revoked one. The request counts as a use of the mytoken.
///
/// # Errors
/// When the server does not answer or refuses the request.
pub fn is_valid(site: &Site, mytoken: &str) -> Result<bool> {
    let answer = post(site, "/api/v0/tokeninfo", &json!({"action": "introspect", "mytoken": mytoken}))?;
    match answer.lines().last() {
        Some("200") => Ok(true),
        Some("401") => Ok(false),
        _ => Err(Error::Refused(format!("whether a mytoken is valid is answered with {answer}"))),
    }
}

fn ask(site: &Site, path: &str, body: &Value) -> Result<Value> {
    let answer = post(site, path, body)?;
    match answer.trim_end().rsplit_once('\n') {
        Some((body, status)) if status.starts_with('2') => parsed(body),
        _ => Err(Error::Refused(format!("{path} is answered with {answer}"))),
    }
}

/// Gives the body of the answer, and its status on the last line.
fn post(site: &Site, path: &str, body: &Value) -> Result<String> {
    let foreign = site.options().foreign.as_ref();
    let server = foreign.map_or(MYTOKEN_SERVER, |foreign| foreign.server.as_str());
    let url = format!("{}{path}", server.trim_end_matches('/'));
    let mut argv = vec!["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}\n"];
    if foreign.is_none_or(|foreign| foreign.ca.is_some()) {
        argv.extend(["--cacert", CA]);
    }
    argv.extend(["-H", "Content-Type: application/json", "-d", "@-", &url]);
    Ok(site.command("root", argv).stdin(body.to_string()).run()?.ok()?.stdout)
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) + 3600
}

fn parsed(answer: &str) -> Result<Value> {
    serde_json::from_str(answer).map_err(|error| Error::Refused(format!("{error}: {answer}")))
}

fn text(answer: &Value, member: &str) -> Result<String> {
    let found = answer.get(member).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Error::Refused(format!("no {member} in {answer}")))
}
