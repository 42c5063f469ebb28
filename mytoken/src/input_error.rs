// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is refused before anything is sent.

/// Why a request is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A request that cannot be right.
    #[error("{reason}")]
    InvalidRequest {
        /// A whole sentence.
        reason: String,
    },
    /// What is wanted is not within what the parent allows.
    #[error("the mytoken does not allow this: {reason}")]
    NotNarrower {
        /// Which part of it.
        reason: String,
    },
    /// A restriction, capability or token text that is malformed.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// Why, without its content.
        reason: String,
    },
}
