// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a granted mytoken differs from the requested one.
//!
//! The user may change everything on the consent page, and the server drops what it does not know (MT-27, MT-28).

use mytoken::capabilities::Capabilities;
use mytoken::restrictions::{Clause, latest_exp};
use mytoken::server::Granted;

use crate::describe;
use crate::printable::printable;
use mytoken::time_format::duration;

/// Difference in seconds up to which two times of expiry count as equal.
const EXPIRY_TOLERANCE: u64 = 60;

/// Describes each difference in one sentence. Empty: the mytoken was granted as requested.
pub fn differences(granted: &Granted, requested: &Clause, requested_capabilities: &Capabilities) -> Vec<String> {
    let mut sentences = Vec::new();
    let missing = requested_capabilities.beyond(&granted.capabilities);
    if !missing.is_empty() {
        sentences.push(format!("you or the server removed the permission to {}", describe::capabilities(&missing)));
    }
    let extra = granted.capabilities.beyond(requested_capabilities);
    if !extra.is_empty() {
        sentences.push(format!("the mytoken may do more than requested: {}", describe::capabilities(&extra)));
    }
    let unrestricted = Clause::default();
    let clauses =
        if granted.restrictions.is_empty() { std::slice::from_ref(&unrestricted) } else { &granted.restrictions };
    for clause in clauses {
        sentences.extend(clause_differences(clause, requested));
    }
    sentences.extend(expiry_difference(latest_exp(&granted.restrictions).or(granted.expires_at), requested.exp));
    if granted.rotates() {
        sentences.push(
            "the server replaces the mytoken at each use, which was not requested: keep it on this machine only".into(),
        );
    }
    sentences.dedup();
    sentences
}

fn clause_differences(granted: &Clause, requested: &Clause) -> Vec<String> {
    let scopes: (Vec<&str>, Vec<&str>) = (granted.scopes().collect(), requested.scopes().collect());
    let audiences: (Vec<&str>, Vec<&str>) = (
        granted.audience.iter().map(String::as_str).collect(),
        requested.audience.iter().map(String::as_str).collect(),
    );
    let mut sentences = Vec::new();
    for (what, (granted, requested)) in [("scope", scopes), ("audience", audiences)] {
        if requested.is_empty() {
            continue;
        }
        if granted.is_empty() {
            let names = printable(&requested.join(" "));
            sentences.push(format!(
                "the server left out the restriction to {what} {names}: the mytoken is valid for any {what}"
            ));
            continue;
        }
        let missing = requested.iter().filter(|name| !granted.contains(name));
        sentences.extend(missing.map(|name| format!("the server left out the {what} {}", printable(name))));
        let added = granted.iter().filter(|name| !requested.contains(name));
        sentences.extend(added.map(|name| format!("you or the server added the {what} {}", printable(name))));
    }
    sentences
}

fn expiry_difference(granted: Option<u64>, requested: Option<u64>) -> Option<String> {
    match (granted, requested?) {
        (None, _) => Some("the mytoken does not expire: the server left out its lifetime".into()),
        (Some(granted), requested) if granted.saturating_add(EXPIRY_TOLERANCE) < requested => {
            Some(format!("the mytoken expires {} earlier than requested", duration(requested - granted)))
        }
        (Some(granted), requested) if granted > requested.saturating_add(EXPIRY_TOLERANCE) => {
            Some(format!("the mytoken expires {} later than requested", duration(granted - requested)))
        }
        _ => None,
    }
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
    fn an_expiry_near_the_largest_number_is_compared_like_any_other() {
        let capabilities = Capabilities::parse("AT").unwrap();
        for (expiry, requested, word) in
            [(u64::MAX, 1_000, "later"), (1_000, u64::MAX, "earlier"), (u64::MAX, u64::MAX - 7, "")]
        {
            let granted = granted("AT", &[clause(expiry, "a", &[])]);
            let sentences = differences(&granted, &clause(requested, "a", &[]), &capabilities);
            assert_eq!(sentences.is_empty(), word.is_empty(), "{sentences:?}");
            assert!(sentences.iter().all(|sentence| sentence.contains(word)), "{sentences:?}");
        }
    }

    #[test]
    fn a_mytoken_granted_as_requested_has_no_differences() {
        let capabilities = Capabilities::parse("AT create_mytoken").unwrap();
        let requested = clause(1_000_000, "openid storage.read", &["https://se.example.org"]);
        let granted = granted("AT create_mytoken", std::slice::from_ref(&requested));
        assert_eq!(differences(&granted, &requested, &capabilities), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_described() {
        let capabilities = Capabilities::parse("AT create_mytoken").unwrap();
        let requested = clause(1_000_000, "a b", &["https://x"]);
        let other = granted("AT settings", &[clause(2_000_000, "a c", &[])]);
        let text = differences(&other, &requested, &capabilities).join("\n");
        for part in [
            "removed the permission to create narrower mytokens",
            "more than requested: change your settings",
            "left out the scope b",
            "added the scope c",
            "restriction to audience https://x: the mytoken is valid for any audience",
            "expires 11 days later",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let unrestricted = granted("AT create_mytoken", &[]);
        let text = differences(&unrestricted, &requested, &capabilities).join("\n");
        assert!(text.contains("does not expire") && text.contains("restriction to scope a b"), "{text}");
    }
}
