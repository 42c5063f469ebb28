// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens told in words: what was granted, for how long, and what differs from what was asked.

use mytoken::capabilities::Capabilities;
use mytoken::restrictions::{Clause, latest_exp};
use mytoken::server::Granted;

use crate::ssh::resolution::printable;

/// Capabilities in the words of a person, most important first.
const WORDS: &[(&str, &str)] = &[
    ("AT", "get access tokens"),
    ("create_mytoken", "create narrower mytokens"),
    ("tokeninfo", "show its own details, history and children"),
    ("tokeninfo:introspect", "show its details"),
    ("tokeninfo:history", "show its history"),
    ("manage_mytokens", "manage all your mytokens"),
    ("settings", "change your settings at the server"),
];

/// `get access tokens, create narrower mytokens`; names that have no words stand for themselves.
pub fn capabilities(owned: &Capabilities) -> String {
    let words = |name: &str| {
        let known = WORDS.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| printable(name), |(_, words)| (*words).to_owned())
    };
    let rank = |name: &&str| WORDS.iter().position(|(known, _)| known == name).unwrap_or(WORDS.len());
    let mut names: Vec<&str> = owned.iter().collect();
    names.sort_by_key(rank);
    if names.is_empty() { "nothing".into() } else { names.into_iter().map(words).collect::<Vec<_>>().join(", ") }
}

/// `valid 30 days`, `valid 5 hours`, `expired`, `valid without end`.
pub fn validity(expires_at: Option<u64>, now: u64) -> String {
    match expires_at.map(|exp| exp.checked_sub(now)) {
        None => "valid without end".into(),
        Some(None | Some(0)) => "expired".into(),
        Some(Some(left)) => format!("valid {}", span(left)),
    }
}

