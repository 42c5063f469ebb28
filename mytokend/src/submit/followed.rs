// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the agent of this host about a submission.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::server::Granted;
use mytoken_wire::Handle;
use mytoken_wire::agent::{Submitted, ask};
use mytoken_wire::paths::AGENT_SOCKET_NAME;

use crate::jobs::profile::ProfileSettings;

/// When a credential was made by its server's clock, and for how long further submissions may use it.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub made: u64,
    pub shared_for: u64,
    /// Process id of the command that submits.
    pub command: Option<u32>,
}

/// Longest wait for the agent of this host.
const AGENT_TIME: Duration = Duration::from_millis(500);

/// What the agent of this host is told about a new sub-token. `None`: it has no expiry, and nobody will use it.
pub(super) fn message(
    profile: &ProfileSettings,
    granted: &Granted,
    handle: &Handle,
    window: Window,
) -> Option<Submitted> {
    Some(Submitted {
        handle: handle.to_string(),
        server: profile.server.clone(),
        sub_token: granted.mytoken.clone(),
        exp: granted.expires_at?,
        made: window.made,
        shared_for: window.shared_for,
        command: window.command,
        profile: profile.name.clone(),
        job: None,
        settled: false,
    })
}

/// Whether the agent of this host follows the submission: it revokes the sub-token if no job ever starts with it, or no node does. Without
/// an agent, the sub-token of such a submission ends by its expiry.
pub(super) fn is_followed(runtime_dir: &Path, message: Option<&Submitted>, deadline: Deadline) -> bool {
    let socket = runtime_dir.join(AGENT_SOCKET_NAME);
    message.is_some_and(|message| ask(&socket, message, deadline.at_most(AGENT_TIME)).is_ok())
}

/// The agent of this host, which is asked to follow the credential of a job that runs already: it revokes the sub-token after the job.
pub struct Follower {
    socket: PathBuf,
    about: Option<Submitted>,
}

impl Follower {
    pub(super) fn new(runtime_dir: &Path, about: Option<Submitted>) -> Self {
        Self { socket: runtime_dir.join(AGENT_SOCKET_NAME), about }
    }

    /// Asks it. `settled`: the agents of the job's nodes revoke the sub-token, or it is revoked. Returns whether the agent has answered.
    pub fn tell(&self, settled: bool) -> bool {
        let message = self.about.clone().map(|about| Submitted { settled, ..about });
        message.is_some_and(|message| ask(&self.socket, &message, Deadline::after(AGENT_TIME)).is_ok())
    }
}
