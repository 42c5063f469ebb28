// SPDX-License-Identifier: MIT OR Apache-2.0
//! A signing key: makes it, signs with it, publishes it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Signature algorithms of the provider's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA 2048, PKCS#1 v1.5, SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// P-256, SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// The name in a JOSE header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key pair with its name in the JWKS.
pub struct ProviderKey {
    /// Key id.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    pkcs8: Vec<u8>,
    pair: Pair,
}

impl ProviderKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(algorithm: Algorithm) -> Result<Self, String> {
        let rng = SystemRandom::new();
        let failed = |_| format!("cannot make a {} key", algorithm.name());
        let pkcs8 = match algorithm {
            Algorithm::Rs256 => rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048)
                .map_err(|error| error.to_string())?
                .to_pkcs8_der()
                .map_err(|error| error.to_string())?
                .as_bytes()
                .to_vec(),
            Algorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
                .map_err(failed)?
                .as_ref()
                .to_vec(),
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?.as_ref().to_vec(),
        };
        Self::from_pkcs8(algorithm, pkcs8)
    }

    /// Reads a stored key.
    ///
    /// # Errors
    /// The bytes are not a key for this algorithm.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: Vec<u8>) -> Result<Self, String> {
        let rejected = |reason| format!("not a {} key: {reason}", algorithm.name());
        let pair = match algorithm {
            Algorithm::Rs256 => Pair::Rsa(RsaKeyPair::from_pkcs8(&pkcs8).map_err(rejected)?),
            Algorithm::Es256 => Pair::Ec(
                EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new())
                    .map_err(rejected)?,
            ),
            Algorithm::EdDsa => Pair::Ed(Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(rejected)?),
        };
        let mut key = Self { kid: String::new(), algorithm, pkcs8, pair };
        let print = Sha256::digest(key.public_jwk().to_string());
        key.kid = URL_SAFE_NO_PAD.encode(print).chars().take(12).collect();
        Ok(key)
    }

    /// The private key as PKCS#8 DER, for the folder of the provider.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Signs a message; the signature has the JOSE form.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &rng, message, &mut out)
                    .map_err(|_| "cannot sign".to_owned())?;
                Ok(out)
            }
            Pair::Ec(pair) => {
                pair.sign(&rng, message).map(|done| done.as_ref().to_vec()).map_err(|_| "cannot sign".to_owned())
            }
            Pair::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The public key as an entry of a JWKS (RFC 7517, 8037).
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": encode(&parts.n), "e": encode(&parts.e)})
            }
            Pair::Ec(pair) => {
                // An uncompressed point: one byte for the form, then both coordinates.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
        };
        if let Some(members) = jwk.as_object_mut() {
            members.insert("use".into(), "sig".into());
            members.insert("alg".into(), self.algorithm.name().into());
            if !self.kid.is_empty() {
                members.insert("kid".into(), self.kid.clone().into());
            }
        }
        jwk
    }

    /// The public key in PEM, which an attacker uses as the secret of an HS256 signature.
    ///
    /// # Errors
    /// It is not an RSA key.
    pub fn public_pem(&self) -> Result<String, String> {
        use rsa::pkcs8::DecodePrivateKey;
        if self.algorithm != Algorithm::Rs256 {
            return Err("only RSA keys are supported in PEM".into());
        }
        rsa::RsaPrivateKey::from_pkcs8_der(&self.pkcs8)
            .map_err(|error| error.to_string())?
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| error.to_string())
    }
}