/// Seconds in the largest unit of which there are two. Half an hour is forgiven: what was granted is seconds older than what was asked.
pub fn span(seconds: u64) -> String {
    let (unit, name) = [(86_400, "day"), (3_600, "hour"), (60, "minute")]
        .into_iter()
        .find(|(unit, _)| seconds.saturating_add(30) / unit >= 2)
        .unwrap_or((1, "second"));
    let count = seconds.saturating_add((unit / 2).min(1_800)) / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Scopes and audiences of clauses, for `status`: `scopes a b; audience c`.
pub fn bounds(clauses: &[Clause]) -> String {
    let one = |clause: &Clause| {
        let mut parts = Vec::new();
        if clause.scopes().next().is_some() {
            parts.push(format!("scopes {}", printable(&clause.scope)));
        }
        if !clause.audience.is_empty() {
            parts.push(format!("audience {}", printable(&clause.audience.join(" "))));
        }
        if !clause.hosts.is_empty() {
            parts.push(format!("from {}", printable(&clause.hosts.join(" "))));
        }
        if let Some(count) = clause.usages_at {
            parts.push(format!("{count} access tokens"));
        }
        if parts.is_empty() { "all scopes and audiences".to_owned() } else { parts.join("; ") }
    };
    if clauses.is_empty() {
        return "unrestricted".into();
    }
    clauses.iter().map(one).collect::<Vec<_>>().join(" | or ")
}

/// In what the granted token differs from what was asked, one sentence each; empty when it does not.
///
/// The person may change everything on the consent page, and the server drops what it does not know (dossier `mytoken-protocol` 14).
pub fn differences(granted: &Granted, clause: &Clause, asked: &Capabilities) -> Vec<String> {
    let mut told = Vec::new();
    let missing = asked.beyond(&granted.capabilities);
    if !missing.is_empty() {
        told.push(format!("it may not {}: the server or you left that out", capabilities(&missing)));
    }
    let extra = granted.capabilities.beyond(asked);
    if !extra.is_empty() {
        told.push(format!("it may more than asked for: {}", capabilities(&extra)));
    }
    let open = Clause::default();
    for got in if granted.restrictions.is_empty() { std::slice::from_ref(&open) } else { &granted.restrictions } {
        told.extend(clause_differences(got, clause));
    }
    let (got, wanted) = (latest_exp(&granted.restrictions).or(granted.expires_at), clause.exp);
    match (got, wanted) {
        (None, Some(_)) => told.push("it has no end: the server left out its lifetime".into()),
        (Some(got), Some(wanted)) if got.saturating_add(60) < wanted => {
            told.push(format!("it ends {} earlier than asked for", span(wanted - got)));
        }
        (Some(got), Some(wanted)) if got > wanted.saturating_add(60) => {
            told.push(format!("it ends {} later than asked for", span(got - wanted)));
        }
        _ => {}
    }
    if granted.rotates() {
        told.push("it is replaced with each use, which was not asked for: keep it on this machine only".into());
    }
    told.dedup();
    told
}

fn clause_differences(got: &Clause, wanted: &Clause) -> Vec<String> {
    let scopes: (Vec<&str>, Vec<&str>) = (got.scopes().collect(), wanted.scopes().collect());
    let audiences: (Vec<&str>, Vec<&str>) =
        (got.audience.iter().map(String::as_str).collect(), wanted.audience.iter().map(String::as_str).collect());
    let mut told = Vec::new();
    for (what, (got, wanted)) in [("scope", scopes), ("audience", audiences)] {
        if got.is_empty() && !wanted.is_empty() {
            told.push(format!(
                "the server left out the restriction to {what} {}: it is good for any",
                printable(&wanted.join(" "))
            ));
            continue;
        }
        told.extend(
            wanted
                .iter()
                .filter(|name| !got.contains(name))
                .map(|name| format!("the server left out the {what} {}", printable(name))),
        );
        if !wanted.is_empty() {
            told.extend(
                got.iter()
                    .filter(|name| !wanted.contains(name))
                    .map(|name| format!("the {what} {} was added", printable(name))),
            );
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use mytoken::Secret;
    use mytoken::server::GrantedKind;

    use super::*;

    fn granted(capabilities: &str, clauses: &[Clause]) -> Granted {
        Granted {
            mytoken: Secret::new("a.b.c"),
            kind: GrantedKind::Token,
            restrictions: clauses.to_vec(),
            capabilities: Capabilities::parse(capabilities).unwrap(),
            rotation: None,
            expires_at: latest_exp(clauses),
            code_expires_at: None,
            mom_id: String::new(),
        }
    }

    fn clause(exp: u64, scope: &str, audience: &[&str]) -> Clause {
        let audience = audience.iter().map(|audience| (*audience).to_owned()).collect();
        Clause { exp: Some(exp), scope: scope.into(), audience, ..Clause::default() }
    }

    #[test]
    fn spans() {
        let table = [
            (2_592_000, "30 days"),
            (2_591_995, "30 days"),
            (86_400, "24 hours"),
            (86_395, "24 hours"),
            (7_200, "2 hours"),
            (5_400, "90 minutes"),
            (300, "5 minutes"),
            (61, "61 seconds"),
            (1, "1 second"),
        ];
        for (seconds, expected) in table {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
        assert_eq!(validity(Some(5), 5), "expired");
        assert_eq!(validity(None, 5), "valid without end");
    }

    #[test]
    fn a_time_near_the_end_of_numbers_is_told_as_any_other() {
        assert_eq!(span(u64::MAX), "213503982334601 days");
        assert_eq!(validity(Some(u64::MAX), 1_000_000), "valid 213503982334589 days");
        let asked = Capabilities::parse("AT").unwrap();
        for (got, wanted, told) in
            [(u64::MAX, 1_000, "later"), (1_000, u64::MAX, "earlier"), (u64::MAX, u64::MAX - 7, "")]
        {
            let differences = differences(&granted("AT", &[clause(got, "a", &[])]), &clause(wanted, "a", &[]), &asked);
            assert!(differences.iter().all(|said| said.contains(told)) && differences.is_empty() == told.is_empty());
        }
    }

    #[test]
    fn what_was_granted_as_asked_is_told_without_remark() {
        let asked = Capabilities::parse("AT create_mytoken").unwrap();
        let wanted = clause(1_000_000, "openid storage.read", &["https://se.example.org"]);
        assert_eq!(
            differences(&granted("AT create_mytoken", std::slice::from_ref(&wanted)), &wanted, &asked),
            Vec::<String>::new()
        );
        assert_eq!(capabilities(&asked), "get access tokens, create narrower mytokens");
    }

    #[test]
    fn every_difference_stands_out() {
        let asked = Capabilities::parse("AT create_mytoken").unwrap();
        let wanted = clause(1_000_000, "a b", &["https://x"]);
        let got = granted("AT settings", &[clause(2_000_000, "a c", &[])]);
        let told = differences(&got, &wanted, &asked).join("\n");
        for part in [
            "may not create narrower mytokens",
            "more than asked for: change your settings",
            "left out the scope b",
            "scope c was added",
            "restriction to audience https://x: it is good for any",
            "ends 11 days later",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = differences(&granted("AT create_mytoken", &[]), &wanted, &asked).join("\n");
        assert!(told.contains("no end") && told.contains("restriction to scope a b"), "{told}");
    }
}
