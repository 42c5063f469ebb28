// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PAM module in real sshd: sessions, outages, panics and broken configurations.

mod broken_configuration;
mod crowd;
mod dead_issuer;
mod exchanges;
mod forms;
mod harm;
mod hooks;
mod hostile_environment;
mod linger;
mod memory;
mod phases;
mod provider;
mod recent_login;
mod revocation;
mod session;
mod set_uid;
mod validation;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use testbed::site::command::CommandOutcome;
use testbed::site::servers::AUDIENCE;
use testbed::{Options, Result, Site};

use crate::bad_tokens::{attempt, inputs};

/// A site with one node and sshd at DEBUG3.
fn one_node() -> Result<Options> {
    Ok(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? })
}

/// Runs ssh as `user` with a key and without a token.
fn login_with_key(site: &Site, user: &str, command: &str) -> Result<CommandOutcome> {
    site.sh(user, &format!("ssh -i .ssh/site_key testbed '{command}'"))
}

/// Runs ssh as alice with these answers at the prompts. Each login has its own client address, because sshd blocks an
/// address after several refusals and then does not call the module.
fn login_with_answers(site: &Site, answers: &[String], command: &str) -> Result<CommandOutcome> {
    let destination = site.new_client()?.destination();
    let arguments = format!("-o PreferredAuthentications=keyboard-interactive {destination} '{command}'");
    attempt::ssh_with(site, "alice", answers, &arguments)
}

/// A mytoken of alice with these capabilities and one clause. Without a clause each access token has all scopes
/// (MT-09), and a login refuses more scopes than it requested.
fn mytoken(site: &Site, capabilities: &[&str]) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // The provider grants only the audience that was requested at login.
    let clause = json!({"exp": now + 600, "audience": [AUDIENCE]});
    inputs::first_token(site, &json!({"capabilities": capabilities, "restrictions": [clause]}))
}
