// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form of a sealed job credential: `mt1.<key id>.<base64url>`. Only the holder of the key can read its content.

use std::fmt;

use crate::hex::is_hex;

/// Longest sealed text in bytes.
pub const LIMIT: usize = 16 * 1024;

/// The beginning of each sealed text of this version, without the dot.
pub const VERSION: &str = "mt1";

/// Number of hexadecimal digits of a key id.
const KEY_ID_LENGTH: usize = 8;

/// The parts of a sealed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedParts<'a> {
    /// Id of the public key that encrypted the content.
    pub key_id: &'a str,
    /// `mt1.<key id>`. It is authenticated together with the content.
    pub header: &'a str,
    /// The encrypted content in base64url, without padding.
    pub body: &'a str,
}

/// Why a text is not a sealed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSealed {
    /// More than [`LIMIT`] bytes.
    Long,
    /// The text has no dot.
    NoHeader,
    /// The text has another version.
    Newer,
    /// The text begins with something else.
    Other,
    /// The key id is not 8 hexadecimal digits.
    KeyId,
    /// The body is not base64url.
    Body,
}

/// Splits a sealed text into its parts.
///
/// # Errors
/// [`NotSealed`].
pub fn parse(text: &str) -> Result<SealedParts<'_>, NotSealed> {
    if text.len() > LIMIT {
        return Err(NotSealed::Long);
    }
    let (header, body) = text.rsplit_once('.').ok_or(NotSealed::NoHeader)?;
    let key_id = match header.split_once('.') {
        Some((VERSION, id)) => id,
        Some((version, _)) if version.len() <= 4 && version.starts_with("mt") => return Err(NotSealed::Newer),
        _ => return Err(NotSealed::Other),
    };
    if !is_hex(key_id, KEY_ID_LENGTH) {
        return Err(NotSealed::KeyId);
    }
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if body.is_empty() || !body.bytes().all(base64url) {
        return Err(NotSealed::Body);
    }
    Ok(SealedParts { key_id, header, body })
}

impl fmt::Display for NotSealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Long => "it is longer than 16 KiB",
            Self::NoHeader => "it has no header",
            Self::Newer => "it has a newer version; upgrade mytokend on this node",
            Self::Other => "it does not begin with \"mt1.\"",
            Self::KeyId => "its key id is not 8 hexadecimal digits",
            Self::Body => "it is not base64url",
        })
    }
}

impl std::error::Error for NotSealed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_form_is_accepted() {
        let parts = parse("mt1.0a1b2c3d.AZaz09-_").unwrap();
        assert_eq!((parts.key_id, parts.header, parts.body), ("0a1b2c3d", "mt1.0a1b2c3d", "AZaz09-_"));
        let long = format!("mt1.0a1b2c3d.{}", "A".repeat(LIMIT));
        for (wrong, reason) in [
            ("", NotSealed::NoHeader),
            ("mt1..A", NotSealed::KeyId),
            ("mt1.0a1b2c3d.", NotSealed::Body),
            ("mt2.0a1b2c3d.A", NotSealed::Newer),
            ("mt1.0A1b2c3d.A", NotSealed::KeyId),
            ("mt1.0a1b2c3d.A=", NotSealed::Body),
            ("mt1.0a1b2c3d.A\n", NotSealed::Body),
            ("mt1.0a1b2c3d.A.B", NotSealed::KeyId),
            ("mt1.0a1b2c3d", NotSealed::Other),
            ("abcd.0a1b2c3d.A", NotSealed::Other),
            (&long, NotSealed::Long),
        ] {
            assert_eq!(parse(wrong), Err(reason), "{wrong:.40}");
        }
    }
}
