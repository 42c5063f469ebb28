// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verification of access tokens: each way in which a token can be wrong, and some valid tokens.

use std::time::Duration;

use crate::support::Algorithm::{self, ES256, EdDSA, HS256, PS256, RS256, RS512};
use crate::support::{NOW, TestKeys, access_token, b64, claims, issuer, sign};
use mytoken::config::IssuerSettings;
use mytoken::{Deadline, Secret};
use mytoken_login::oidc::{
    AccessTokenClaims, KeyFreshness, KeySet, KeySource, KeysUnavailable, Rejection, Skew, verify,
};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

fn check(token: &str, issuer: &IssuerSettings, source: &TestKeys) -> Result<AccessTokenClaims, Rejection> {
    let deadline = Deadline::after(Duration::from_secs(5));
    verify(&Secret::new(token), std::slice::from_ref(issuer), source, &FixedClock(NOW), deadline)
}

fn reason(token: &str) -> &'static str {
    check(token, &issuer(""), &TestKeys::default()).map_or_else(|rejection| rejection.reason(), |_| "accepted")
}

#[test]
fn a_valid_token_gives_its_claims() {
    let claims = check(&access_token(&json!({})), &issuer(""), &TestKeys::default()).unwrap();
    assert_eq!((claims.issuer.as_str(), claims.sub.as_str(), claims.exp), ("op", "s-1", NOW + 3_600));
    assert_eq!(claims.good_until, NOW + 3_630);
    assert_eq!(claims.scopes, ["openid", "profile", "storage.read"]);
    assert_eq!(claims.signed, "ES256, key ec");
}

/// The smallest leeway with which the token is accepted is told, and with one second less it is refused.
#[test]
fn the_leeway_that_was_needed_is_told() {
    for (changes, skew) in [
        (json!({}), None),
        (json!({"exp": NOW + 1, "nbf": NOW, "iat": NOW}), None),
        (json!({"iat": NOW - 86_400}), None),
        (json!({"exp": NOW}), Some(Skew::Ahead(1))),
        (json!({"exp": NOW - 29}), Some(Skew::Ahead(30))),
        (json!({"iat": NOW - 86_412}), Some(Skew::Ahead(12))),
        (json!({"nbf": NOW + 7}), Some(Skew::Behind(7))),
        (json!({"nbf": NOW + 3, "iat": NOW + 9}), Some(Skew::Behind(9))),
        (json!({"exp": NOW - 4, "iat": NOW + 2}), Some(Skew::Ahead(5))),
    ] {
        let check =
            |leeway| check(&access_token(&changes), &issuer(&format!("leeway = '{leeway}s'")), &TestKeys::default());
        assert_eq!(check(30).unwrap().skew, skew, "{changes}");
        let Some(needed) = skew.map(Skew::seconds) else { continue };
        assert_eq!(check(needed).unwrap().skew, skew, "{changes}");
        assert!(check(needed - 1).is_err(), "{changes}");
    }
    assert_eq!((Skew::Ahead(12).to_string(), Skew::Behind(3).to_string()), ("+12".to_owned(), "-3".to_owned()));
}

