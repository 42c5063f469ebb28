// SPDX-License-Identifier: MIT OR Apache-2.0
//! Secret text: tokens, codes, keys.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A token, code or key. It is wiped when dropped. It has no `Display`, and `Debug` prints only its length.
///
/// It serialises to its content. Serialise it only into a pipe, a socket, a sealed text or a file of mode 0600.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Removes white space at both ends of the text: a JWT with a newline passes the server's signature check and then fails with 500
    /// (MT-04).
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        if text.trim().len() == text.len() { Self(text) } else { Self(Zeroizing::new(text.trim().to_owned())) }
    }

    /// The content. Send it only to the server or program for which it is meant.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is empty. The server refuses an empty `mytoken` field (MT-03), so leave the field out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_only() {
        assert_eq!(format!("{:?}", Secret::new("eyJhbGciOi.J9.x")), "Secret(15 bytes)");
    }

    #[test]
    fn white_space_around_a_token_is_dropped() {
        assert_eq!(Secret::new(" a.b.c\r\n").expose(), "a.b.c");
    }
}
