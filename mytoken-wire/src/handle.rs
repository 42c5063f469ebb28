// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ids that cannot be guessed: 128 random bits in hexadecimal.
//!
//! The handle of a submission and the id of a login session have this form. Neither of them gives access to anything.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hex::is_hex;

/// Number of hexadecimal digits.
const LENGTH: usize = 32;

/// The handle of a submission, or the id of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(String);

impl Handle {
    /// The handle of 128 random bits.
    #[must_use]
    pub fn new(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }

    /// Reads a handle; `None` if the text has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, LENGTH).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_one_spelling() {
        let text = Handle::new(0x0123_4567_89ab_cdef).to_string();
        assert_eq!(text, "00000000000000000123456789abcdef");
        assert_eq!(Handle::parse(&text).unwrap().as_str(), text);
        for wrong in ["", "0123", &text.to_uppercase(), &format!("{text}0"), "../../../../etc/passwd0123456789a"] {
            assert_eq!(Handle::parse(wrong), None, "{wrong}");
        }
    }
}
