// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PAM module in real sshd: sessions, outages, and faults of the module.

#[allow(dead_code, reason = "shared with the story of the bad tokens")]
#[path = "../bad_tokens/attempt.rs"]
mod attempt;
mod broken_configuration;
mod harm;
#[allow(dead_code, reason = "shared with the story of the bad tokens")]
#[path = "../bad_tokens/inputs.rs"]
mod inputs;
mod phases;
mod provider;
mod session;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use testbed::site::command::CommandOutcome;
use testbed::site::servers::AUDIENCE;
use testbed::{Options, Result, Site};

/// A site with one node and sshd at DEBUG3.
fn small() -> Result<Options> {
    Ok(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? })
}

/// An ssh of `user` with a key, without a token.
fn with_key(site: &Site, user: &str, command: &str) -> Result<CommandOutcome> {
    site.sh(user, &format!("ssh -i .ssh/site_key testbed '{command}'"))
}

/// An ssh of alice with these answers at the prompts. Each login comes from its own address: sshd blocks an
/// address with several refusals, and then the module is not asked.
fn with_answers(site: &Site, answers: &[String], command: &str) -> Result<CommandOutcome> {
    let destination = site.new_client()?.destination();
    let arguments = format!("-o PreferredAuthentications=keyboard-interactive {destination} '{command}'");
    attempt::ssh_with(site, "alice", answers, &arguments)
}

/// A mytoken of alice with these capabilities. It has a clause: without one, each access token has all scopes
/// (MT-09), and a login refuses more scopes than it requested.
fn mytoken(site: &Site, capabilities: &[&str]) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // The provider grants only the audience that was asked for at login.
    let clause = json!({"exp": now + 600, "audience": [AUDIENCE]});
    inputs::first_token(site, &json!({"capabilities": capabilities, "restrictions": [clause]}))
}
