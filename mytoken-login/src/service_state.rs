// SPDX-License-Identifier: MIT OR Apache-2.0
//! What motley_cue says about the account of a person that it does not want to be used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A state of an account in motley_cue that refuses logins to this account. It says nothing about other accounts of its holder, which other
/// rules may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// An administrator has suspended the person's own account.
    Suspended,
    /// The account has no login shell.
    Limited,
    /// The account waits for an administrator's approval. It may not exist yet.
    Pending,
}

impl ServiceState {
    /// Its word in motley_cue's answers, in the log and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Limited => "limited",
            Self::Pending => "pending",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Suspended, Self::Limited, Self::Pending].into_iter().find(|state| state.as_str() == word)
    }
}

/// The sentence for the person.
impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "your account is suspended; ask the administrator of this host",
            Self::Limited => {
                "your account is limited and cannot be used for logins; ask the administrator of this host"
            }
            Self::Pending => "your account waits for an approval; try again when it is approved",
        })
    }
}
