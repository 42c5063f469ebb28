// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths that processes of the suite share on one host.

use crate::FileName;

/// The directory of the configuration.
pub const CONFIGURATION: &str = "/etc/mytoken";

/// The runtime directory, owner root, mode 0711. The agent or the PAM module makes it, whichever starts first.
pub const RUNTIME: &str = "/run/mytoken";

/// The agent's socket.
pub const AGENT_SOCKET: &str = "/run/mytoken/agent.sock";

/// Name of the agent's socket in its runtime directory.
pub const AGENT_SOCKET_NAME: &str = "agent.sock";

/// Directory of the jobs' access tokens below [`RUNTIME`]: `jobs/<job>/bt_u<uid>`.
pub const JOBS: &str = "jobs";

/// Directory of the records of starts that the agent did not answer, below [`RUNTIME`].
pub const MISSED: &str = "missed";

/// Directory of the files of login sessions, below [`RUNTIME`].
pub const SESSIONS: &str = "sessions";

/// File name of a user's access token (WLCG Bearer Token Discovery).
#[must_use]
pub fn bearer_token_file(uid: u32) -> String {
    format!("bt_u{uid}")
}

/// File name of a further access token of a job, beside [`bearer_token_file`].
#[must_use]
pub fn named_token_file(uid: u32, name: &FileName) -> String {
    format!("bt_u{uid}-{name}")
}
