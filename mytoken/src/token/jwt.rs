// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recognising a JWT: three parts, the first a JSON object in base64url. Nothing is verified here.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

/// The standard forbids padding, but some issuers append it. So padding is accepted.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The header and some claims of an unverified JWT. Use them only to choose a configured issuer by exact comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Jwt {
    /// Header `alg`.
    pub alg: Option<String>,
    /// Header `typ`.
    pub typ: Option<String>,
    /// Claim `iss`.
    pub unverified_issuer: Option<String>,
    /// Claim `exp` in Unix seconds.
    pub unverified_exp: Option<u64>,
    /// Claim `iat` in Unix seconds.
    pub unverified_iat: Option<u64>,
    /// Claim `aud`: a text, or a list.
    pub unverified_audience: Vec<String>,
    /// Claims `scope` and `scp`: a text with blanks, or a list.
    pub unverified_scope: Vec<String>,
}

impl Jwt {
    /// Seconds between issue and expiry. They do not depend on any clock.
    #[must_use]
    pub fn unverified_lifetime(&self) -> Option<u64> {
        self.unverified_exp?.checked_sub(self.unverified_iat?)
    }
}

pub(super) enum Parsed {
    /// The text does not have the form of a JWT.
    NotJwt,
    /// The header can be read, the claims cannot.
    Broken,
    /// Header and claims can be read.
    Good {
        /// The header and some claims.
        jwt: Jwt,
        /// All claims.
        payload: Map<String, Value>,
        /// Whether the signature has the length that its algorithm produces.
        signature_fits: bool,
    },
}

pub(super) fn parse(text: &str) -> Parsed {
    let mut parts = text.split('.');
    let (first, second, third, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    let Some(header) = first.and_then(decode) else { return Parsed::NotJwt };
    let (Some(payload), Some(signature)) = (second, third) else { return Parsed::Broken };
    if rest.is_some() {
        return Parsed::NotJwt; // an encrypted token (JWE) has five parts
    }
    let Some(payload) = decode(payload) else { return Parsed::Broken };
    let text = |name: &str| header.get(name).and_then(Value::as_str).map(str::to_owned);
    let (alg, typ) = (text("alg"), text("typ"));
    let signature_fits = signature_fits(alg.as_deref().unwrap_or_default(), signature);
    let jwt = Jwt {
        alg,
        typ,
        unverified_issuer: payload.get("iss").and_then(Value::as_str).map(str::to_owned),
        unverified_exp: payload.get("exp").and_then(Value::as_u64),
        unverified_iat: payload.get("iat").and_then(Value::as_u64),
        unverified_audience: texts(&payload, "aud").map(str::to_owned).collect(),
        unverified_scope: ["scope", "scp"]
            .into_iter()
            .flat_map(|name| texts(&payload, name))
            .flat_map(str::split_ascii_whitespace)
            .map(str::to_owned)
            .collect(),
    };
    Parsed::Good { jwt, payload, signature_fits }
}

/// A claim that is a text, or a list of texts.
fn texts<'a>(payload: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a str> {
    let value = payload.get(name);
    let list = value.and_then(Value::as_array).into_iter().flatten();
    value.and_then(Value::as_str).into_iter().chain(list.filter_map(Value::as_str))
}

fn decode(part: &str) -> Option<Map<String, Value>> {
    let bytes = zeroize::Zeroizing::new(BASE64.decode(part).ok()?);
    serde_json::from_slice(&bytes).ok()
}

/// Whether the signature has the length that `alg` produces. A JWT that was cut often still has three parts, but a shorter signature.
fn signature_fits(alg: &str, signature: &str) -> bool {
    let Ok(bytes) = BASE64.decode(signature) else { return false };
    match alg {
        "ES256" | "ES256K" | "EdDSA" | "Ed25519" => bytes.len() == 64,
        "ES384" => bytes.len() == 96,
        "ES512" => bytes.len() == 132,
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => matches!(bytes.len(), 256 | 384 | 512 | 1024),
        _ => true,
    }
}
