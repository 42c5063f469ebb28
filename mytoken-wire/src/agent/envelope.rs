// SPDX-License-Identifier: MIT OR Apache-2.0
//! The version around each message.

use serde::{Deserialize, Serialize};

/// Version of the protocol. It is in every message, because a step of a job can run for weeks after an upgrade of the agent.
pub const VERSION: u32 = 1;

/// Longest line in bytes, newline included.
pub const LINE_LIMIT: usize = 64 * 1024;

/// A message with its version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// [`VERSION`] of the sender.
    pub v: u32,
    /// The message.
    #[serde(flatten)]
    pub message: T,
}

impl<T> Envelope<T> {
    /// Wraps `message` in an envelope of this version.
    pub fn of(message: T) -> Self {
        Self { v: VERSION, message }
    }
}
