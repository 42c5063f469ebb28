// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokens a scenario begins with.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::vars::Vars;
use super::world::World;
use crate::client::Fetch;
use crate::http::Response;
use crate::mytoken::{claims_of, mom_id};

/// Where first tokens come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A login at the own provider.
    Login,
    /// A program.
    Program(String),
    /// There are none.
    Nobody,
}

/// Gets a token and saves it with its handle.
pub(super) fn obtain(wish: &Map<String, Value>, world: &World, source: &Source, vars: &mut Vars) -> Result<(), String> {
    let text = |name: &str| wish.get(name).and_then(Value::as_str);
    let save = text("save").ok_or("the capture does not say how to save it")?;
    let mut user = text("user").ok_or("the capture does not say whose it is")?.to_owned();
    if let Some(name) = user.clone().strip_prefix("@fresh:") {
        user = format!("fresh-{:016x}", rand::random::<u64>());
        vars.set(name, user.clone());
    }
    let mut wish = vars.members(wish)?;
    wish.insert("user".into(), json!(user));
    let token = match source {
        Source::Login => log_in_and_poll(&wish, world)?,
        Source::Program(command) => ask_program(command, &wish)?,
        Source::Nobody => return Err("there is no source of tokens".into()),
    };
    let jti = claims_of(&token).and_then(|claims| Some(claims.get("jti")?.as_str()?.to_owned()));
    vars.set(&format!("{save}_momid"), mom_id(&jti.ok_or("the token is no JWT with a jti")?));
    vars.set(save, token);
    Ok(())
}

fn log_in_and_poll(wish: &Map<String, Value>, world: &World) -> Result<String, String> {
    let member = |name: &str| wish.get(name).cloned();
    let issuer = member("issuer").unwrap_or_else(|| json!(world.op));
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
    let endpoint = world.endpoints.get("mytoken_endpoint").and_then(Value::as_str).unwrap_or_default();
    let started = post(world, endpoint, &start.into(), 200)?;
    let consented = post(world, &string(&started, "consent_uri")?, &asked.into(), 278)?;
    let user = wish.get("user").and_then(Value::as_str).unwrap_or_default();
    let back = log_in(&string(&consented, "authorization_uri")?, user, world)?;
    let answer = browse(&back, world)?;
    if answer.status != 303 {
        return Err(format!("the login ended with status {}", answer.status));
    }
    let poll = json!({"grant_type": "polling_code", "polling_code": string(&started, "polling_code")?});
    string(&post(world, endpoint, &poll, 200)?, "mytoken")
}

fn string(answer: &Value, name: &str) -> Result<String, String> {
    answer.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no {name} in the answer"))
}

fn post(world: &World, url: &str, body: &Value, status: u16) -> Result<Value, String> {
    let headers = [("User-Agent", "capture/1.0"), ("Accept", "application/json"), ("Content-Type", "application/json")];
    let answer = world.network.fetch("POST", url, &headers, body.to_string().as_bytes())?;
    if answer.status != status {
        return Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
}

/// Logs in at the provider an authorization request belongs to; gives the URL it sends the browser to.
pub(super) fn log_in(authorization_uri: &str, user: &str, world: &World) -> Result<String, String> {
    if authorization_uri.starts_with(&format!("{}/", world.issuer)) {
        // The provider for guests asks nothing.
        let answer = browse(authorization_uri, world)?;
        return answer.header("Location").map(str::to_owned).ok_or_else(|| "guests are not let in".into());
    }
    world.control.as_ref().ok_or("there is no browser")?.login(authorization_uri, user)
}

/// A browser's request.
pub(super) fn browse(url: &str, world: &World) -> Result<Response, String> {
    world.network.fetch("GET", url, &[("User-Agent", "browser/1.0"), ("Accept", "text/html")], &[])
}

/// Asks a program that reads the wish as JSON and prints the token.
fn ask_program(command: &str, wish: &Map<String, Value>) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("{command}: {error}");
    let mut child =
        Command::new("sh").args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(fail)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(Value::Object(wish.clone()).to_string().as_bytes()).map_err(fail)?;
    }
    let output = child.wait_with_output().map_err(fail)?;
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !token.is_empty() {
        return Ok(token);
    }
    Err(format!("{command}: {}, no token", output.status))
}
