// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh status`: shows the stored mytokens, without any request over the network.

use std::process::ExitCode;

use mytoken::restrictions::Clause;
use mytoken::token::{fingerprint, unverified_claims};
use mytoken::token_store::StoredToken;
use mytoken::{Clock, SystemClock};
use serde::Serialize;

use crate::command_line::StatusOptions;
use crate::describe;
use crate::error::Error;
use crate::output::{print, print_for_program};
use crate::printable::printable;
use crate::settings::HelperSettings;
use mytoken::time_format::{duration, validity};

/// What `--json` prints of a mytoken.
#[derive(Serialize)]
struct Printed<'a> {
    /// URL of the mytoken server.
    server: &'a str,
    /// URL of the OpenID provider.
    issuer: &'a str,
    /// Its name in the server's lists.
    name: &'a str,
    /// Whose it is at the provider, as the token itself says; `null` if it is a short token.
    sub: Option<String>,
    /// The begin of its SHA-256, as in logs. The token itself is not printed.
    fingerprint: String,
    capabilities: Vec<&'a str>,
    /// Its clauses as the server writes them.
    restrictions: &'a [Clause],
    /// When it was stored, Unix seconds.
    created: u64,
    /// When it expires, Unix seconds; `null` if it does not.
    expires_at: Option<u64>,
    expired: bool,
    /// Whether the server replaces it at each use.
    rotates: bool,
}

impl<'a> Printed<'a> {
    fn of(entry: &'a StoredToken, now: u64) -> Self {
        Self {
            server: entry.server.as_str(),
            issuer: entry.issuer.as_str(),
            name: &entry.name,
            sub: unverified_claims(&entry.mytoken).map(|claims| claims.unverified().oidc_sub.clone()),
            fingerprint: fingerprint(&entry.mytoken),
            capabilities: entry.capabilities.iter().collect(),
            restrictions: &entry.restrictions,
            created: entry.created,
            expires_at: entry.expires_at,
            expired: entry.expired(now),
            rotates: entry.rotates(),
        }
    }
}

/// Shows every stored mytoken. The exit status is 1 if all have expired or there is none.
pub fn run(options: &StatusOptions) -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    let store = HelperSettings::load()?.existing_store()?;
    let entries = store.map(|store| store.tokens()).transpose()?.unwrap_or_default();
    if options.json {
        let list: Vec<Printed<'_>> = entries.iter().map(|entry| Printed::of(entry, now)).collect();
        print_for_program(&(serde_json::to_string(&list).unwrap_or_default() + "\n"))?;
    } else if entries.is_empty() {
        print("no mytoken; run: mytoken-ssh login\n");
    } else {
        print(&entries.iter().map(|entry| describe_entry(entry, now)).collect::<String>());
    }
    Ok(if entries.iter().any(|entry| !entry.expired(now)) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn describe_entry(entry: &StoredToken, now: u64) -> String {
    let (name, owner, fingerprint) = (printable(&entry.name), describe::owner(entry), fingerprint(&entry.mytoken));
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
        assert!(text.contains(&fingerprint(&entry.mytoken)) && text.contains("valid 9 days"), "{text}");
        assert!(
            text.contains("scopes openid; audience https://se.example.org") && text.contains("op.example.org"),
            "{text}"
        );
        assert!(describe_entry(&entry, 2_000_000).contains("expired"));
        let printed = serde_json::to_value(Printed::of(&entry, 2_000_000)).unwrap();
        let names: Vec<&String> = printed.as_object().unwrap().keys().collect();
        let stable = "capabilities created expired expires_at fingerprint issuer name restrictions rotates server sub";
        assert_eq!(names, stable.split(' ').collect::<Vec<_>>());
        assert!(!printed.to_string().contains("eyJ") && printed["expired"] == true, "{printed}");
    }
}
