// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts together what a token, introspection and userinfo say. Pure.

use mytoken::config::IssuerSettings;
use serde_json::{Map, Value};

use crate::oidc::{Rejection, date, string_list};

/// Claims about the token. Userinfo is about the person: what it says there is not used.
const OF_TOKEN: [&str; 20] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "azp",
    "client_id",
    "resource",
    "scope",
    "scp",
    "typ",
    "token_type",
    "token_use",
    "nonce",
    "at_hash",
    "c_hash",
    "events",
    "active",
];

/// Adds the answer of introspection to the claims that decide; without any, it decides itself. What it says must agree with the token.
pub(super) fn add_introspection(
    decisive: Option<Map<String, Value>>,
    answer: Map<String, Value>,
    own: &Map<String, Value>,
    issuer: &IssuerSettings,
) -> Result<Map<String, Value>, Rejection> {
    check_issuer(&answer, issuer)?;
    for name in ["sub", "aud", "exp"] {
        if own.contains_key(name) && answer.contains_key(name) && !agree(name, own, &answer)? {
            return Err(Rejection::ClaimsDiffer(name));
        }
    }
    let mut claims = decisive.unwrap_or_default();
    for (name, value) in answer.into_iter().filter(|(name, _)| name != "active") {
        claims.entry(name).or_insert(value);
    }
    // The answer may lack the end of a token that tells it.
    if let Some(exp) = own.get("exp") {
        claims.entry("exp").or_insert_with(|| exp.clone());
    }
    Ok(claims)
}

/// Adds the answer of userinfo to the claims that decide; without any, it decides itself. Its `sub` must be the token's, byte for byte
/// (OpenID Connect Core 5.3.4): otherwise somebody could log in with the groups of somebody else.
pub(super) fn add_userinfo(
    decisive: Option<Map<String, Value>>,
    answer: Map<String, Value>,
    own: &Map<String, Value>,
    issuer: &IssuerSettings,
) -> Result<Map<String, Value>, Rejection> {
    check_issuer(&answer, issuer)?;
    let Some(sub) = answer.get("sub").filter(|sub| sub.as_str().is_some_and(|sub| !sub.is_empty())).cloned() else {
        return Err(Rejection::ClaimsDiffer("sub"));
    };
    let known = decisive.as_ref().and_then(|claims| claims.get("sub")).or(own.get("sub"));
    if known.is_some_and(|known| *known != sub) {
        return Err(Rejection::ClaimsDiffer("sub"));
    }
    let mut claims = decisive.unwrap_or_default();
    claims.entry("sub").or_insert(sub);
    if let Some(exp) = own.get("exp") {
        claims.entry("exp").or_insert_with(|| exp.clone());
    }
    for (name, value) in answer.into_iter().filter(|(name, _)| !OF_TOKEN.contains(&name.as_str())) {
        claims.entry(name).or_insert(value);
    }
    Ok(claims)
}

/// An answer that names its issuer must name this one.
fn check_issuer(answer: &Map<String, Value>, issuer: &IssuerSettings) -> Result<(), Rejection> {
    match answer.get("iss") {
        None => Ok(()),
        Some(iss) if iss.as_str().is_some_and(|iss| issuer.is(iss)) => Ok(()),
        Some(_) => Err(Rejection::ClaimsDiffer("iss")),
    }
}

/// Whether both have the same value: one audience may be a text or a list with one, in any order; a date may have a fraction.
fn agree(name: &'static str, own: &Map<String, Value>, answer: &Map<String, Value>) -> Result<bool, Rejection> {
    let audiences = |claims| {
        let mut all: Vec<&str> = string_list(claims, name);
        all.sort_unstable();
        all.dedup();
        all
    };
    Ok(match name {
        "aud" => audiences(own) == audiences(answer),
        "exp" => date(own, name)? == date(answer, name)?,
        _ => own.get(name) == answer.get(name),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("no object") };
        map
    }

    fn issuer() -> IssuerSettings {
        toml::from_str("name = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']").unwrap()
    }

    fn own() -> Map<String, Value> {
        map(json!({"iss": "https://op.example.org", "sub": "s", "aud": ["a", "b"], "exp": 100, "scope": "openid"}))
    }

    #[test]
    fn introspection_must_agree_with_the_token_and_never_replaces_a_claim() {
        for (answer, differs) in [
            (json!({}), None),
            (json!({"iss": "https://op.example.org/", "sub": "s", "aud": ["b", "a"], "exp": 100.5}), None),
            (json!({"iss": "https://evil.example"}), Some("iss")),
            (json!({"iss": 7}), Some("iss")),
            (json!({"sub": "S"}), Some("sub")),
            (json!({"sub": null}), Some("sub")),
            (json!({"aud": "a"}), Some("aud")),
            (json!({"aud": ["a", "b", "c"]}), Some("aud")),
            (json!({"exp": 101}), Some("exp")),
        ] {
            let added = add_introspection(Some(own()), map(answer.clone()), &own(), &issuer());
            assert_eq!(added.err(), differs.map(Rejection::ClaimsDiffer), "{answer}");
        }
        let answer = json!({"active": true, "scope": "openid root", "groups": ["g"], "client_id": "c"});
        let mut expected = own();
        expected.extend(map(json!({"groups": ["g"], "client_id": "c"})));
        assert_eq!(add_introspection(Some(own()), map(answer), &own(), &issuer()).unwrap(), expected);
        let alone = add_introspection(None, map(json!({"active": true, "sub": "s"})), &own(), &issuer()).unwrap();
        assert_eq!(alone, map(json!({"sub": "s", "exp": 100})), "no unverified claim but the end of the token");
    }

    #[test]
    fn userinfo_must_be_of_the_same_person_and_tells_nothing_about_the_token() {
        for (answer, differs) in [
            (json!({"sub": "s"}), None),
            (json!({"sub": "s", "iss": "https://op.example.org"}), None),
            (json!({"sub": "s "}), Some("sub")),
            (json!({"sub": "S"}), Some("sub")),
            (json!({"sub": ["s"]}), Some("sub")),
            (json!({"sub": ""}), Some("sub")),
            (json!({}), Some("sub")),
            (json!({"sub": "s", "iss": "https://evil.example"}), Some("iss")),
        ] {
            let added = add_userinfo(Some(own()), map(answer.clone()), &own(), &issuer());
            assert_eq!(added.err(), differs.map(Rejection::ClaimsDiffer), "{answer}");
            // The token's own `sub` counts too if another mode decides and has none.
            let other = add_userinfo(Some(Map::new()), map(answer.clone()), &own(), &issuer());
            assert_eq!(other.err(), differs.map(Rejection::ClaimsDiffer), "{answer}");
        }
        let answer = map(json!({"sub": "s", "aud": "x", "scope": "root", "exp": 9, "scp": ["root"], "groups": ["g"]}));
        let added = add_userinfo(Some(own()), answer.clone(), &own(), &issuer()).unwrap();
        let mut expected = own();
        expected.insert("groups".to_owned(), json!(["g"]));
        assert_eq!(added, expected);
        let mut with_groups = own();
        with_groups.insert("groups".to_owned(), json!([]));
        assert_eq!(add_userinfo(Some(with_groups.clone()), answer.clone(), &own(), &issuer()).unwrap(), with_groups);
        let alone = add_userinfo(None, answer, &Map::new(), &issuer()).unwrap();
        assert_eq!(alone, map(json!({"sub": "s", "groups": ["g"]})));
    }
}
