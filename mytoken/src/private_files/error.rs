// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with files that hold credentials.

/// Why a file or directory is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A file or directory that holds credentials is not as it must be.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process may not act on files as this user.
    #[error("this process may not act on files as user {uid}")]
    Identity {
        /// The user.
        uid: u32,
    },
}
