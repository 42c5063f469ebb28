// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of keys and sealed texts.

/// Why a job credential was not sealed or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A file cannot be read, or other users could have written it.
    #[error(transparent)]
    File(#[from] mytoken::Error),
    /// A key file does not hold a key.
    #[error("this is not a cluster key: {reason}")]
    InvalidKey {
        /// The reason.
        reason: String,
    },
    /// The file of the public key holds a private key.
    #[error("this is not a cluster key: it is a private key, but a public key is needed")]
    NotPublic,
    /// The text is not a sealed text, or it was changed.
    #[error("the sealed job credential is not valid: {reason}")]
    Invalid {
        /// The reason.
        reason: String,
    },
    /// The text is sealed to another key.
    #[error(
        "the job credential is sealed to the key {sealed}, but this node has the key {own}; copy the cluster.pub that belongs to this node's cluster.key to the submit host"
    )]
    OtherKey {
        /// Id of the key that the text is sealed to.
        sealed: String,
        /// Id of the key of this node.
        own: String,
    },
}

mytoken::impl_from_part_errors!(SealError::File: mytoken::config::ConfigError, mytoken::private_files::FileError);
