// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh status`: what is stored. Nothing is asked over the network.

use std::io::Write;
use std::process::ExitCode;

use mytoken::store::Entry;
use mytoken::{Clock, SystemClock};

use crate::error::Error;
use crate::login::holder;
use crate::settings::Settings;
use crate::ssh::resolution::printable;
use crate::words;

/// Shows every stored token; status 1 when none can be used.
pub fn run() -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    let entries = Settings::load()?.store()?.tokens()?;
    let mut text: String = entries.iter().map(|entry| describe(entry, now)).collect();
    if entries.is_empty() {
        text.push_str("no mytoken; run: mytoken-ssh login\n");
    }
    // Whoever closed our output has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if entries.iter().any(|entry| !entry.expired(now)) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn describe(entry: &Entry, now: u64) -> String {
    let mut lines = vec![
        entry.server.to_string(),
        format!(
            "  mytoken \"{}\" of {}, fingerprint {}",
            printable(&entry.name),
            holder(entry),
            entry.mytoken.fingerprint()
        ),
        format!(
            "  {}, stored {} ago",
            words::validity(entry.expires_at, now),
            words::span(now.saturating_sub(entry.created))
        ),
        format!("  may: {}", words::capabilities(&entry.capabilities)),
        format!("  for: {}", words::bounds(&entry.restrictions)),
    ];
    if entry.rotates() {
        lines.push("  replaced with each use: keep it on this machine only".into());
    }
    if entry.expired(now) {
        lines.push("  run: mytoken-ssh login".into());
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_by_its_fingerprint_only() {
        let entry: Entry = serde_json::from_value(serde_json::json!({
            "server": "https://mt.example.org", "issuer": "https://op.example.org/realm", "name": "laptop\u{1b}[2J",
            "mytoken": "eyJhbGciOiJ4In0.eyJ4IjoxfQ.c2ln", "capabilities": ["AT"],
            "restrictions": [{"exp": 1_000_000, "scope": "openid", "audience": ["https://se.example.org"]}],
            "expires_at": 1_000_000, "created": 100_000,
        }))
        .unwrap();
        let text = describe(&entry, 200_000);
        assert!(!text.contains("eyJ") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains(&entry.mytoken.fingerprint()) && text.contains("valid 9 days"), "{text}");
        assert!(
            text.contains("scopes openid; audience https://se.example.org") && text.contains("op.example.org"),
            "{text}"
        );
        assert!(describe(&entry, 2_000_000).contains("expired"));
    }
}
