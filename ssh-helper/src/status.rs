// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh status`: shows the stored mytokens, without any request over the network but with `--check`.

pub mod server_check;

use std::process::ExitCode;

use mytoken::restrictions::Clause;
use mytoken::token::{fingerprint, unverified_claims};
use mytoken::token_store::{StoredToken, Trouble};
use mytoken::{Clock, SystemClock};
use serde::Serialize;

use crate::command_line::StatusOptions;
use crate::describe;
use crate::error::Error;
use crate::mytoken_sources::session::{self, Found, Usual};
use crate::mytoken_sources::{MytokenSource, unusable};
use crate::other_programs::oidc_agent::OidcAgent;
use crate::output::{print, print_for_program, tell};
use crate::printable::printable;
use crate::settings::HelperSettings;
use mytoken::time_format::{duration, validity};
use server_check::{ServerCheck, State};

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
    /// What speaks against it since its last use: `answer_lost`, `refused` or `null`.
    trouble: Option<Trouble>,
    /// Where it is, if it is not of the store; else `null`.
    place: Option<&'a str>,
    /// What the server says of it; absent without `--check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a ServerCheck>,
}

/// A stored mytoken, and what its server says of it if it was asked.
struct Seen {
    entry: StoredToken,
    check: Option<ServerCheck>,
    /// If it is not of the store.
    lent: Option<Lent>,
}

/// A mytoken that somebody else keeps.
struct Lent {
    place: String,
    /// Whether the store has one for its server, which is used.
    is_second: bool,
}

impl Seen {
    /// Whether it can be used: by what its server says if that was asked, else by this machine's clock.
    fn is_usable(&self, now: u64) -> bool {
        let is_used = self.lent.as_ref().is_none_or(|lent| !lent.is_second);
        let is_valid = self.check.as_ref().map(|check| check.state == State::Valid);
        is_used && is_valid.unwrap_or_else(|| unusable(&self.entry, now).is_none())
    }
}

impl<'a> Printed<'a> {
    fn of(Seen { entry, check, lent }: &'a Seen, now: u64) -> Self {
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
            trouble: entry.trouble,
            place: lent.as_ref().map(|lent| lent.place.as_str()),
            check: check.as_ref(),
        }
    }
}

/// Shows every stored mytoken. The exit status is 1 if all have expired or there is none, and with `--check` if no server accepts one.
pub fn run(options: &StatusOptions) -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    let settings = HelperSettings::load()?;
    let store = settings.existing_store()?;
    let stored = store.as_ref().map(|store| store.tokens()).transpose()?.unwrap_or_default();
    let look = |mytokens: &MytokenSource, entry: StoredToken, lent: Option<Lent>| {
        let check = options.check.then(|| ServerCheck::ask(&settings, mytokens, &entry));
        // What the server says now counts more than what it said before.
        let trouble = match check.as_ref().map(|check| &check.state) {
            Some(State::Valid) => None,
            Some(State::Refused) => Some(Trouble::Refused),
            Some(State::Unknown) | None => entry.trouble,
        };
        Seen { entry: StoredToken { trouble, ..entry }, check, lent }
    };
    let stored: Vec<Seen> = match store.map(MytokenSource::Store) {
        Some(store) => stored.into_iter().map(|entry| look(&store, entry, None)).collect(),
        None => Vec::new(),
    };
    // A file that nobody has named matters only where nothing that is stored can be used.
    let is_of_use = |seen: &Seen| unusable(&seen.entry, now).is_none();
    let usual = if stored.iter().any(is_of_use) { Usual::PassedOver } else { Usual::Used };
    // A session's mytoken that cannot be used is no reason to hide the others.
    let lent = session::mytoken(&settings, None, usual).unwrap_or_else(|error| {
        tell(&format!("mytoken-ssh: {error}"));
        None
    });
    let lent = lent.map(|Found { entry, place }| {
        let is_second = stored.iter().any(|seen| seen.entry.server == entry.server && is_of_use(seen));
        look(&MytokenSource::Lent(Box::new(entry.clone())), entry, Some(Lent { place, is_second }))
    });
    let entries: Vec<Seen> = stored.into_iter().chain(lent).collect();
    if options.json {
        let list: Vec<Printed<'_>> = entries.iter().map(|entry| Printed::of(entry, now)).collect();
        print_for_program(&(serde_json::to_string(&list).unwrap_or_default() + "\n"))?;
    } else if entries.is_empty() {
        print("no mytoken; run: mytoken-ssh login\n");
    } else {
        print(&entries.iter().map(|entry| describe_entry(entry, now)).collect::<String>());
    }
    if let Some(agent) = OidcAgent::named().filter(|_| !options.json) {
        show_accounts(&agent);
    }
    let usable = entries.iter().any(|entry| entry.is_usable(now));
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What the session's oidc-agent has. It is no mytoken, so the list of `--json` is without it.
fn show_accounts(agent: &OidcAgent) {
    match agent.accounts() {
        Err(error) => tell(&format!("mytoken-ssh: {error}")),
        Ok(accounts) if accounts.is_empty() => print("oidc-agent has no account loaded\n"),
        Ok(accounts) => {
            let accounts = accounts.iter().map(|account| printable(account)).collect::<Vec<_>>().join(", ");
            print(&format!(
                "oidc-agent has {accounts}; hosts get its tokens by: mytoken-ssh add HOST --oidc-agent ACCOUNT --audience URL\n"
            ));
        }
    }
}

