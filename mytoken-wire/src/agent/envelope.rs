// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line around a message.

use serde::{Deserialize, Serialize};

/// Version of the protocol. A step of a job can outlive an upgrade of the agent by weeks, so it is in every message.
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
