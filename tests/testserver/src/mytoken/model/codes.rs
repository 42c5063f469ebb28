// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random codes, short tokens and identifiers. All come from the operating system's random number generator and are
//! independent of each other. The original derives polling codes from consent codes (MT-31); this server does not.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha512};

use crate::mytoken::answer::{ApiError, ApiResult};

/// Lifetime of polling, transfer and consent codes, in seconds.
pub(crate) const CODE_LIFETIME: i64 = 300;
/// Number of letters of a code.
pub(crate) const CODE_LENGTH: usize = 8;
/// Number of letters of a short token.
pub(crate) const SHORT_LENGTH: usize = 64;
/// Minimum length of a token. A shorter credential is a code.
pub(crate) const SHORTEST_TOKEN: usize = 32;

/// The letters of the original's codes and short tokens (MT-33).
const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNOPQRSTUVWXYZ";

/// Random bytes.
///
/// # Errors
/// The operating system gives no random numbers.
pub fn bytes<const N: usize>() -> ApiResult<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(bytes)
}

/// A random text of this many letters.
///
/// # Errors
/// The operating system gives no random numbers.
pub fn letters(length: usize) -> ApiResult<String> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in bytes::<64>()? {
            // 250 is the largest multiple of 50 (`LETTERS.len()`) in a byte. Larger bytes would favour the first letters.
            if let (true, Some(letter)) = (byte < 250, LETTERS.get(usize::from(byte) % LETTERS.len())) {
                if text.len() < length {
                    text.push(char::from(*letter));
                }
            }
        }
    }
    Ok(text)
}

/// Random bytes as base64url text, for states and verifiers.
///
/// # Errors
/// The operating system gives no random numbers.
pub fn opaque<const N: usize>() -> ApiResult<String> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<N>()?))
}

/// A UUID of version 4.
///
/// # Errors
/// The operating system gives no random numbers.
pub fn uuid() -> ApiResult<String> {
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, rest @ ..] = bytes::<16>()?;
    let raw = [b0, b1, b2, b3, b4, b5, (b6 & 0x0f) | 0x40, b7, (b8 & 0x3f) | 0x80];
    let mut text = String::with_capacity(36);
    for (index, byte) in raw.iter().chain(rest.iter()).enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

/// The public handle of a token (MT-52): SHA-512 of the raw bytes of its id.
#[must_use]
pub fn mom_id(jti: &str) -> String {
    let digits: Vec<u32> = jti.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let raw: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0u8, |byte, digit| (byte << 4) | u8::try_from(*digit).unwrap_or(0)))
        .collect();
    STANDARD.encode(Sha512::digest(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mom_id_is_the_sha512_of_the_id_bytes() {
        assert_eq!(
            mom_id("3f2b7c1e-5d4a-4c8e-9a10-77b1c0de4242"),
            "ZjLGXjMDLsolRdoEhxujN/7ClpM5nooNzsgdRkCXrm9+TE8ksEOQRYxUM/36wSt5Ff2wyT+XVUt2TRYi+YXf1g=="
        );
    }

    #[test]
    fn codes_are_random_letters_without_l_and_i() {
        assert_eq!(LETTERS.len(), 50);
        let short = letters(64).unwrap();
        assert!(short.len() == 64 && short.chars().all(|c| c.is_ascii_alphabetic() && c != 'l' && c != 'I'));
        assert_ne!(letters(8).unwrap(), letters(8).unwrap());
    }

    #[test]
    fn uuids_have_version_4() {
        let id = uuid().unwrap();
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
    }
}
