// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of accounts.

use std::fmt;

use mytoken_wire::is_printable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of an account, in one of the forms of [`NameForm`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(String);

/// Which account names are valid: `[accounts] names` in `login.toml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameForm {
    /// `[a-z_][a-z0-9_.-]*`, at most 32 bytes.
    #[default]
    Posix,
    /// Every name that NSS returns unchanged: `4dave`, `Dave`, `dave@example.org`, `DOM\dave`.
    Nss,
}

/// The name is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the account name is not valid: {reason}")]
pub struct InvalidAccountName {
    /// Why; the name itself is not repeated.
    pub reason: String,
}

/// Longest name of the form [`NameForm::Nss`], in bytes: `LOGIN_NAME_MAX` of Linux.
const NSS_LIMIT: usize = 256;

impl AccountName {
    /// Parses a name of the form [`NameForm::Posix`].
    ///
    /// # Errors
    /// [`InvalidAccountName`] when a character or the length is wrong. The name is not repeated: it may be attacker text.
    pub fn parse(text: &str) -> Result<Self, InvalidAccountName> {
        Self::parse_as(text, NameForm::Posix)
    }

    /// Parses a name of the form `form`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_as(text: &str, form: NameForm) -> Result<Self, InvalidAccountName> {
        let fault = match form {
            NameForm::Posix => posix_fault(text),
            NameForm::Nss => nss_fault(text),
        };
        match fault {
            Some(reason) => Err(InvalidAccountName { reason: reason.to_owned() }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn posix_fault(text: &str) -> Option<&'static str> {
    match text.bytes().next() {
        None => return Some("it is empty"),
        Some(b'a'..=b'z' | b'_') => {}
        Some(_) => return Some("it must begin with a lower-case letter or an underscore"),
    }
    if text.len() > 32 {
        return Some("it is longer than 32 characters");
    }
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    (!text.bytes().all(allowed)).then_some("it may contain only a-z, 0-9, underscore, dot and hyphen")
}

/// Refuses names that are dangerous in any database: they would end a field of passwd(5), change a path, look like an option, or
/// hold invisible characters.
fn nss_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > NSS_LIMIT {
        return Some("it is longer than 256 bytes");
    }
    if text.starts_with('-') {
        return Some("it must not begin with a hyphen");
    }
    if text == "." || text == ".." || text.contains(['/', ':']) {
        return Some("it must not be \".\" or \"..\", and must not contain a slash or a colon");
    }
    if text.chars().any(|c| !is_printable(c) || (c.is_whitespace() && c != ' ')) {
        return Some("it contains an invisible character");
    }
    (text.trim() != text).then_some("it begins or ends with a blank")
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountName({})", self.0)
    }
}

impl Serialize for AccountName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_posix_names_are_accepted_by_default() {
        for good in ["alice", "_svc", "a.b-c_9", &"a".repeat(32)] {
            assert!(AccountName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Alice", "1234", "-x", ".x", "a b", "a\n", "ali\u{441}e", "a/b", "..", &"a".repeat(33)] {
            assert!(AccountName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dangerous_nss_names_are_refused() {
        let parse = |text: &str| AccountName::parse_as(text, NameForm::Nss);
        for good in ["4dave", "Dave", "dave@example.org", "DOM\\dave", "DOM\\dave smith", "j\u{f6}rg", &"a".repeat(256)]
        {
            assert_eq!(parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-x",
            ".",
            "..",
            "a/b",
            "../x",
            "a:b",
            " a",
            "a ",
            "a\0b",
            "a\nb",
            "a\tb",
            "a\u{1b}[2J",
            "a\u{85}b",
            "a\u{a0}b",
            "a\u{200b}",
            "\u{feff}a",
            "\u{202e}a",
            &"a".repeat(257),
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_changes_nothing(text in "\\PC{0,300}") {
            for form in [NameForm::Posix, NameForm::Nss] {
                if let Ok(name) = AccountName::parse_as(&text, form) {
                    prop_assert_eq!(name.as_str(), text.as_str());
                }
            }
            // Each POSIX name is a valid NSS name.
            prop_assert!(AccountName::parse(&text).is_err() || AccountName::parse_as(&text, NameForm::Nss).is_ok());
        }
    }
}
