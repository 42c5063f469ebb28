// SPDX-License-Identifier: MIT OR Apache-2.0
//! One login per access token and host: the memory of the access tokens that have logged in, until they expire.
//!
//! Only tokens that users enter count. Of a mytoken each login gets a new access token, and its server counts the uses.

mod file;
mod token_name;
mod used_tokens;

use mytoken::Deadline;

use crate::refusal::Refusal;

pub use file::UsedTokensFiles;
pub use token_name::TokenName;
pub use used_tokens::{ACCOUNT_LIMIT, HOST_LIMIT, NotRecorded, Now, UsedTokens};

/// An access token that is about to log in.
#[derive(Debug, Clone, Copy)]
pub struct TokenUse<'a> {
    /// What it is known by.
    pub name: TokenName<'a>,
    /// The account that it opens.
    pub uid: u32,
    /// Until when it could log in again, Unix seconds.
    pub until: u64,
}

/// What was done about a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is the first one, and recorded.
    Recorded,
    /// It would be the first one. Nothing was recorded: this is no login.
    Looked,
    /// It is not known whether it is the first one. This is no login.
    NotChecked,
}

impl Noted {
    /// For `explain`.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Recorded => "the first login with it on this host",
            Self::Looked => "it has not logged in on this host; nothing was recorded",
            Self::NotChecked => "not checked: only root can read which tokens have logged in",
        }
    }
}

/// The memory of the access tokens that have logged in.
pub trait UsedTokenMemory {
    /// Records a use at this time (Unix seconds), unless the token was used before.
    ///
    /// # Errors
    /// [`Refusal::Replayed`]; [`Refusal::TooManyRequests`] when there is no room: a use that cannot be recorded is not accepted;
    /// [`Refusal::System`] when the memory cannot be used.
    fn use_once(&self, token: TokenUse<'_>, now: u64, deadline: Deadline) -> Result<Noted, Refusal>;
}

/// For an administrator's test by somebody who cannot read the memory.
pub(crate) struct Unknown;

impl UsedTokenMemory for Unknown {
    fn use_once(&self, _: TokenUse<'_>, _: u64, _: Deadline) -> Result<Noted, Refusal> {
        Ok(Noted::NotChecked)
    }
}
