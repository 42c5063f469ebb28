// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the agent's answer is missing.

/// Why there is no answer from the agent, in a sentence for the person who needs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The socket could not be reached, or no answer came in time.
    #[error("the mytoken agent on this node did not answer ({reason}); is mytokend running?")]
    Unreachable {
        /// What the operating system said.
        reason: String,
    },
    /// The answer is not a message of this version.
    #[error(
        "the mytoken agent on this node gave an answer that this program does not understand ({reason}); do the versions match?"
    )]
    Protocol {
        /// What was wrong with it.
        reason: String,
    },
    /// The agent refused the request.
    #[error("{reason}")]
    Refused {
        /// The agent's sentence.
        reason: String,
    },
}
