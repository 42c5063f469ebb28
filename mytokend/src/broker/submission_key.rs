// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the broker knows a submission: by its user, its handle and its sealed text. All nodes of a submission bring the same text.
//!
//! The text is a part of it because everybody can seal one for any user, with any handle. A node that was stolen knows the handles of the
//! jobs that ran on it: with a text of its own it must not become the credential of their submission, nor its revocation theirs.

use std::fmt;

use mytoken_wire::hex;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a sealed text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextHash([u8; 32]);

impl TextHash {
    /// That of this text.
    #[must_use]
    pub fn of(sealed: &str) -> Self {
        Self(Sha256::digest(sealed).into())
    }

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }
}

impl fmt::Display for TextHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// A submission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubmissionKey {
    /// The user.
    pub uid: u32,
    /// The handle.
    pub handle: String,
    /// The sealed text.
    pub text: TextHash,
}

impl SubmissionKey {
    /// That of a sealed text of this user, in which this handle stands.
    #[must_use]
    pub fn new(uid: u32, handle: &str, sealed: &str) -> Self {
        Self { uid, handle: handle.to_owned(), text: TextHash::of(sealed) }
    }

    /// How the file of a credential names one that it has replaced.
    pub(super) fn retired_name(&self) -> String {
        format!("{} {}", self.handle, self.text)
    }
}

/// The name of a submission in the log.
pub(super) fn name(key: &SubmissionKey) -> String {
    name_of(key.uid, &key.handle)
}

/// The same of a handle under which a text is kept.
pub(super) fn name_of(uid: u32, handle: &str) -> String {
    format!("submission {} uid {uid}", handle.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_somebody_else_with_the_same_handle_is_another_submission() {
        let own = SubmissionKey::new(7, "a", "mt1.00000000.AAAA");
        assert_eq!(own, SubmissionKey::new(7, "a", "mt1.00000000.AAAA"));
        assert_ne!(own, SubmissionKey::new(7, "a", "mt1.00000000.BBBB"));
        let written = own.text.to_string();
        assert_eq!((written.len(), TextHash::parse(&written)), (64, Some(own.text)));
        assert_eq!((TextHash::parse(""), TextHash::parse(&written.to_uppercase())), (None, None));
    }
}
