// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person typed or a program handed over: classified by its form alone, nothing is sent anywhere.

mod claims;
mod fingerprint;
mod form;
mod jwt;

pub use claims::{MytokenClaims, Rotation, UnverifiedClaims};
pub use fingerprint::fingerprint;
pub use jwt::Jwt;

use crate::Secret;

/// No token is longer.
pub const TOKEN_LIMIT: usize = 64 * 1024;

/// Lengths at which clients cut what is typed: ssh 1023 (SSH-15), the password method 1024 (SSH-02), `misc_conv` 4095 (SSH-16).
const CUTS: [usize; 3] = [1023, 1024, 4095];

/// Length of a transfer code.
const CODE: usize = 8;

/// Lengths of short tokens: the server's operator chooses, at least 32, by default 64; more than 128 is not expected.
const SHORT: std::ops::RangeInclusive<usize> = 32..=128;

/// Shorter texts are no opaque token: more likely a password, which must go nowhere.
const OPAQUE_MIN: usize = 16;

/// A text, classified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// A JWT that does not call itself a mytoken.
    AccessToken(Jwt),
    /// Visible characters without structure: an opaque access token, if anything.
    Opaque,
    /// A mytoken as JWT, with what it claims about itself. Boxed, because the claims are large.
    Mytoken(Box<UnverifiedClaims>),
    /// A mytoken's alias: 32 to 128 letters of the server's alphabet.
    ShortToken,
    /// A transfer code: 8 letters of the server's alphabet.
    TransferCode,
    /// Nothing that may be sent anywhere.
    Garbage(NotAToken),
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAToken {
    /// Nothing was given.
    Empty,
    /// Longer than [`TOKEN_LIMIT`].
    TooLong,
    /// What sshd sends into PAM in the place of a password for accounts that must not log in (SSH-04).
    SshdJunk,
    /// Other than visible ASCII characters.
    ForeignCharacters,
    /// Cut by the client at 1023, 1024 or 4095 bytes.
    Cut,
    /// A JWT whose claims cannot be read.
    BrokenJwt,
    /// Too short for a token, and no code.
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

/// Classifies by form.
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
    let cut = CUTS.contains(&text.len());
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
        jwt::Parsed::No if cut => Presented::Garbage(NotAToken::Cut),
        jwt::Parsed::No => without_structure(text),
    }
}

fn without_structure(text: &str) -> Presented {
    let letters = text.bytes().all(is_code_letter);
    match text.len() {
        CODE if letters => Presented::TransferCode,
        length if letters && SHORT.contains(&length) => Presented::ShortToken,
        OPAQUE_MIN.. => Presented::Opaque,
        _ => Presented::Garbage(NotAToken::TooShort),
    }
}

/// The alphabet of short tokens and transfer codes: letters without `l` and `I`.
fn is_code_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() && byte != b'l' && byte != b'I'
}

/// The claims of a mytoken in JWT form; `None` for anything else. They are the holder's word only: fit for reading one's own token,
/// never for deciding who a person is.
#[must_use]
pub fn unverified_claims(token: &Secret) -> Option<UnverifiedClaims> {
    match classify(token) {
        Presented::Mytoken(claims) => Some(*claims),
        _ => None,
    }
}

/// Whether a text that calls itself a mytoken can be one that is valid at `now` (Unix seconds), as far as its form tells: what a
/// stranger typed and no mytoken server can have made is not worth a request.
#[must_use]
pub fn may_be_mytoken(token: &Secret, now: u64) -> bool {
    token.len() <= form::LONGEST
        && match jwt::parse(token.expose()) {
            jwt::Parsed::Good { jwt, payload, signature_fits } => form::is_mytoken(&jwt, &payload, signature_fits, now),
            jwt::Parsed::No | jwt::Parsed::Broken => false,
        }
}

#[cfg(test)]
mod tests;
