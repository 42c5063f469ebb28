// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classifies the text that a person or a program entered, by its form only. Nothing is sent.

mod claims;
mod fingerprint;
mod form;
mod jwt;
mod session;

pub use claims::{MytokenClaims, Rotation, UnverifiedClaims};
pub use fingerprint::fingerprint;
pub use jwt::Jwt;
pub use session::{is_for_session, is_name_of_link, session_mytoken_name};

use crate::Secret;

/// Longest token in bytes.
pub const TOKEN_LIMIT: usize = 64 * 1024;

/// Lengths at which clients cut an answer: ssh 1023 (SSH-15), the password method 1024 (SSH-02), `misc_conv` 4095 (SSH-16), and 511 in older
/// releases of Linux-PAM and in sudo-rs (`PAM_MAX_RESP_SIZE`).
const CUT_LENGTHS: [usize; 4] = [511, 1023, 1024, 4095];

/// Length of a transfer code.
const CODE_LENGTH: usize = 8;

/// Lengths of short tokens. The server's operator chooses the length: at least 32, by default 64. More than 128 is not expected.
const SHORT_TOKEN_LENGTHS: std::ops::RangeInclusive<usize> = 32..=128;

/// Length of a one-time password of motley_cue: SHA-512 in hexadecimal digits (MC-03).
const ONE_TIME_PASSWORD_LENGTH: usize = 128;

/// Shortest opaque token. A shorter text is more likely a password, which must not be sent anywhere.
const OPAQUE_MIN: usize = 16;

/// The form of a text that was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// A JWT that does not say that it is a mytoken.
    AccessToken(Jwt),
    /// Visible characters without structure: possibly an opaque access token.
    Opaque,
    /// 128 hexadecimal digits in lower case: possibly the one-time password that motley_cue keeps for an access token
    /// which is too long for a prompt (MC-03). Only motley_cue knows the token behind it.
    OneTimePassword,
    /// A mytoken as JWT, with its claims. Boxed, because the claims are large.
    Mytoken(Box<UnverifiedClaims>),
    /// The short alias of a mytoken: 32 to 128 letters of the server's alphabet.
    ShortToken,
    /// A transfer code: 8 letters of the server's alphabet.
    TransferCode,
    /// Not a token. It must not be sent anywhere.
    Garbage(NotAToken),
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAToken {
    /// Nothing was given.
    Empty,
    /// Longer than [`TOKEN_LIMIT`].
    TooLong,
    /// The text that sshd passes to PAM instead of a password for accounts that must not log in (SSH-04).
    SshdJunk,
    /// Characters other than visible ASCII.
    ForeignCharacters,
    /// Cut by the client at 1023, 1024 or 4095 bytes.
    Cut,
    /// A JWT whose claims cannot be read.
    BrokenJwt,
    /// Too short for a token, and not a code.
    TooShort,
}

impl NotAToken {
    /// A few words for a log line or a person.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "nothing was entered",
            Self::TooLong => "longer than any token",
            Self::SshdJunk => "sshd's placeholder for a forbidden account",
            Self::ForeignCharacters => "characters that no token has",
            Self::Cut => "cut by the client",
            Self::BrokenJwt => "a damaged token",
            Self::TooShort => "too short for a token",
        }
    }
}

/// Classifies a text by its form.
#[must_use]
pub fn classify(token: &Secret) -> Presented {
    let text = token.expose();
    if text.is_empty() {
        return Presented::Garbage(NotAToken::Empty);
    }
    if text.len() > TOKEN_LIMIT {
        return Presented::Garbage(NotAToken::TooLong);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let junk = text.starts_with('\u{8}');
        return Presented::Garbage(if junk { NotAToken::SshdJunk } else { NotAToken::ForeignCharacters });
    }
    let cut = CUT_LENGTHS.contains(&text.len());
    match jwt::parse(text) {
        jwt::Parsed::Good { signature_fits: false, .. } | jwt::Parsed::Broken if cut => {
            Presented::Garbage(NotAToken::Cut)
        }
        jwt::Parsed::Broken => Presented::Garbage(NotAToken::BrokenJwt),
        jwt::Parsed::Good { jwt, payload, .. } if claims::is_mytoken(&jwt, &payload) => {
            match claims::UnverifiedClaims::from_payload(&payload) {
                Some(claims) => Presented::Mytoken(Box::new(claims)),
                None => Presented::Garbage(NotAToken::BrokenJwt),
            }
        }
        jwt::Parsed::Good { jwt, .. } => Presented::AccessToken(jwt),
        jwt::Parsed::NotJwt if cut => Presented::Garbage(NotAToken::Cut),
        jwt::Parsed::NotJwt => classify_opaque(text),
    }
}

/// Classifies a text that is not a JWT.
fn classify_opaque(text: &str) -> Presented {
    let letters = text.bytes().all(is_code_letter);
    match text.len() {
        CODE_LENGTH if letters => Presented::TransferCode,
        length if letters && SHORT_TOKEN_LENGTHS.contains(&length) => Presented::ShortToken,
        ONE_TIME_PASSWORD_LENGTH if text.bytes().all(is_lower_hex) => Presented::OneTimePassword,
        OPAQUE_MIN.. => Presented::Opaque,
        _ => Presented::Garbage(NotAToken::TooShort),
    }
}

/// Whether a byte is in the alphabet of short tokens and transfer codes: letters except `l` and `I`.
fn is_code_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() && byte != b'l' && byte != b'I'
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The claims of a mytoken in JWT form; `None` for any other text. They are not verified: use them to read one's own token, never to
/// decide who a person is.
#[must_use]
pub fn unverified_claims(token: &Secret) -> Option<UnverifiedClaims> {
    match classify(token) {
        Presented::Mytoken(claims) => Some(*claims),
        _ => None,
    }
}

/// Whether a text has the form of a mytoken that can be valid at `now` (Unix seconds). If not, no mytoken server issued it, and a request
/// for it would be useless.
#[must_use]
pub fn may_be_mytoken(token: &Secret, now: u64) -> bool {
    token.len() <= form::LONGEST
        && match jwt::parse(token.expose()) {
            jwt::Parsed::Good { jwt, payload, signature_fits } => form::is_mytoken(&jwt, &payload, signature_fits, now),
            jwt::Parsed::NotJwt | jwt::Parsed::Broken => false,
        }
}

#[cfg(test)]
mod tests;
