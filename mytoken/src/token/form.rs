// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks whether a JWT has the form of a mytoken (MT-50).
//!
//! The form proves nothing, because anybody can write such a text. The check avoids requests with texts that no mytoken server issued.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha3::{Digest, Sha3_256};

use super::Jwt;

/// Longest mytoken, in bytes, that is sent for an unknown person. A mytoken with four clauses has 1.7 KB; the server reads 8 KiB of headers
/// (MT-56).
pub(super) const LONGEST: usize = 16 * 1024;

/// Difference between two clocks that is tolerated, in seconds.
const LEEWAY: u64 = 60;

/// Whether header and claims have the form of a mytoken that can be valid at `now` (Unix seconds).
pub(super) fn is_mytoken(jwt: &Jwt, payload: &Map<String, Value>, signature_fits: bool, now: u64) -> bool {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let signed = matches!(
        jwt.alg.as_deref(),
        Some("ES256" | "ES384" | "ES512" | "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" | "EdDSA")
    );
    let subject = Sha3_256::digest(format!("{}@{}", text("oidc_sub"), text("oidc_iss")));
    signed
        && signature_fits
        && jwt.typ.as_deref() == Some("MT+JWT")
        && text("token_type") == "mytoken"
        && text("aud") == text("iss")
        && !text("ver").is_empty()
        && is_uuid(text("jti"))
        && text("sub") == STANDARD.encode(subject)
        && payload.get("exp").is_none_or(|exp| exp.as_u64().is_some_and(|exp| exp.saturating_add(LEEWAY) > now))
}

/// A UUID as the server writes it: lower case, with dashes.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn header() -> Jwt {
        Jwt { alg: Some("ES512".into()), typ: Some("MT+JWT".into()), ..Jwt::default() }
    }

    fn claims(changes: Value) -> Map<String, Value> {
        let subject = STANDARD.encode(Sha3_256::digest("alice@https://op.example.org"));
        let claims = json!({"ver": "0.7", "token_type": "mytoken", "iss": "https://mt", "aud": "https://mt", "sub": subject,
            "oidc_sub": "alice", "oidc_iss": "https://op.example.org", "jti": "3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242",
            "exp": NOW + 60});
        let (Value::Object(mut claims), Value::Object(changes)) = (claims, changes) else { panic!("no objects") };
        claims.extend(changes);
        claims
    }

    #[test]
    fn every_part_of_the_form_is_checked() {
        assert!(is_mytoken(&header(), &claims(json!({})), true, NOW));
        let mut endless = claims(json!({}));
        endless.remove("exp");
        assert!(is_mytoken(&header(), &endless, true, NOW), "a mytoken without expiry does not expire");
        assert!(is_mytoken(&header(), &claims(json!({})), true, NOW + 119), "the clocks may differ");

        assert!(!is_mytoken(&header(), &claims(json!({})), true, NOW + 120));
        assert!(!is_mytoken(&header(), &claims(json!({})), false, NOW));
        for header in [
            Jwt { alg: None, ..header() },
            Jwt { alg: Some("none".into()), ..header() },
            Jwt { alg: Some("HS512".into()), ..header() },
            Jwt { typ: None, ..header() },
            Jwt { typ: Some("JWT".into()), ..header() },
        ] {
            assert!(!is_mytoken(&header, &claims(json!({})), true, NOW), "{header:?}");
        }
        for changes in [
            json!({"token_type": "Bearer"}),
            json!({"aud": "https://elsewhere"}),
            json!({"aud": ["https://mt"]}),
            json!({"ver": ""}),
            json!({"ver": 7}),
            json!({"jti": "3F2B7C1E-5D4A-4C8E-9A10-77B1C0DE4242"}),
            json!({"jti": "3f2b7c1e-5d4a-4c8e-9a10-77b1c0de424"}),
            json!({"sub": "alice"}),
            json!({"oidc_sub": "bob"}),
            json!({"exp": "tomorrow"}),
            json!({"exp": -1}),
        ] {
            assert!(!is_mytoken(&header(), &claims(changes.clone()), true, NOW), "{changes}");
        }
    }
}
