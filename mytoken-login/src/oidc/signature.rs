// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks signatures with ring. The form of a JWT, its header and the choice of the key are in other files of this folder.

use mytoken::config::Algorithm;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

/// A public key, bound to the one algorithm that it is used with.
pub(super) enum VerificationKey {
    /// RSA: both numbers, big-endian without leading zeros.
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    /// A point of a curve.
    Point(UnparsedPublicKey<Vec<u8>>),
}

/// An algorithm of ring, by the members of its keys.
pub(super) enum Scheme {
    /// Modulus and exponent.
    Rsa(&'static RsaParameters),
    /// Two coordinates of the curve's size. Signatures have the fixed form of JOSE (RFC 7518 3.4), not DER.
    Ecdsa(&'static EcdsaVerificationAlgorithm),
    /// 32 bytes.
    Ed25519,
}

impl Scheme {
    pub(super) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS256 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Self::Ecdsa(&ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Self::Ecdsa(&ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Self::Ed25519,
        }
    }
}

impl VerificationKey {
    /// A key for ECDSA with these coordinates.
    pub(super) fn ecdsa(algorithm: &'static EcdsaVerificationAlgorithm, x: &[u8], y: &[u8]) -> Self {
        // An uncompressed point (SEC 1, 2.3.3). ring refuses one of the wrong size or that is not on the curve.
        Self::Point(UnparsedPublicKey::new(algorithm, [&[4], x, y].concat()))
    }

    /// A key for Ed25519.
    pub(super) fn ed25519(x: Vec<u8>) -> Self {
        Self::Point(UnparsedPublicKey::new(&ED25519, x))
    }

    /// Whether `signature` is the signature of `message` with this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(parameters, parts) => parts.verify(parameters, message, signature),
            Self::Point(key) => key.verify(message, signature),
        }
        .is_ok()
    }
}
