// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts that a person may enter at a prompt.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

fn part(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &str, payload: &str, signature: usize) -> String {
    format!("{}.{}.{}", part(header.as_bytes()), part(payload.as_bytes()), part(&vec![7; signature]))
}

fn mytoken(payload: &str) -> String {
    token(r#"{"alg":"ES512","typ":"MT+JWT"}"#, payload, 132)
}

/// A word for each form, so that the tables are readable.
fn form(text: &str) -> &'static str {
    match classify(&Secret::new(text)) {
        Presented::AccessToken(_) => "access token",
        Presented::Opaque => "opaque",
        Presented::OneTimePassword => "one-time password",
        Presented::Mytoken(_) => "mytoken",
        Presented::ShortToken => "short token",
        Presented::TransferCode => "transfer code",
        Presented::Garbage(why) => why.as_str(),
    }
}

/// An access token of exactly `length` bytes.
fn access_token_of(length: usize, signature: usize) -> String {
    let make = |fill: usize| {
        token(r#"{"alg":"RS256"}"#, &format!(r#"{{"iss":"https://op","x":"{}"}}"#, "x".repeat(fill)), signature)
    };
    (0..length).map(make).find(|token| token.len() >= length).filter(|token| token.len() == length).unwrap()
}

#[test]
fn texts_are_classified_by_their_form() {
    let op = r#"{"iss":"https://op.example.org","exp":5}"#;
    let letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNOPQRSTUVWXYZ";
    let table: Vec<(String, &str)> = vec![
        (token(r#"{"alg":"RS256","typ":"at+jwt"}"#, op, 256), "access token"),
        (token(r#"{"alg":"none"}"#, op, 0), "access token"), // only its form; the verifier refuses it
        (format!("  {}\n", token(r#"{"alg":"RS256"}"#, op, 256)), "access token"),
        (mytoken(r#"{"iss":"https://mt.example.org","token_type":"mytoken"}"#), "mytoken"),
        (mytoken(r#"{"iss":"https://mt.example.org"}"#), "mytoken"), // by typ
        (token(r#"{"alg":"ES512"}"#, r#"{"iss":"https://mt","token_type":"mytoken"}"#, 132), "mytoken"), // by claim
        (mytoken(r#"{"token_type":"mytoken"}"#), "a damaged token"), // no issuer
        (mytoken(r#"{"iss":"https://mt","restrictions":7}"#), "a damaged token"),
        ("abcdefgh".into(), "transfer code"),
        ("abcdefgl".into(), "too short for a token"), // l is not in the alphabet
        ("abcdefgI".into(), "too short for a token"),
        ("abcdefg".into(), "too short for a token"),
        ("abcdefghj".into(), "too short for a token"),
        ("hunter22".into(), "too short for a token"),
        (letters.into(), "short token"),
        (letters.get(..32).unwrap().into(), "short token"),
        (letters.get(..31).unwrap().into(), "opaque"),
        (format!("{letters}l"), "opaque"),
        ("opaque-access-token-0123456789".into(), "opaque"),
        ("0a".repeat(64), "one-time password"),
        ("0A".repeat(64), "opaque"),
        ("0a".repeat(63), "opaque"),
        (format!("{}0", "0a".repeat(64)), "opaque"),
        (format!("{}0g", "0a".repeat(63)), "opaque"),
        ("a".repeat(128), "short token"), // letters only: no such hash will occur
        ("a.b.c".into(), "too short for a token"),
        ("ya29.abcdefghijklmnop".into(), "opaque"),
        ("aaaaaaaa.bbbbbbbb.cccccccc".into(), "opaque"), // no JSON in the header
        (format!("{}.!!!.AAAA", part(br#"{"alg":"RS256"}"#)), "a damaged token"),
        (format!("{}.{}.AAAA", part(br#"{"alg":"RS256"}"#), part(b"[1]")), "a damaged token"),
        (part(br#"{"alg":"RS256"}"#) + ".", "a damaged token"),
        (format!("{}.{}.AAAA", part(br#"["RS256","JWT"]"#), part(b"{}")), "opaque"), // a list is not a header
        (format!("{}.a.b.c.d", part(br#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)), "opaque"), // encrypted
        (String::new(), "nothing was entered"),
        (" \r\n".into(), "nothing was entered"),
        ("\u{8}\n\r\u{7f}INCORRECT\u{8}\n\r\u{7f}INCORRECT".into(), "sshd's placeholder for a forbidden account"),
        ("two words of more than sixteen".into(), "characters that no token has"),
        ("abcdefgh\u{0}".into(), "characters that no token has"),
        ("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}".into(), "characters that no token has"),
        ("1".repeat(TOKEN_LIMIT), "opaque"),
        ("x".repeat(TOKEN_LIMIT + 1), "longer than any token"),
        ("x".repeat(70 * 1024), "longer than any token"),
    ];
    for (text, expected) in table {
        assert_eq!(form(&text), expected, "{:.60}", text);
    }
}

#[test]
fn a_token_that_the_client_cut_is_recognised() {
    for length in [511, 1023, 1024, 4095] {
        let whole = token(r#"{"alg":"RS256"}"#, &format!(r#"{{"iss":"https://op","x":"{}"}}"#, "x".repeat(4000)), 256);
        assert_eq!(form(&whole[..length]), "cut by the client", "within the claims at {length}");
        assert_eq!(form(&"1".repeat(length)), "cut by the client", "opaque at {length}");
        let longer = access_token_of(length + 100, 256);
        assert_eq!(form(&longer[..length]), "cut by the client", "within the signature at {length}");
    }
    assert_eq!(form(&access_token_of(1024, 256)), "access token", "a whole token of this length");
    assert_eq!(form(&"1".repeat(1022)), "opaque");
}

#[test]
fn the_unverified_claims_of_a_mytoken_can_be_read() {
    let text = mytoken(
        r#"{"ver":"0.7","token_type":"mytoken","iss":"https://mt.example.org","sub":"er/7Lx8","exp":1767312000,
            "nbf":1767225600,"iat":1767225600,"auth_time":1767225580,"jti":"3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242","seq_no":1,
            "name":"login01: batch","aud":"https://mt.example.org","oidc_sub":"alice-0001","oidc_iss":"https://op.example.org",
            "restrictions":[{"exp":1767312000,"scope":"openid compute.read","hosts":["192.0.2.0/24"],"usages_AT":50}],
            "capabilities":["AT","tokeninfo:introspect"],"rotation":{"on_AT":true,"auto_revoke":true}}"#,
    );
    let claims = unverified_claims(&Secret::new(text)).unwrap();
    let claims = claims.unverified();
    assert_eq!(claims.iss, "https://mt.example.org");
    assert_eq!((claims.exp, claims.seq_no), (Some(1_767_312_000), Some(1)));
    assert_eq!(claims.oidc_sub, "alice-0001");
    assert_eq!(claims.name, "login01: batch");
    assert!(claims.capabilities.has("AT"));
    assert_eq!(claims.restrictions[0].usages_at, Some(50));
    assert!(claims.rotates());
}

#[test]
fn a_token_without_rotation_does_not_rotate() {
    for (rotation, rotates) in
        [("null", false), ("{}", false), (r#"{"lifetime":100}"#, false), (r#"{"on_other":true}"#, true)]
    {
        let text = mytoken(&format!(r#"{{"iss":"https://mt","rotation":{rotation}}}"#));
        assert_eq!(unverified_claims(&Secret::new(text)).unwrap().unverified().rotates(), rotates, "{rotation}");
    }
}

proptest! {
    #[test]
    fn classifying_any_text_never_panics(text in "\\PC{0,200}") {
        let secret = Secret::new(text);
        let claims = unverified_claims(&secret);
        match classify(&secret) {
            Presented::Mytoken(own) => prop_assert_eq!(claims, Some(*own)),
            presented => {
                prop_assert!(claims.is_none());
                let of_letters = matches!(presented, Presented::TransferCode | Presented::ShortToken);
                prop_assert!(!of_letters || secret.expose().bytes().all(is_code_letter));
            }
        }
    }

    #[test]
    fn classifying_any_claims_never_panics(header in "[{}\":a-zA-Z+,]{0,30}", payload in "[{}\\[\\]\":a-z_,0-9-]{0,60}", length in 0_usize..140) {
        let readable = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&payload).is_ok();
        let jwt = |presented| matches!(presented, Presented::AccessToken(_) | Presented::Mytoken(_));
        prop_assert!(readable || !jwt(classify(&Secret::new(token(&header, &payload, length)))));
        // Without an issuer it is not a mytoken.
        let issuer = readable && payload.contains("\"iss\"");
        prop_assert!(issuer || !jwt(classify(&Secret::new(mytoken(&payload)))));
    }

    #[test]
    fn only_visible_ascii_is_classified_as_a_token(text in "[\\x00-\\x7f]{1,80}") {
        let secret = Secret::new(text);
        if !matches!(classify(&secret), Presented::Garbage(_)) {
            prop_assert!(secret.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
