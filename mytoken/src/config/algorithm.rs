// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signature algorithms that a configuration can allow. It cannot allow `none` and HMAC: with a public key as the HMAC key, anybody could
//! sign.

use serde::{Deserialize, Serialize};

/// An asymmetric signature algorithm (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5, SHA-256.
    RS256,
    /// RSA PKCS#1 v1.5, SHA-384.
    RS384,
    /// RSA PKCS#1 v1.5, SHA-512.
    RS512,
    /// RSA PSS, SHA-256.
    PS256,
    /// RSA PSS, SHA-384.
    PS384,
    /// RSA PSS, SHA-512.
    PS512,
    /// ECDSA on P-256.
    ES256,
    /// ECDSA on P-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// The algorithm with this name in a token's header. The case of the letters counts.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "EdDSA" => Self::EdDSA,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}
