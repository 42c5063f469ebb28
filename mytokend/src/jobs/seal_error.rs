// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with keys and sealed texts.

/// Why a job credential was not sealed or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A file cannot be read, or others could have written it.
    #[error(transparent)]
    File(#[from] mytoken::Error),
    /// A key file does not hold a key.
    #[error("this is no key of a cluster: {reason}")]
    InvalidKey {
        /// What is wrong with it.
        reason: String,
    },
    /// A sealed text is not one, or was changed.
    #[error("the sealed job credential is not valid: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A sealed text is for another key.
    #[error(
        "the job credential is sealed to the key {sealed}, this node has {own}; the submit host needs the cluster.pub that belongs to this node's cluster.key"
    )]
    OtherKey {
        /// Id of the key it was sealed to.
        sealed: String,
        /// Id of the key that is here.
        own: String,
    },
}
