// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name of a further token file of a job, in `jobs.toml`, in sealed credentials and in the file's own name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name in bytes.
const LIMIT: usize = 32;

/// Most named files of a profile. Each costs a request on each node, again for each renewal.
pub const MOST_FILES: usize = 4;

/// The form that [`FileName::parse`] accepts, for messages.
pub const RULE: &str = "1 to 32 letters, digits, \"-\", \"_\", and begins with a letter or digit";

/// The NAME of a file `bt_u<uid>-NAME` (the suffix for a purpose of WLCG Bearer Token Discovery). It becomes part of a path that root
/// writes, and users can seal any text, so there is no other way to make one than [`Self::parse`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// Reads a name. `None`: the text has another form.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let starts = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        (starts && name.len() <= LIMIT && name.bytes().all(plain)).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FileName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name)
            .ok_or_else(|| format!("the name of a file is {RULE}, not \"{}\"", crate::printable(&name, 40)))
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_part_of_a_path() {
        let longest = "x".repeat(LIMIT);
        for good in ["compute", "9-a_b", "A", &longest] {
            assert_eq!(FileName::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(LIMIT + 1);
        for wrong in ["", "-x", "_x", ".x", "a.b", "a/b", "..", "a b", "é", "a\n", "a\0", &long] {
            assert_eq!(FileName::parse(wrong), None, "{wrong:?}");
            let json = serde_json::to_string(wrong).unwrap();
            assert!(serde_json::from_str::<FileName>(&json).unwrap_err().to_string().contains(RULE), "{wrong:?}");
        }
        let name: FileName = serde_json::from_str("\"compute\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"compute\"");
    }
}
