// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type of the crate: each variant is a sentence for the person who meets it.

/// What went wrong, in words that say what to do. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The agent's socket could not be reached or did not answer in time.
    #[error("the mytoken agent on this node did not answer ({reason}); is mytokend running?")]
    AgentUnreachable {
        /// What the operating system said.
        reason: String,
    },
    /// The agent answered something that is not the protocol.
    #[error(
        "the mytoken agent on this node gave an answer that this program does not understand ({reason}); do the versions match?"
    )]
    AgentProtocol {
        /// What was wrong with it.
        reason: String,
    },
    /// The agent refused the request.
    #[error("{reason}")]
    AgentRefused {
        /// The agent's sentence.
        reason: String,
    },
    /// A configuration file cannot be read.
    #[error("cannot read {file}: {reason}")]
    ConfigUnreadable {
        /// The file.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// A configuration file could have been written by others.
    #[error("{file} is not used: {reason}")]
    ConfigUnsafe {
        /// The file or a directory above it.
        file: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A configuration file has a mistake.
    #[error("{place}: {problem}")]
    ConfigInvalid {
        /// File and line.
        place: String,
        /// The mistake.
        problem: String,
    },
    /// A file or directory that holds credentials is not as it must be.
    #[error("{path}: {reason}")]
    File {
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
    /// A key file does not hold a key.
    #[error("this is no key of a cluster: {reason}")]
    KeyInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A sealed text is not one, or was changed.
    #[error("the sealed job credential is not valid: {reason}")]
    SealedInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A sealed text is for another key.
    #[error(
        "the job credential is sealed to the key {sealed}, this node has {own}; the submit host needs the cluster.pub that belongs to this node's cluster.key"
    )]
    SealedToOtherKey {
        /// Id of the key it was sealed to.
        sealed: String,
        /// Id of the key that is here.
        own: String,
    },
}