#[test]
fn each_header_has_its_result() {
    let table: &[(&str, &str, Algorithm, &str)] = &[
        (r#"{"alg":"RS256","kid":"rsa"}"#, "rsa", RS256, "accepted"),
        (r#"{"alg":"EdDSA","kid":"ed","typ":"JWT"}"#, "ed", EdDSA, "accepted"),
        (r#"{"alg":"ES256","kid":"ec","typ":"application/AT+JWT"}"#, "ec", ES256, "accepted"),
        (r#"{"alg":"ES256"}"#, "ec", ES256, "accepted"), // only one key fits
        (
            r#"{"alg":"ES256","kid":"ec","jku":"https://evil.example","x5u":"https://evil.example"}"#,
            "ec",
            ES256,
            "accepted",
        ),
        (r#"{"alg":"none","kid":"rsa"}"#, "rsa", RS256, "algorithm"),
        (r#"{"alg":"NONE"}"#, "rsa", RS256, "algorithm"),
        (r#"{"alg":"HS256","kid":"oct"}"#, "secret", HS256, "algorithm"),
        (r#"{"alg":"HS256","kid":"rsa"}"#, "the public key", HS256, "algorithm"),
        (r#"{"alg":"rs256","kid":"rsa"}"#, "rsa", RS256, "algorithm"),
        (r#"{"alg":"PS256","kid":"rsa"}"#, "rsa", PS256, "algorithm"), // not on the list of this issuer
        (r#"{"alg":"RS512","kid":"rsa"}"#, "rsa", RS512, "algorithm"),
        (r#"{"alg":"ES256","kid":"rsa"}"#, "ec", ES256, "key_unfit"), // key of another kind
        (r#"{"alg":"RS256","kid":"ec"}"#, "rsa", RS256, "key_unfit"),
        (r#"{"alg":"RS256","kid":"enc"}"#, "enc", RS256, "key_unfit"), // for encryption
        (r#"{"alg":"RS256","kid":"weak"}"#, "weak", RS256, "key_unfit"), // 1024 bits
        (r#"{"alg":"RS256"}"#, "rsa", RS256, "key_unknown"),           // several keys fit
        (r#"{"alg":"RS256","kid":"gone"}"#, "rsa", RS256, "key_unknown"),
        (r#"{"alg":"RS256","kid":""}"#, "rsa", RS256, "key_unknown"),
        (r#"{"alg":"ES256","kid":"broken"}"#, "ec", ES256, "key_unknown"),
        (r#"{"alg":"RS256","kid":"oct"}"#, "rsa", RS256, "key_unknown"),
        (r#"{"alg":"RS256","kid":"rsa"}"#, "ec", ES256, "signature"),
        (r#"{"alg":"ES256","kid":"ec","crit":["exp"]}"#, "ec", ES256, "critical_header"),
        (r#"{"alg":"ES256","kid":"ec","crit":[]}"#, "ec", ES256, "critical_header"),
        (r#"{"alg":"ES256","kid":"ec","typ":"logout+jwt"}"#, "ec", ES256, "wrong_kind"),
        (r#"{"alg":"ES256","kid":"ec","typ":"MT+JWT"}"#, "ec", ES256, "wrong_kind"),
        (r#"{"alg":"ES256","kid":"ec","typ":"refresh"}"#, "ec", ES256, "wrong_kind"),
        (r#"{"alg":"ES256","alg":"ES256","kid":"ec"}"#, "ec", ES256, "malformed"),
        (r#"{"alg":["ES256"],"kid":"ec"}"#, "ec", ES256, "malformed"),
        (r#"{"alg":"ES256","kid":7}"#, "ec", ES256, "malformed"),
        (r#"{"kid":"ec"}"#, "ec", ES256, "malformed"),
        (r#"["ES256"]"#, "ec", ES256, "malformed"),
        ("", "ec", ES256, "malformed"),
    ];
    for (header, key, algorithm, expected) in table {
        assert_eq!(reason(&sign(header, &claims(&json!({})), key, *algorithm)), *expected, "{header} by {key}");
    }
}

/// An issuer with one key.
struct OneKey(Value);

impl KeySource for OneKey {
    fn keys(&self, _: &IssuerSettings, _: KeyFreshness, _: Deadline) -> Result<KeySet, KeysUnavailable> {
        KeySet::parse(json!({"keys": [self.0]}).to_string().as_bytes())
            .map_err(|error| KeysUnavailable { reason: error.to_string() })
    }
}

#[test]
fn the_members_of_a_key_must_agree_with_the_token() {
    let table: &[(&str, Algorithm, Value, &str)] = &[
        ("ec", ES256, json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]}), "accepted"),
        ("ec", ES256, json!({"key_ops": ["sign", "verify"]}), "accepted"),
        ("ec", ES256, json!({"key_ops": ["sign"]}), "key_unfit"),
        ("ec", ES256, json!({"key_ops": []}), "key_unfit"),
        ("ec", ES256, json!({"alg": "ES384"}), "key_unfit"),
        ("ec", ES256, json!({"alg": "ECDH-ES"}), "key_unfit"),
        ("ec", ES256, json!({"alg": ""}), "key_unfit"),
        ("ec", ES256, json!({"crv": "P-384"}), "key_unfit"),
        ("ec", ES256, json!({"crv": null}), "key_unfit"),
        ("ec", ES256, json!({"kty": "OKP"}), "key_unfit"),
        ("ec", ES256, json!({"use": "enc"}), "key_unfit"),
        ("rsa", RS256, json!({"alg": "RS256"}), "accepted"),
        ("rsa", RS256, json!({"alg": "RS512"}), "key_unfit"),
        ("rsa", RS256, json!({"alg": "PS256"}), "key_unfit"),
        ("rsa", RS256, json!({"key_ops": ["encrypt"]}), "key_unfit"),
        ("ed", EdDSA, json!({"alg": "EdDSA"}), "accepted"),
        ("ed", EdDSA, json!({"alg": "ES256"}), "key_unfit"),
        ("ed", EdDSA, json!({"crv": "X25519"}), "key_unfit"),
        ("ed", EdDSA, json!({"crv": "Ed448"}), "key_unfit"),
    ];
    let published = crate::support::keys().jwks["keys"].as_array().unwrap();
    for (name, algorithm, says, expected) in table {
        let mut key = published.iter().find(|key| key["kid"] == *name).unwrap().clone();
        for (member, value) in says.as_object().unwrap() {
            key[member] = value.clone();
        }
        // With and without `kid` in the token. Without one, an unsuitable key does not count as the only one.
        let unnamed = if *expected == "accepted" { "accepted" } else { "key_unknown" };
        for (kid, expected) in [(format!(r#","kid":"{name}""#), *expected), (String::new(), unnamed)] {
            let token = sign(&format!(r#"{{"alg":"{algorithm:?}"{kid}}}"#), &claims(&json!({})), name, *algorithm);
            let (issuer, deadline) = (issuer(""), Deadline::after(Duration::from_secs(5)));
            let issuers = std::slice::from_ref(&issuer);
            let result = verify(&Secret::new(token), issuers, &OneKey(key.clone()), &FixedClock(NOW), deadline);
            let found = result.map_or_else(|rejection| rejection.reason(), |_| "accepted");
            assert_eq!(found, expected, "{name} {says} {kid}");
        }
    }
}

#[test]
fn each_claim_has_its_result() {
    let table: &[(Value, &str)] = &[
        (json!({"aud": "https://testbed"}), "accepted"),
        (json!({"aud": "https://elsewhere"}), "audience"),
        (json!({"aud": ["https://testbed/"]}), "audience"),
        (json!({"aud": []}), "audience"),
        (json!({"aud": {"https://testbed": 1}}), "audience"),
        (json!({"aud": null}), "audience"),
        (json!({"exp": NOW - 29}), "accepted"),
        (json!({"exp": NOW - 30}), "expired"),
        (json!({"exp": 0}), "expired"),
        (json!({"exp": NOW as f64 + 0.5}), "accepted"),
        (json!({"exp": (NOW + 60).to_string()}), "claim_missing"),
        (json!({"exp": -1}), "claim_missing"),
        (json!({"exp": 1e300}), "claim_missing"),
        (json!({"exp": null}), "claim_missing"),
        (json!({"nbf": NOW + 30}), "accepted"),
        (json!({"nbf": NOW + 31}), "not_yet_valid"),
        (json!({"nbf": "soon"}), "claim_missing"),
        (json!({"iat": NOW + 31}), "not_yet_valid"),
        (json!({"iat": NOW - 86_430}), "accepted"),
        (json!({"iat": NOW - 86_431}), "too_old"),
        (json!({"iat": null}), "claim_missing"),
        (json!({"sub": null}), "claim_missing"),
        (json!({"sub": ""}), "claim_missing"),
        (json!({"sub": 7}), "claim_missing"),
        (json!({"iss": null}), "claim_missing"),
        (json!({"iss": "https://op.example.org/"}), "accepted"),
        (json!({"iss": "https://evil.example"}), "issuer_unknown"),
        (json!({"iss": "https://op.example.org.evil.example"}), "issuer_unknown"),
        (json!({"iss": ["https://op.example.org"]}), "claim_missing"),
        (json!({"cnf": {"jkt": "x"}}), "wrong_kind"),
        (json!({"nonce": "n"}), "accepted"), // typ at+jwt: Keycloak before 24 does that
        (json!({"at_hash": "x"}), "wrong_kind"),
        (json!({"c_hash": "x"}), "wrong_kind"),
        (json!({"typ": "Bearer"}), "accepted"),
        (json!({"typ": "ID"}), "wrong_kind"),
        (json!({"typ": "Refresh"}), "wrong_kind"),
        (json!({"typ": "Offline"}), "wrong_kind"),
        (json!({"typ": ["Bearer"]}), "wrong_kind"),
        (json!({"token_use": "id"}), "wrong_kind"),
        (json!({"events": {}}), "wrong_kind"),
        (json!({"token_type": "mytoken"}), "wrong_kind"),
        (json!({"scope": ["openid", "profile"]}), "accepted"),
    ];
    for (changes, expected) in table {
        assert_eq!(reason(&access_token(changes)), *expected, "{changes}");
    }
}

/// The header's `typ` against the issuer's `accept_typ`. RFC 7515 4.1.9: it is a media type, case does not matter, and `application/` is
/// prefixed when it has no slash.
#[test]
fn the_header_must_have_an_accepted_typ() {
    let usual = "";
    let strict = "accept_typ = ['at+jwt']";
    let table: &[(&str, &str, &str)] = &[
        (usual, r#""typ":"at+jwt""#, "accepted"),
        (usual, r#""typ":"AT+JWT""#, "accepted"),
        (usual, r#""typ":"application/at+jwt""#, "accepted"),
        (usual, r#""typ":"Application/At+Jwt""#, "accepted"),
        (usual, r#""typ":"JWT""#, "accepted"),
        (usual, r#""typ":"application/jwt""#, "accepted"),
        (usual, r#""x":1"#, "accepted"),
        (usual, r#""typ":"""#, "wrong_kind"),
        (usual, r#""typ":"application/""#, "wrong_kind"),
        (usual, r#""typ":"text/at+jwt""#, "wrong_kind"),
        (usual, r#""typ":"application/x/at+jwt""#, "wrong_kind"),
        (usual, r#""typ":" at+jwt""#, "wrong_kind"),
        (usual, r#""typ":"id+jwt""#, "wrong_kind"),
        (usual, r#""typ":["at+jwt"]"#, "malformed"),
        (usual, r#""typ":null"#, "malformed"),
        (strict, r#""typ":"at+jwt""#, "accepted"),
        (strict, r#""typ":"application/at+JWT""#, "accepted"),
        (strict, r#""typ":"JWT""#, "wrong_kind"),
        (strict, r#""x":1"#, "wrong_kind"),
        ("accept_typ = ['application/AT+jwt']", r#""typ":"at+jwt""#, "accepted"),
        ("accept_typ = ['']", r#""x":1"#, "accepted"),
        ("accept_typ = ['']", r#""typ":"JWT""#, "wrong_kind"),
        ("accept_typ = ['']", r#""typ":"""#, "wrong_kind"),
        ("accept_typ = ['acme+jwt', 'at+jwt']", r#""typ":"ACME+jwt""#, "accepted"),
        ("accept_typ = ['x/at+jwt']", r#""typ":"x/at+jwt""#, "accepted"),
        ("accept_typ = ['x/at+jwt']", r#""typ":"application/x/at+jwt""#, "wrong_kind"),
        // These are refused under every configuration.
        ("accept_typ = ['acme+jwt', 'at+jwt']", r#""typ":"application/logout+jwt""#, "wrong_kind"),
        ("accept_typ = ['acme+jwt', 'at+jwt']", r#""typ":"MT+JWT""#, "wrong_kind"),
    ];
    for (lines, header, expected) in table {
        let token = sign(&format!(r#"{{"alg":"ES256","kid":"ec",{header}}}"#), &claims(&json!({})), "ec", ES256);
        let result = check(&token, &issuer(lines), &TestKeys::default());
        let found = result.map_or_else(|rejection| rejection.reason(), |_| "accepted");
        assert_eq!(found, *expected, "{lines} {header}");
    }
}

/// Claims of ID tokens, with each header. Keycloak before 24 puts `nonce` into access tokens, and their kind into the payload (MT-57).
#[test]
fn claims_of_id_tokens_are_refused_unless_the_payload_says_bearer() {
    let headers = [r#""typ":"JWT","#, "", r#""typ":"at+jwt","#];
    for name in ["nonce", "at_hash", "c_hash"] {
        for header in headers {
            let reason = |typ: Option<&str>| {
                let mut changes = json!({name: "x"});
                if let Some(typ) = typ {
                    changes["typ"] = json!(typ);
                }
                reason(&sign(&format!(r#"{{"alg":"ES256",{header}"kid":"ec"}}"#), &claims(&changes), "ec", ES256))
            };
            assert_eq!(reason(Some("Bearer")), "accepted", "{name} {header}");
            assert_eq!(reason(Some("bearer")), "accepted", "{name} {header}");
            for typ in ["ID", "Refresh", ""] {
                assert_eq!(reason(Some(typ)), "wrong_kind", "{name} {header} typ={typ}");
            }
            // The header of RFC 9068: no ID token has it.
            let alone = if name == "nonce" && header.contains("at+jwt") { "accepted" } else { "wrong_kind" };
            assert_eq!((reason(None), reason(Some("JWT"))), (alone, alone), "{name} {header}");
        }
    }
}

/// In the code flow an ID token can lack `nonce` and `at_hash` (OpenID Connect Core 2, 3.1.3.6). If its client id is an accepted audience,
/// only the missing scopes show that it is not an access token.
#[test]
fn an_id_token_without_its_marks_is_refused_by_header_audience_or_scope() {
    let header = r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#;
    let id_token =
        |aud: &str| sign(header, &claims(&json!({"aud": aud, "scope": null, "auth_time": NOW - 60})), "ec", ES256);
    for (aud, lines, expected) in [
        ("some-client", "", "audience"),
        ("https://testbed", "", "accepted"),
        ("some-client", "require_audience = false", "accepted"),
        ("https://testbed", "required_scopes = ['openid']", "scope_missing"),
        ("some-client", "require_audience = false\nrequired_scopes = ['openid']", "scope_missing"),
        ("https://testbed", "accept_typ = ['at+jwt']", "wrong_kind"),
    ] {
        let settings = issuer(lines);
        let result = check(&id_token(aud), &settings, &TestKeys::default());
        assert_eq!(result.map_or_else(|rejection| rejection.reason(), |_| "accepted"), expected, "{aud} {lines}");
        assert_eq!(settings.refuses_id_tokens(), matches!(expected, "scope_missing" | "wrong_kind"), "{lines}");
    }
}

#[test]
fn an_id_token_is_refused() {
    let header = r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#;
    let id_token = sign(header, &claims(&json!({"nonce": "n"})), "ec", ES256);
    assert_eq!(reason(&id_token), "wrong_kind");
}

#[test]
fn malformed_tokens_are_refused() {
    let good = access_token(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let header = r#"{"alg":"ES256","kid":"ec"}"#;
    let big = sign(header, &claims(&json!({"x": "x".repeat(50_000)})), "ec", ES256);
    let twice = sign(header, &claims(&json!({})).replacen('{', r#"{"sub":"root","#, 1), "ec", ES256);
    let inner = sign(header, &claims(&json!({"a": "@"})).replace("\"@\"", r#"{"b":1,"b":2}"#), "ec", ES256);
    let table: &[(String, &str)] = &[
        (good.clone(), "accepted"),
        (format!("{}.{}.", parts[0], parts[1]), "signature"),
        (format!("{}.{}.{}", parts[0], b64(claims(&json!({"sub": "root"}))), parts[2]), "signature"),
        (format!("{}.{}.{}", parts[0], parts[1], parts[2].chars().rev().collect::<String>()), "signature"),
        (good.get(..good.len() - 3).unwrap().to_owned(), "signature"),
        (format!("{good}="), "signature"),
        (format!("{}=.{}.{}", parts[0], parts[1], parts[2]), "malformed"),
        (format!("{}.{}", parts[0], parts[1]), "malformed"),
        (format!("{good}.x.y"), "malformed"),
        (format!("{}.{}.{} ", parts[0], parts[1], parts[2]), "accepted"), // blanks around are not part of it
        (good.replacen('.', ".\u{7f}", 1), "malformed"),
        (good.replacen('.', ". ", 1), "malformed"),
        (good.replacen('.', "\u{e4}.", 1), "malformed"),
        (big, "malformed"),
        (twice, "malformed"),
        (inner, "malformed"),
        (sign(header, "[]", "ec", ES256), "malformed"),
        (sign(header, "null", "ec", ES256), "malformed"),
        (String::new(), "malformed"),
        ("..".to_owned(), "malformed"),
    ];
    for (token, expected) in table {
        assert_eq!(reason(token), *expected, "{token:.80}");
    }
}

#[test]
fn an_unknown_issuer_causes_no_request() {
    for changes in [json!({"iss": "https://evil.example"}), json!({"iss": null}), json!({"iss": 7})] {
        let source = TestKeys::default();
        assert!(check(&access_token(&changes), &issuer(""), &source).is_err());
        assert!(source.calls.borrow().is_empty(), "{changes}");
    }
}

#[test]
fn a_malformed_token_causes_no_request() {
    let header = r#"{"alg":"none"}"#;
    let source = TestKeys::default();
    for token in
        [sign(header, &claims(&json!({})), "ec", ES256), access_token(&json!({"at_hash": "x"})), "a.b.c".into()]
    {
        assert!(check(&token, &issuer(""), &source).is_err());
    }
    assert!(source.calls.borrow().is_empty());
}

#[test]
fn an_unknown_key_is_looked_up_twice() {
    let source = TestKeys::default();
    let token = sign(r#"{"alg":"ES256","kid":"new"}"#, &claims(&json!({})), "ec", ES256);
    assert_eq!(check(&token, &issuer(""), &source), Err(Rejection::KeyUnknown));
    assert_eq!(*source.calls.borrow(), [KeyFreshness::Configured, KeyFreshness::Newest]);
}

#[test]
fn without_keys_the_verification_is_unavailable() {
    let source = TestKeys { unavailable: true, ..TestKeys::default() };
    let rejection = check(&access_token(&json!({})), &issuer(""), &source).unwrap_err();
    assert!(matches!(rejection, Rejection::KeysUnavailable(_)), "{rejection}");
}
