// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers of uses: what is left of them, and which of the two numbers a mytoken needs.

use super::Clause;
use crate::capabilities::{AT, Capabilities};

/// What a mytoken is used for. The server counts access tokens and other uses apart (MT-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// It gets access tokens.
    pub access_tokens: bool,
    /// It is used for something else, for example to make sub-tokens.
    pub others: bool,
}

impl Uses {
    /// What these capabilities allow.
    #[must_use]
    pub fn of(capabilities: &Capabilities) -> Self {
        Self { access_tokens: capabilities.has(AT), others: capabilities.iter().any(|name| name != AT) }
    }

    /// Whether the clause allows one more of these uses.
    #[must_use]
    pub fn any_left(self, clause: &Clause) -> bool {
        let left = |limit: Option<i64>, done| uses_left(limit, done).is_none_or(|left| left > 0);
        (self.access_tokens && left(clause.usages_at, clause.usages_at_done))
            || (self.others && left(clause.usages_other, clause.usages_other_done))
    }

    /// The number of uses of the clause that matters most: access tokens, if they are needed.
    pub(super) fn limit(self, clause: &Clause) -> Option<i64> {
        match self {
            Self { access_tokens: true, others: true } => {
                // Either is enough for the clause to be of use.
                clause.usages_at.zip(clause.usages_other).map(|(at, other)| at.max(other))
            }
            Self { access_tokens: true, .. } => clause.usages_at,
            Self { .. } => clause.usages_other,
        }
    }
}

/// The uses that are left of a limit. A limit below zero is none left: the server accepts such a number.
pub(super) fn uses_left(limit: Option<i64>, done: Option<i64>) -> Option<i64> {
    limit.map(|limit| limit.saturating_sub(done.unwrap_or(0).max(0)).max(0))
}

/// The smaller one, where nothing means no limit.
pub(super) fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
