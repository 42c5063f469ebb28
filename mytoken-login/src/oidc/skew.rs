// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seconds of `leeway` that a token needed. A clock that is wrong by less than `leeway` is otherwise noticed only when it gets worse.

use std::fmt;

/// How a token was accepted only because of the issuer's `leeway`. Seconds of this host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// The token had expired or was too old: this host's clock may be ahead by so much.
    Ahead(u64),
    /// The token was not valid yet: this host's clock may be behind by so much.
    Behind(u64),
}

impl Skew {
    /// The leeway without which the token is refused, in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Ahead(seconds) | Self::Behind(seconds) => seconds,
        }
    }

    /// A sentence for an administrator.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Ahead(seconds) => format!(
                "valid only with the issuer's leeway: {seconds} s too old by this host's clock; compare the clocks"
            ),
            Self::Behind(seconds) => format!(
                "valid only with the issuer's leeway: {seconds} s too early by this host's clock; compare the clocks"
            ),
        }
    }
}

/// As in the log: `+12` means that this host's clock is ahead.
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(seconds) => write!(f, "+{seconds}"),
            Self::Behind(seconds) => write!(f, "-{seconds}"),
        }
    }
}

/// Compares the times of a token, and keeps the largest leeway that one of them needed.
pub(super) struct Leeway {
    limit: u64,
    used: Option<Skew>,
}

impl Leeway {
    /// At most `limit` seconds.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: None }
    }

    /// Whether `seconds` of leeway in this direction are permitted. Zero needs none.
    pub(super) fn permits(&mut self, seconds: u64, direction: fn(u64) -> Skew) -> bool {
        if seconds > self.limit {
            return false;
        }
        if seconds > self.used.map_or(0, Skew::seconds) {
            self.used = Some(direction(seconds));
        }
        true
    }

    /// What was needed.
    pub(super) fn used(&self) -> Option<Skew> {
        self.used
    }
}
