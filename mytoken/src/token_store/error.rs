// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the token store.

/// Why the token store is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Others can access the token store or a file in it.
    #[error("{path} is not used: {reason}")]
    Unsafe {
        /// The directory or file.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The token store cannot be read or written.
    #[error("the token store cannot be used: {path}: {reason}")]
    Unusable {
        /// The directory or file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// A file of the token store does not contain a token for its server.
    #[error("{path} is damaged ({reason}); run: mytoken-ssh login")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it, without the file's content.
        reason: String,
    },
    /// Nobody may present the token ([`super::StoredToken::is_dangerous`]).
    #[error(
        "an answer of {server} was lost, which may have replaced your mytoken; with the old one the server would revoke all that was made \
         from it, such as the mytokens of jobs; run: mytoken-ssh login"
    )]
    Dangerous {
        /// The server.
        server: String,
    },
    /// Another process held the lock of the token store until the deadline.
    #[error("another program uses the token store and did not finish in time ({path}); try again")]
    Busy {
        /// The lock file.
        path: String,
    },
}
