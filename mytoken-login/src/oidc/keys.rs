// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys that an issuer publishes (JWKS, RFC 7517), and the choice of the key for a token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::Deadline;
use mytoken::config::{Algorithm, IssuerSettings};
use ring::signature::RsaPublicKeyComponents;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Rejection;
use super::signature::{Scheme, VerificationKey};

/// Maximum number of keys of a set that are read. Issuers publish two or three.
const KEYS_LIMIT: usize = 100;

/// Smallest accepted RSA modulus, in bits.
const RSA_BITS: usize = 2_048;

/// A source of issuers' keys.
pub trait KeySource {
    /// The keys of `issuer`. With [`KeyFreshness::Newest`] the source may ask the issuer again, but not for every token.
    ///
    /// # Errors
    /// [`KeysUnavailable`] when there are no keys, not even old ones.
    fn keys(
        &self,
        issuer: &IssuerSettings,
        freshness: KeyFreshness,
        deadline: Deadline,
    ) -> Result<KeySet, KeysUnavailable>;
}

/// How fresh keys must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFreshness {
    /// As fresh as the settings say.
    Configured,
    /// Newer than that: the `kid` of a token is not in the stored keys.
    Newest,
}

/// The keys of an issuer cannot be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct KeysUnavailable {
    /// Why, for the log.
    pub reason: String,
}

/// A document is not a usable JWKS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKeySet(
    /// The problem.
    &'static str,
);

/// A set of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A published key. [`KeySet::parse`] skips keys of unknown types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_ops: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWKS document. Malformed keys and keys of unknown types are skipped.
    ///
    /// # Errors
    /// [`InvalidKeySet`] when it is not a JWKS or holds no usable key. Old keys then stay in use.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        let document: Value = serde_json::from_slice(document).map_err(|_| InvalidKeySet("its key set is not JSON"))?;
        let list =
            document.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet("its key set has no list of keys"))?;
        let keys: Vec<Key> = list
            .iter()
            .take(KEYS_LIMIT)
            .filter_map(|key| Key::deserialize(key).ok())
            .filter(|key| matches!(key.kty.as_str(), "RSA" | "EC" | "OKP"))
            .collect();
        if keys.is_empty() { Err(InvalidKeySet("its key set holds no public key")) } else { Ok(Self { keys }) }
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of the keys can verify signatures of one of these algorithms.
    #[must_use]
    pub fn has_key_for(&self, algorithms: &[Algorithm]) -> bool {
        let pairs = self.keys.iter().flat_map(|key| algorithms.iter().map(move |algorithm| (key, algorithm)));
        pairs.into_iter().any(|(key, algorithm)| key.verification_key(*algorithm).is_ok())
    }

    /// The key for a token with this `kid` and algorithm. Without a `kid`, exactly one key must be suitable.
    pub(super) fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Result<VerificationKey, Rejection> {
        let suitable = |key: &&Key| key.is_for(algorithm);
        match key_id {
            Some(id) => {
                let named: Vec<&Key> = self.keys.iter().filter(|key| key.kid.as_deref() == Some(id)).collect();
                let first = named.first().ok_or(Rejection::KeyUnknown)?;
                named.iter().copied().find(|key| suitable(key)).unwrap_or(first).verification_key(algorithm)
            }
            None => {
                let mut keys = self.keys.iter().filter(suitable);
                match (keys.next(), keys.next()) {
                    (Some(only), None) => only.verification_key(algorithm),
                    _ => Err(Rejection::KeyUnknown),
                }
            }
        }
    }
}

impl Key {
    /// Whether type, curve and purpose of the key are right for `algorithm`.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let kind = match algorithm {
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => ("RSA", None),
            ES256 => ("EC", Some("P-256")),
            ES384 => ("EC", Some("P-384")),
            EdDSA => ("OKP", Some("Ed25519")),
        };
        self.kty == kind.0
            && (kind.1.is_none() || self.crv.as_deref() == kind.1)
            && self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"))
            && self.alg.as_deref().is_none_or(|own| Algorithm::from_name(own) == Some(algorithm))
    }

    fn verification_key(&self, algorithm: Algorithm) -> Result<VerificationKey, Rejection> {
        if !self.is_for(algorithm) {
            return Err(Rejection::KeyUnfit);
        }
        let decode = |part: &Option<String>| {
            part.as_deref().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or(Rejection::KeyUnfit)
        };
        Ok(match Scheme::of(algorithm) {
            Scheme::Rsa(parameters) => {
                let parts = RsaPublicKeyComponents { n: decode(&self.n)?, e: decode(&self.e)? };
                if bits(&parts.n) < RSA_BITS {
                    return Err(Rejection::KeyUnfit);
                }
                VerificationKey::Rsa(parameters, parts)
            }
            Scheme::Ecdsa(curve) => VerificationKey::ecdsa(curve, &decode(&self.x)?, &decode(&self.y)?),
            Scheme::Ed25519 => VerificationKey::ed25519(decode(&self.x)?),
        })
    }
}

/// Length in bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
}
