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
}
