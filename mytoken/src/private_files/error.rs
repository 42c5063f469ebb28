// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of private files.

/// Why a file or directory is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A file or directory has the wrong owner, mode or kind, or cannot be read or written.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has no right to use this user's identity for files.
    #[error("this process has no right to read or write files as user {uid}")]
    Identity {
        /// The user.
        uid: u32,
    },
}
