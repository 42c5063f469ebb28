// SPDX-License-Identifier: MIT OR Apache-2.0
//! Describes a mytoken for the user: its owner, capabilities and restrictions.

use mytoken::capabilities::Capabilities;
use mytoken::restrictions::Clause;
use mytoken::token::unverified_claims;
use mytoken::token_store::StoredToken;
use mytoken::urls::IssuerUrl;

use crate::printable::printable;

/// What a capability permits, most important first.
const PERMISSIONS: &[(&str, &str)] = &[
    ("AT", "get access tokens"),
    ("create_mytoken", "create narrower mytokens"),
    ("tokeninfo", "show its own details, history and sub-tokens"),
    ("tokeninfo:introspect", "show its details"),
    ("tokeninfo:history", "show its history"),
    ("manage_mytokens", "manage all your mytokens"),
    ("settings", "change your settings at the server"),
];

/// `get access tokens, create narrower mytokens`. An unknown capability is shown by its name.
pub fn capabilities(capabilities: &Capabilities) -> String {
    let describe = |name: &str| {
        let known = PERMISSIONS.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| printable(name), |(_, permission)| (*permission).to_owned())
    };
    let rank = |name: &&str| PERMISSIONS.iter().position(|(known, _)| known == name).unwrap_or(PERMISSIONS.len());
    let mut names: Vec<&str> = capabilities.iter().collect();
    names.sort_by_key(rank);
    if names.is_empty() { "nothing".into() } else { names.into_iter().map(describe).collect::<Vec<_>>().join(", ") }
}

/// `scopes a b; audience c`, with ` | or ` between clauses.
pub fn restrictions(clauses: &[Clause]) -> String {
    if clauses.is_empty() {
        return "unrestricted".into();
    }
    clauses.iter().map(clause).collect::<Vec<_>>().join(" | or ")
}

fn clause(clause: &Clause) -> String {
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
}

/// `alice @ login.example.org`. The subject is read without verifying the token, which came directly from the server.
pub fn owner(entry: &StoredToken) -> String {
    let claims = unverified_claims(&entry.mytoken);
    let subject = claims.as_ref().map_or("you", |claims| claims.unverified().oidc_sub.as_str());
    format!("{} @ {}", printable(subject), host(&entry.issuer))
}

/// Host and port of an issuer.
fn host(issuer: &IssuerUrl) -> &str {
    let rest = issuer.as_str().split_once("://").map_or(issuer.as_str(), |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_described_in_order_of_importance() {
        let described = |names: &str| capabilities(&Capabilities::parse(names).unwrap());
        assert_eq!(described("create_mytoken AT"), "get access tokens, create narrower mytokens");
        assert_eq!(described(""), "nothing");
    }

    #[test]
    fn restrictions_name_what_limits_the_token() {
        let wide = Clause::default();
        let narrow = Clause {
            scope: "a b".into(),
            audience: vec!["https://se".into()],
            hosts: vec!["192.0.2.0/24".into()],
            usages_at: Some(2),
            ..Clause::default()
        };
        assert_eq!(restrictions(&[]), "unrestricted");
        assert_eq!(restrictions(std::slice::from_ref(&wide)), "all scopes and audiences");
        assert_eq!(
            restrictions(&[narrow, wide]),
            "scopes a b; audience https://se; from 192.0.2.0/24; 2 access tokens | or all scopes and audiences"
        );
    }
}
