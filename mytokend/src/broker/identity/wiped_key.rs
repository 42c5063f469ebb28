// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private keys in memory.

use rcgen::{KeyPair, PublicKeyData};
use zeroize::{Zeroize as _, Zeroizing};

use super::key_hash::KeyHash;

/// A private key (ECDSA on P-256) that is wiped when it is dropped. The cryptographic library's own copy of the number is not.
pub(super) struct WipedKey(KeyPair);

impl WipedKey {
    /// Makes a key from the operating system's random numbers.
    pub(super) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate().map(Self)
    }

    /// Reads a key (PKCS #8, PEM).
    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(pem).ok()?;
        KeyPair::from_pkcs8_pem_and_sign_algo(text, &rcgen::PKCS_ECDSA_P256_SHA256).ok().map(Self)
    }

    /// The key (PKCS #8, PEM).
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The key (PKCS #8, DER).
    pub(super) fn to_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// The hash of its public key.
    pub(super) fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0.subject_public_key_info())
    }
}

impl PublicKeyData for WipedKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl rcgen::SigningKey for WipedKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Drop for WipedKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
