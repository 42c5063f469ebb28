// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a node's agent (`mytokend agent`) is talked to: one JSON line there, one JSON line back, one request per connection.
//!
//! The socket is `/run/mytoken/agent.sock` ([`SOCKET`]). The agent knows its caller by `SO_PEERCRED`: everything but
//! [`Request::Status`] is for root. Lines are at most [`LINE_LIMIT`] bytes; a reader that meets more, or another version, refuses.

mod client;
mod error;
mod message;
mod renewal;

/// Whether a line is an answer, of whatever version: for a fuzz target.
#[cfg(fuzzing)]
#[must_use]
pub fn is_answer(line: &[u8]) -> bool {
    message::parse_answer(line).is_ok()
}

pub use client::{SOCKET, ask, ask_without_status};
pub use error::AgentError;
pub use message::{
    Answer, Envelope, Event, JobEnd, JobStart, JobState, JobStatus, LINE_LIMIT, Request, SessionEnd, SessionStart,
    Started, Status, VERSION,
};
pub use renewal::RenewalCredential;
