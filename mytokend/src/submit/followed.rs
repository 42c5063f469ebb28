// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the agent of this host about a submission.

use std::path::Path;
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

/// Whether the agent of this host follows the submission: it revokes the sub-token if no job ever starts with it. Without an agent, the
/// sub-token of such a submission ends by its expiry.
pub(super) fn is_followed(
    runtime_dir: &Path,
    profile: &ProfileSettings,
    granted: &Granted,
    handle: &Handle,
    window: Window,
    deadline: Deadline,
) -> bool {
    let Some(exp) = granted.expires_at else { return false };
    let submitted = Submitted {
        handle: handle.to_string(),
        server: profile.server.clone(),
        sub_token: granted.mytoken.clone(),
        exp,
        made: window.made,
        shared_for: window.shared_for,
        command: window.command,
        profile: profile.name.clone(),
    };
    let socket = runtime_dir.join(AGENT_SOCKET_NAME);
    ask(&socket, &submitted, deadline.at_most(AGENT_TIME)).is_ok()
}
