// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mytokens as JWTs (MT-50): ES512, no `kid`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use p521::ecdsa::signature::{Signer, Verifier};
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sha3::Sha3_256;

use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::model::clauses::Clause;
use crate::mytoken::model::codes;
use crate::mytoken::model::rotation::Rotation;

/// The claims of a mytoken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MytokenClaims {
    pub ver: String,
    pub token_type: String,
    pub iss: String,
    pub sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    pub nbf: i64,
    pub iat: i64,
    pub auth_time: i64,
    pub jti: String,
    pub seq_no: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub aud: String,
    pub oidc_sub: String,
    pub oidc_iss: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restrictions: Vec<Clause>,
    pub capabilities: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// The signing key with its public half.
pub struct MytokenKey {
    signing: SigningKey,
    verifying: VerifyingKey,
}

impl MytokenKey {
    /// A new key.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn generate() -> ApiResult<Self> {
        loop {
            let mut scalar = codes::bytes::<66>()?;
            // The order of the curve has 521 bits: a random number of 528 bits is nearly always too large.
            if let Some(first) = scalar.first_mut() {
                *first &= 1;
            }
            if let Ok(signing) = SigningKey::from_slice(&scalar) {
                let verifying = VerifyingKey::from(&signing);
                return Ok(Self { signing, verifying });
            }
        }
    }

    /// Signs claims.
    ///
    /// # Errors
    /// Encoding or signing failed.
    pub fn sign(&self, claims: &MytokenClaims) -> ApiResult<String> {
        let fail = |error: &dyn std::fmt::Display| ApiError::internal(error.to_string());
        let payload = serde_json::to_vec(claims).map_err(|error| fail(&error))?;
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"ES512","typ":"MT+JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature: Signature = self.signing.try_sign(signed.as_bytes()).map_err(|error| fail(&error))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())))
    }

    /// Verifies the signature, and nothing else, and returns the claims.
    ///
    /// # Errors
    /// The signature is wrong.
    pub fn verify(&self, token: &str) -> ApiResult<MytokenClaims> {
        let bad = || ApiError::invalid_token("crypto/ecdsa: verification error");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(bad)?;
        // MT-04: Go's base64 decoder skips line breaks, so the signature of a token with a newline at its end is valid.
        let signature: String = signature.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| bad())?;
        let signature = Signature::from_slice(&signature).map_err(|_| bad())?;
        self.verifying.verify(signed.as_bytes(), &signature).map_err(|_| bad())?;
        let (_, payload) = signed.split_once('.').ok_or_else(bad)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| bad())?;
        serde_json::from_slice(&payload).map_err(|error| ApiError::invalid_token(error.to_string()))
    }

    /// The key set of `/jwks`.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let point = self.verifying.to_encoded_point(false);
        let part = |bytes: Option<&[u8]>| URL_SAFE_NO_PAD.encode(bytes.unwrap_or_default());
        let (x, y) = (part(point.x().map(|x| &x[..])), part(point.y().map(|y| &y[..])));
        // RFC 7638: the required members in lexical order.
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"P-521","kty":"EC","x":"{x}","y":"{y}"}}"#));
        json!({"keys": [{
            "alg": "ES512", "crv": "P-521", "kid": URL_SAFE_NO_PAD.encode(thumbprint),
            "kty": "EC", "use": "sig", "x": x, "y": y,
        }]})
    }
}

/// Whether the original takes a text for a JWT (MT-51). It looks up all other texts as short tokens. The signature must
/// decode as padded base64url; ES512 signatures happen to need no padding.
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let signature: String = signature.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let header = URL_SAFE_NO_PAD.decode(header).ok().and_then(|raw| serde_json::from_slice::<Value>(&raw).ok());
    header.is_some_and(|header| header.get("alg").is_some()) && URL_SAFE.decode(signature).is_ok()
}

/// The claims of a JWT without verification, for tokens that come directly from their issuer.
#[must_use]
pub fn unverified_claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload) = (parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The claim `sub` (MT-52).
#[must_use]
pub fn subject(oidc_sub: &str, oidc_iss: &str) -> String {
    STANDARD.encode(Sha3_256::digest(format!("{oidc_sub}@{oidc_iss}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_is_a_hash_of_subject_and_issuer() {
        let sub = |issuer| subject("alice-0001", issuer);
        assert_eq!(sub("https://op.example.org"), "er/7Lx8gFirVNfzUiaAJ+7qSVAGvrpl6I3uIrNjB/H0=");
        assert_eq!(sub("https://op.example.org/"), "niUkkXUWqjQoL49Iy6edKF3ijC7dzk9zCPUtKVJeE5A=");
    }

    #[test]
    fn only_jwts_are_recognised() {
        assert!(looks_like_jwt("eyJhbGciOiJFUzUxMiIsInR5cCI6Ik1UK0pXVCJ9.eyJhIjoxfQ.AAAA"));
        assert!(!looks_like_jwt("aaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbb.cccccccccccccccccccccc"));
        assert!(!looks_like_jwt(" eyJhbGciOiJFUzUxMiJ9.eyJhIjoxfQ.AAAA"));
        assert!(!looks_like_jwt("eyJhbGciOiJFUzUxMiJ9.eyJhIjoxfQ"));
    }

    #[test]
    fn a_signed_token_is_accepted_and_a_changed_one_is_not() {
        let key = MytokenKey::generate().unwrap();
        let claims = MytokenClaims {
            ver: "0.7".into(),
            token_type: "mytoken".into(),
            iss: "i".into(),
            sub: "s".into(),
            exp: None,
            nbf: 1,
            iat: 1,
            auth_time: 1,
            jti: "j".into(),
            seq_no: 1,
            name: String::new(),
            aud: "i".into(),
            oidc_sub: "o".into(),
            oidc_iss: "p".into(),
            restrictions: Vec::new(),
            capabilities: vec!["AT".into()],
            rotation: None,
        };
        let token = key.sign(&claims).unwrap();
        assert!(looks_like_jwt(&token));
        assert_eq!(key.verify(&token).unwrap().jti, "j");
        assert_eq!(key.verify(&format!("{token}\n")).unwrap().jti, "j");
        assert!(MytokenKey::generate().unwrap().verify(&token).is_err());
        let other = key.sign(&MytokenClaims { jti: "k".into(), ..claims }).unwrap();
        let mixed = format!("{}.{}", token.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
        assert!(key.verify(&mixed).is_err());
    }
}
