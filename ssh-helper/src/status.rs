// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh status`: shows the stored mytokens, without any request over the network.

use std::process::ExitCode;

use mytoken::token_store::StoredToken;
use mytoken::{Clock, SystemClock};

use crate::describe;
use crate::error::Error;
use crate::output::print;
use crate::printable::printable;
use crate::settings::HelperSettings;
use mytoken::time_format::{duration, validity};

/// Shows every stored mytoken. The exit status is 1 if all have expired or there is none.
pub fn run() -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    let store = HelperSettings::load()?.existing_store()?;
    let entries = store.map(|store| store.tokens()).transpose()?.unwrap_or_default();
    if entries.is_empty() {
        print("no mytoken; run: mytoken-ssh login\n");
    }
    print(&entries.iter().map(|entry| describe_entry(entry, now)).collect::<String>());
    Ok(if entries.iter().any(|entry| !entry.expired(now)) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn describe_entry(entry: &StoredToken, now: u64) -> String {
    let (name, owner, fingerprint) =
        (printable(&entry.name), describe::owner(entry), mytoken::token::fingerprint(&entry.mytoken));
    let age = duration(now.saturating_sub(entry.created));
    let mut lines = vec![
        entry.server.to_string(),
        format!("  mytoken \"{name}\" of {owner}, fingerprint {fingerprint}"),
        format!("  {}, stored {age} ago", validity(entry.expires_at, now)),
        format!("  may: {}", describe::capabilities(&entry.capabilities)),
        format!("  for: {}", describe::restrictions(&entry.restrictions)),
    ];
    if entry.rotates() {
        lines.push("  the server replaces it at each use: keep it on this machine only".into());
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
        let entry: StoredToken = serde_json::from_value(serde_json::json!({
            "server": "https://mt.example.org", "issuer": "https://op.example.org/realm", "name": "laptop\u{1b}[2J",
            "mytoken": "eyJhbGciOiJ4In0.eyJ4IjoxfQ.c2ln", "capabilities": ["AT"],
            "restrictions": [{"exp": 1_000_000, "scope": "openid", "audience": ["https://se.example.org"]}],
            "expires_at": 1_000_000, "created": 100_000,
        }))
        .unwrap();
        let text = describe_entry(&entry, 200_000);
        assert!(!text.contains("eyJ") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains(&mytoken::token::fingerprint(&entry.mytoken)) && text.contains("valid 9 days"), "{text}");
        assert!(
            text.contains("scopes openid; audience https://se.example.org") && text.contains("op.example.org"),
            "{text}"
        );
        assert!(describe_entry(&entry, 2_000_000).contains("expired"));
    }
}
