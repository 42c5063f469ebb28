// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PAM module in real sshd: what it leaves for a session, what it does when others fail, and that it harms nobody.

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

/// A site with one node, where sshd says everything it can.
fn small() -> Result<Options> {
    Ok(Options { nodes: 1, sshd_log_level: "DEBUG3", ..Options::new()? })
}

/// ssh of `user` with a key, which asks no token.
fn with_key(site: &Site, user: &str, command: &str) -> Result<CommandOutcome> {
    site.sh(user, &format!("ssh -i .ssh/site_key testbed '{command}'"))
}

/// ssh of alice with these answers at the prompts. Each login comes from an address of its own: sshd shuts out an
/// address that is refused often, and then nothing is learned about the module.
fn with_answers(site: &Site, answers: &[String], command: &str) -> Result<CommandOutcome> {
    let destination = site.new_client()?.destination();
    let arguments = format!("-o PreferredAuthentications=keyboard-interactive {destination} '{command}'");
    attempt::ssh_with(site, "alice", answers, &arguments)
}

/// A mytoken of alice with these capabilities. It has a clause: from one without, every access token has every scope, and a
/// login takes no more than it asked for.
fn mytoken(site: &Site, capabilities: &[&str]) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // The provider grants only the audience that was asked for at login.
    let clause = json!({"exp": now + 600, "audience": [AUDIENCE]});
    inputs::first_token(site, &json!({"capabilities": capabilities, "restrictions": [clause]}))
}