fn describe_entry(Seen { entry, check, lent }: &Seen, now: u64) -> String {
    let (name, owner, fingerprint) = (printable(&entry.name), describe::owner(entry), fingerprint(&entry.mytoken));
    let (place, age) = match lent {
        Some(Lent { place, .. }) => (format!("   ({})", printable(place)), String::new()),
        None => (String::new(), format!(", stored {} ago", duration(now.saturating_sub(entry.created)))),
    };
    let mut lines = vec![
        format!("{}{place}", entry.server),
        format!("  mytoken \"{name}\" of {owner}, fingerprint {fingerprint}"),
        format!("  {}{age}", validity(entry.expires_at, now)),
        format!("  may: {}", describe::capabilities(&entry.capabilities)),
        format!("  for: {}", describe::restrictions(&entry.restrictions)),
    ];
    if entry.rotates() {
        lines.push("  the server replaces it at each use: keep it on this machine only".into());
    }
    if lent.as_ref().is_some_and(|lent| lent.is_second) {
        lines.push("  not used: the stored one for this server comes first".into());
    }
    if let Some(check) = check {
        lines.push(format!("  {}", check.line()));
        lines.extend(check.clock.iter().map(|clock| format!("  {clock}")));
    }
    // An answer of the server says more.
    let is_answered = check.as_ref().is_some_and(|check| check.state != State::Unknown);
    match entry.trouble.filter(|_| !is_answered) {
        Some(Trouble::AnswerLost) => lines.push(format!(
            "  in doubt: an answer of the server was lost, which may have replaced it; {}",
            after_doubt(entry)
        )),
        Some(Trouble::Refused) => lines.push(
            "  refused at its last use: expired, revoked, replaced or not valid yet; run: mytoken-ssh login".into(),
        ),
        None => {}
    }
    if entry.expired(now) && check.as_ref().is_none_or(|check| check.state == State::Unknown) {
        lines.push("  run: mytoken-ssh login".into());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What to do about a mytoken that is in doubt.
fn after_doubt(entry: &StoredToken) -> &'static str {
    if entry.is_dangerous() {
        "the old one would now revoke all that was made from it; run: mytoken-ssh login"
    } else {
        "mytoken-ssh status --check asks; if it is refused, run: mytoken-ssh login"
    }
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
        let fingerprint_of = fingerprint(&entry.mytoken);
        let entry = Seen { entry, check: None, lent: None };
        let text = describe_entry(&entry, 200_000);
        assert!(!text.contains("eyJ") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains(&fingerprint_of) && text.contains("valid 9 days"), "{text}");
        assert!(
            text.contains("scopes openid; audience https://se.example.org") && text.contains("op.example.org"),
            "{text}"
        );
        assert!(describe_entry(&entry, 2_000_000).contains("expired"));
        let printed = serde_json::to_value(Printed::of(&entry, 2_000_000)).unwrap();
        let names: Vec<&String> = printed.as_object().unwrap().keys().collect();
        let stable = "capabilities created expired expires_at fingerprint issuer name place restrictions rotates server sub trouble";
        assert_eq!(names, stable.split(' ').collect::<Vec<_>>());
        assert!(!printed.to_string().contains("eyJ") && printed["expired"] == true, "{printed}");
    }
}
