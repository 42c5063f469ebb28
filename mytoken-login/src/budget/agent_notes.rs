// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the agent of this host which requests logins send, so that jobs and sessions leave room for them.

use std::path::PathBuf;
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{LoginNote, Permit, tell};
use mytoken_wire::paths::AGENT_SOCKET;

/// Longest time for a note. There is no answer to wait for; only an agent that hangs takes it.
const NOTE_TIME: Duration = Duration::from_millis(100);

/// The agent that hears of requests. It is never needed: without it, a login goes on.
#[derive(Debug, Clone)]
pub struct AgentNotes {
    socket: PathBuf,
}

impl AgentNotes {
    /// The agent of this host.
    #[must_use]
    pub fn of_host() -> Self {
        Self::new(AGENT_SOCKET.into())
    }

    /// The agent at this socket.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// A login sends so many requests to this server (its URL). Returns whether the agent hears of it.
    #[must_use]
    pub fn sent(&self, server: &str, count: u32, deadline: Deadline) -> bool {
        self.note(server, count, LoginNote::Unverified {}, deadline)
    }

    /// The login of this user was accepted. It has sent so many requests, which were told before.
    pub fn accepted(&self, server: &str, sent: u32, uid: u32, deadline: Deadline) {
        // Without this note they are counted for nobody.
        let _ = self.note(server, sent, LoginNote::Accepted { uid }, deadline);
    }

    fn note(&self, server: &str, sent: u32, login: LoginNote, deadline: Deadline) -> bool {
        let note = Permit { server: server.to_owned(), sent, login: Some(login) };
        tell(&self.socket, &note, deadline.at_most(NOTE_TIME)).is_ok()
    }
}
