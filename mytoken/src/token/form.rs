// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a text that calls itself a mytoken has the form of one (dossier `mytoken-protocol` 15.1).
//!
//! This proves nothing: anybody can write such a text. It keeps what no mytoken server can have made from being sent to one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha3::{Digest, Sha3_256};

use super::Jwt;

/// Longest mytoken as JWT that is sent for somebody unknown. One with four clauses has 1.7 KB; the original reads 8 KiB of headers.
pub(super) const LONGEST: usize = 16 * 1024;

/// Difference between two clocks that is nobody's fault, in seconds.
const LEEWAY: u64 = 60;

/// Whether header and claims are those of a mytoken that may be valid at `now` (Unix seconds).
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
