// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short name of a token on screens and in logs.

use mytoken_wire::hex;
use sha2::{Digest, Sha256};

use crate::Secret;

/// The first 8 hexadecimal digits of the token's SHA-256. Never use it for a password: 32 bits of the hash help to guess it.
#[must_use]
pub fn fingerprint(token: &Secret) -> String {
    let digest = Sha256::digest(token.expose().as_bytes());
    hex::encode(digest.get(..4).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_beginning_of_the_sha256() {
        assert_eq!(fingerprint(&Secret::new("abc")), "ba7816bf");
    }
}
