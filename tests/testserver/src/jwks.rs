// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verifies signatures of JWTs with the keys of a JWKS. The caller checks times, issuer and audience. This is not the
//! product's code, because the product is under test.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

/// Returns the claims of a JWT if its signature is valid.
///
/// # Errors
/// Why the token is refused.
pub fn verify(token: &str, keys: &Value) -> Result<Map<String, Value>, String> {
    let malformed = || "the token is not a signed JWT".to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return Err(malformed()) };
    let header = object(header).ok_or_else(malformed)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or_else(malformed)?;
    if signature.is_empty() {
        return Err(malformed());
    }
    if !matches!(algorithm, "RS256" | "ES256" | "EdDSA") {
        return Err(format!("the algorithm {algorithm} is not accepted"));
    }
    if header.contains_key("crit") {
        return Err("the header has critical extensions".into());
    }
    let kid = header.get("kid").and_then(Value::as_str).ok_or("the header has no kid")?;
    let has_kid = |key: &&Value| key.get("kid").and_then(Value::as_str) == Some(kid);
    let key = keys.get("keys").and_then(Value::as_array).and_then(|keys| keys.iter().find(has_kid));
    let key = key.ok_or("the issuer has no key with this kid")?;
    // `alg` of the key, not of the header, says how to check (RFC 8725, 3.1).
    if key.get("alg").and_then(Value::as_str) != Some(algorithm) {
        return Err("the key is for another algorithm".into());
    }
    let (signed, _) = token.rsplit_once('.').ok_or_else(malformed)?;
    if !is_signature_valid(signed.as_bytes(), signature, key, algorithm) {
        return Err("the signature is wrong".into());
    }
    object(payload).ok_or_else(|| "the claims are not a JSON object".to_owned())
}

fn is_signature_valid(message: &[u8], signature: &str, key: &Value, algorithm: &str) -> bool {
    let part = |name| key.get(name).and_then(Value::as_str).and_then(bytes);
    let Some(signature) = bytes(signature) else { return false };
    let checked = match algorithm {
        "RS256" => part("n")
            .zip(part("e"))
            .map(|(n, e)| RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)),
        "ES256" => part("x").zip(part("y")).map(|(x, y)| {
            let point = [&[4], &x[..], &y[..]].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
        }),
        _ => part("x").map(|x| UnparsedPublicKey::new(&ED25519, x).verify(message, &signature)),
    };
    checked.is_some_and(|checked| checked.is_ok())
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&bytes(part)?).ok()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
