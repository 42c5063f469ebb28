// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gets the tokens that a scenario starts with.

use serde_json::{Map, Value, json};

use super::command;
use super::outcome::Stop;
use super::target::Target;
use super::vars::Vars;
use crate::client::Fetch;
use crate::mytoken::{mom_id, unverified_claims};

/// Gets a token and saves it and its `mom_id`.
pub(super) fn obtain(first: &Map<String, Value>, target: &Target, vars: &mut Vars) -> Result<(), Stop> {
    let text = |name: &str| first.get(name).and_then(Value::as_str);
    let save = text("save").ok_or("the member save is missing")?;
    let user = user_name(text("user").ok_or("the member user is missing")?, vars);
    let mut first = vars.members(first)?;
    first.insert("user".into(), json!(user));
    let token = match &target.first_token_command {
        Some(command) => command::run(command, &[], Value::Object(first).to_string().as_bytes())?,
        None => log_in_and_poll(&first, target)?,
    };
    let jti = unverified_claims(&token).and_then(|claims| Some(claims.get("jti")?.as_str()?.to_owned()));
    vars.set(&format!("{save}_momid"), mom_id(&jti.ok_or("the token is not a JWT with a jti")?));
    vars.set(save, token);
    Ok(())
}

/// `@fresh:n` is a new user name. A second `@fresh:n` in the same scenario is the same user.
fn user_name(user: &str, vars: &mut Vars) -> String {
    let Some(name) = user.strip_prefix("@fresh:") else { return user.to_owned() };
    if let Ok(known) = vars.get(name) {
        return known.to_owned();
    }
    let fresh = format!("fresh-{:016x}", rand::random::<u64>());
    vars.set(name, fresh.clone());
    fresh
}

fn log_in_and_poll(first: &Map<String, Value>, target: &Target) -> Result<String, Stop> {
    let member = |name: &str| first.get(name).cloned();
    let issuer = member("issuer").unwrap_or_else(|| json!(target.op));
    let mut asked = Map::new();
    asked.insert("name".into(), member("name").unwrap_or_else(|| json!("t")));
    asked.insert("oidc_issuer".into(), issuer);
    for name in ["capabilities", "restrictions", "rotation"] {
        if let Some(value) = member(name) {
            asked.insert(name.into(), value);
        }
    }
    let mut start = asked.clone();
    start.insert("grant_type".into(), json!("oidc_flow"));
    start.insert("oidc_flow".into(), json!("authorization_code"));
    start.insert("client_type".into(), json!("native"));
    let endpoint = target.endpoints.get("mytoken_endpoint").and_then(Value::as_str).unwrap_or_default();
    let started = post(target, endpoint, &start.into(), 200)?;
    let consented = post(target, &string(&started, "consent_uri")?, &asked.into(), 278)?;
    let user = first.get("user").and_then(Value::as_str).unwrap_or_default();
    let redirect = target.log_in(&string(&consented, "authorization_uri")?, user)?;
    let answer = target.browse(&redirect)?;
    if answer.status != 303 {
        return Err(format!("the login ended with status {}", answer.status).into());
    }
    let poll = json!({"grant_type": "polling_code", "polling_code": string(&started, "polling_code")?});
    Ok(string(&post(target, endpoint, &poll, 200)?, "mytoken")?)
}

fn string(answer: &Value, name: &str) -> Result<String, String> {
    answer.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no {name} in the answer"))
}

fn post(target: &Target, url: &str, body: &Value, status: u16) -> Result<Value, String> {
    let headers = [("User-Agent", "capture/1.0"), ("Accept", "application/json"), ("Content-Type", "application/json")];
    let answer = target.network.fetch("POST", url, &headers, body.to_string().as_bytes())?;
    if answer.status != status {
        return Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_login_of_a_fresh_user_is_the_same_user() {
        let mut vars = Vars::new(1000, 0);
        let first = user_name("@fresh:one", &mut vars);
        assert_eq!(user_name("@fresh:one", &mut vars), first);
        assert_eq!(vars.get("one").unwrap(), first);
        assert_ne!(user_name("@fresh:two", &mut vars), first);
        assert_ne!(user_name("@fresh:one", &mut Vars::new(1000, 0)), first, "another scenario has other users");
        assert_eq!(user_name("alice", &mut vars), "alice");
    }
}
