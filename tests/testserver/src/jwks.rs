// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signatures of JWTs against a JWKS. Times, issuer and audience are the caller's business.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

const ACCEPTED: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The claims of a JWT whose signature is good.
///
/// # Errors
/// A sentence on what is wrong with the token.
pub fn verify(token: &str, keys: &JwkSet) -> Result<Map<String, Value>, String> {
    let header = decode_header(token).map_err(|_| "the token is no signed JWT".to_owned())?;
    if !ACCEPTED.contains(&header.alg) {
        return Err(format!("the algorithm {:?} is not accepted", header.alg));
    }
    if has_critical_extension(token) {
        return Err("the header has critical extensions".into());
    }
    let kid = header.kid.ok_or("the header names no key")?;
    let jwk = keys.find(&kid).ok_or("the key is not among those of the issuer")?;
    // `alg` of the key, not of the header, says how to check (RFC 8725, 3.1).
    let published = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    if published.as_deref() != Some(&format!("{:?}", header.alg)) {
        return Err("the algorithm is not that of the key".into());
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "the key of the issuer cannot be used".to_owned())?;
    let mut checks = Validation::new(header.alg);
    checks.validate_exp = false;
    checks.validate_aud = false;
    checks.required_spec_claims.clear();
    decode::<Map<String, Value>>(token, &key, &checks)
        .map(|data| data.claims)
        .map_err(|_| "the signature is not good".to_owned())
}

fn has_critical_extension(token: &str) -> bool {
    use base64::Engine;
    let header = token.split('.').next().unwrap_or_default();
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .ok()
        .and_then(|text| serde_json::from_slice::<Map<String, Value>>(&text).ok())
        .is_none_or(|header| header.contains_key("crit"))
}
