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

/// Scope and audience, if what is asked for leaves no choice: all clauses that allow it now have the same scope, or the asked one, and the
/// same one audience. `None`: there is a choice, or the provider would make it.
///
/// # Errors
/// When the mytoken does not give such a token.
pub fn only_choice(
    stored: &StoredToken,
    scope: &str,
    audience: &str,
    now: u64,
) -> Result<Option<(String, String)>, Error> {
    let first = choose(stored, scope, audience, now)?;
    let usable = stored.restrictions.iter().filter(|clause| clause.allows(scope, audience, now));
    let mut wanted = usable.map(|clause| {
        let scope = if scope.is_empty() { clause.scope.clone() } else { scope.to_owned() };
        let audience = if audience.is_empty() { clause.audience.join(" ") } else { audience.to_owned() };
        (scope, audience)
    });
    let is_whole = !first.0.trim().is_empty() && first.1.split_ascii_whitespace().count() == 1;
    Ok((is_whole && wanted.all(|wanted| wanted == first)).then_some(first))
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
    fn there_is_no_choice_if_all_usable_clauses_have_one_scope_and_one_audience() {
        let a = serde_json::json!({"exp": NOW + 60, "scope": "read", "audience": ["https://a"]});
        let b = serde_json::json!({"exp": NOW + 60, "scope": "write", "audience": ["https://b"]});
        let more = serde_json::json!({"exp": NOW + 60, "scope": "openid", "audience": ["https://a"]});
        let both = serde_json::json!({"exp": NOW + 60, "scope": "read", "audience": ["https://a", "https://b"]});
        let expired = serde_json::json!({"exp": NOW - 60, "scope": "old", "audience": ["https://c"]});
        let any = serde_json::json!({"exp": NOW + 60, "scope": "read"});
        let all = serde_json::json!({"exp": NOW + 60, "audience": ["https://a"]});
        for (clauses, scope, audience, expected) in [
            (vec![&a], "", "", Some(("read", "https://a"))),
            (vec![&a, &a, &expired], "", "", Some(("read", "https://a"))),
            (vec![&a, &b], "", "", None),
            (vec![&a, &b], "write", "", Some(("write", "https://b"))),
            (vec![&a, &b], "", "https://b", Some(("write", "https://b"))),
            (vec![&a, &more], "", "", None),
            (vec![&a, &more], "openid", "", Some(("openid", "https://a"))),
            (vec![&both], "", "", None),
            (vec![&both], "", "https://b", Some(("read", "https://b"))),
            (vec![&both], "", "https://a https://b", None),
            (vec![&a, &any], "", "", None),
            (vec![&any], "", "", None),
            (vec![&any], "", "https://c", Some(("read", "https://c"))),
            (vec![&all], "", "", None),
            (vec![&all], "x", "", Some(("x", "https://a"))),
            (vec![], "", "", None),
            (vec![], "", "https://c", None),
            (vec![], "x", "https://c", Some(("x", "https://c"))),
        ] {
            let stored = stored(&["AT"], &serde_json::json!(clauses));
            let expected = expected.map(|(scope, audience)| (scope.to_owned(), audience.to_owned()));
            assert_eq!(only_choice(&stored, scope, audience, NOW).unwrap(), expected, "{clauses:?} {scope} {audience}");
        }
        assert!(only_choice(&stored(&["AT"], &serde_json::json!([a, b])), "", "https://a https://b", NOW).is_err());
    }
}
