// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scope and audience of an access token that a stored mytoken is to give.

use mytoken::restrictions::{Clause, select};
use mytoken::token_store::StoredToken;

use crate::describe;
use crate::error::Error;
use crate::printable::printable;

/// Fills in what is not asked for, from the clause that allows the rest. `scope` and `audience`: words, separated by blanks; empty: not
/// asked for. Without an audience the provider would choose one, which the mytoken may not mean (MT-10). `now`: the server's time of day,
/// Unix seconds.
///
/// # Errors
/// When the mytoken does not give such a token.
pub fn choose(stored: &StoredToken, scope: &str, audience: &str, now: u64) -> Result<(String, String), Error> {
    if stored.expired(now) {
        return Err(Error::Expired { server: stored.server.to_string() });
    }
    let clause = select(&stored.restrictions, scope, audience, now).ok_or_else(|| {
        let asked = [("scope", scope), ("audience", audience)].into_iter().filter(|(_, words)| !words.is_empty());
        let asked: Vec<String> = asked.map(|(name, words)| format!("{name} {}", printable(words))).collect();
        let asked = if asked.is_empty() { "now".to_owned() } else { format!("for {}", asked.join(" and ")) };
        Error::Usage(format!(
            "your mytoken gives no access token {asked}; it is for: {}",
            describe::restrictions(&stored.restrictions)
        ))
    })?;
    let of_clause = |words: &str, value: fn(&Clause) -> String| {
        if words.is_empty() { clause.map(value).unwrap_or_default() } else { words.to_owned() }
    };
    Ok((of_clause(scope, |clause| clause.scope.clone()), of_clause(audience, |clause| clause.audience.join(" "))))
}

/// The audience, if all clauses that allow an access token with this scope now have the same one.
pub fn only_audience<'stored>(stored: &'stored StoredToken, scope: &str, now: u64) -> Option<&'stored str> {
    let mut usable = stored.restrictions.iter().filter(|clause| clause.allows(scope, "", now));
    let [only] = usable.next()?.audience.as_slice() else { return None };
    usable.all(|clause| matches!(clause.audience.as_slice(), [other] if other == only)).then_some(only)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const NOW: u64 = 1_000_000;

    pub fn stored(capabilities: &[&str], restrictions: &serde_json::Value) -> StoredToken {
        serde_json::from_value(serde_json::json!({
            "server": "https://mt.example.org", "issuer": "https://op.example.org", "name": "laptop",
            "mytoken": "eyJhbGciOiJ4In0.eyJ4IjoxfQ.c2ln", "capabilities": capabilities, "restrictions": restrictions, "created": 1,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_asked_for_comes_from_the_clause_that_allows_the_rest() {
        let stored = stored(
            &["AT"],
            &serde_json::json!([
                {"exp": NOW - 1, "scope": "old", "audience": ["https://old"]},
                {"exp": NOW + 60, "scope": "read write", "audience": ["https://a", "https://b"]},
                {"exp": NOW + 60, "scope": "compute", "audience": ["https://c"]},
                {"nbf": NOW + 5, "scope": "later"},
            ]),
        );
        for (scope, audience, wanted_scope, wanted_audience) in [
            ("", "", "read write", "https://a https://b"),
            ("write", "", "write", "https://a https://b"),
            ("", "https://b", "read write", "https://b"),
            ("compute", "", "compute", "https://c"),
            ("", "https://c", "compute", "https://c"),
        ] {
            let found = choose(&stored, scope, audience, NOW).unwrap();
            assert_eq!(found, (wanted_scope.to_owned(), wanted_audience.to_owned()), "{scope} {audience}");
        }
        for (scope, audience, told) in [
            ("old", "", "for scope old; it is for: scopes old"),
            ("read compute", "", "for scope read compute;"),
            ("read", "https://c", "for scope read and audience https://c;"),
            ("later", "", "for scope later;"),
        ] {
            let error = choose(&stored, scope, audience, NOW).unwrap_err().to_string();
            assert!(error.contains(told), "{scope} {audience}: {error}");
        }
    }

    #[test]
    fn an_open_mytoken_gives_what_is_asked_for() {
        let open = stored(&["AT"], &serde_json::json!([]));
        let found = choose(&open, "a b", "https://a", NOW).unwrap();
        assert_eq!(found, ("a b".to_owned(), "https://a".to_owned()));
        assert_eq!(choose(&open, "", "", NOW).unwrap(), (String::new(), String::new()));
    }

    #[test]
    fn an_audience_is_known_if_all_usable_clauses_have_it_alone() {
        let a = serde_json::json!({"exp": NOW + 60, "scope": "read", "audience": ["https://a"]});
        let b = serde_json::json!({"exp": NOW + 60, "scope": "write", "audience": ["https://b"]});
        let both = serde_json::json!({"exp": NOW + 60, "scope": "read", "audience": ["https://a", "https://b"]});
        let expired = serde_json::json!({"exp": NOW - 60, "audience": ["https://c"]});
        let any = serde_json::json!({"exp": NOW + 60, "scope": "read"});
        for (clauses, scope, expected) in [
            (vec![&a], "", Some("https://a")),
            (vec![&a, &a, &expired], "", Some("https://a")),
            (vec![&a, &b], "", None),
            (vec![&a, &b], "write", Some("https://b")),
            (vec![&a, &b], "other", None),
            (vec![&both], "", None),
            (vec![&a, &any], "", None),
            (vec![&any], "", None),
            (vec![], "", None),
        ] {
            let stored = stored(&["AT"], &serde_json::json!(clauses));
            assert_eq!(only_audience(&stored, scope, NOW), expected, "{clauses:?} {scope}");
        }
    }
}
