// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors that are found before a request is sent.

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The request is wrong.
    #[error("{reason}")]
    InvalidRequest {
        /// A whole sentence.
        reason: String,
    },
    /// The parent does not allow the wanted restrictions.
    #[error("the mytoken does not allow this: {reason}")]
    NotNarrower {
        /// The part that it does not allow.
        reason: String,
    },
    /// A restriction, capability or token is malformed.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// The kind of text.
        what: String,
        /// Why, without the text.
        reason: String,
    },
}
