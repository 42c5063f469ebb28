// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of requests to the agent.

use std::fmt;

/// Why a request to the agent failed. `Display` is a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentError {
    /// The socket could not be reached, or no answer came in time.
    Unreachable {
        /// What the operating system said.
        reason: String,
    },
    /// The answer is not a message of this version.
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
    /// The agent refused the request.
    Refused {
        /// The agent's sentence.
        reason: String,
    },
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { reason } => {
                write!(f, "the mytoken agent on this node did not answer ({reason}); is mytokend running?")
            }
            Self::Protocol { reason } => write!(
                f,
                "this program does not understand the answer of the mytoken agent on this node ({reason}); do the versions match?"
            ),
            Self::Refused { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for AgentError {}
