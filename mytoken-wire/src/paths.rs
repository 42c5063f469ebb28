// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where processes of the suite meet on one host.

/// The runtime directory, root 0711. The agent or the PAM module makes it, whichever needs it first.
pub const RUNTIME: &str = "/run/mytoken";

/// The agent's socket.
pub const AGENT_SOCKET: &str = "/run/mytoken/agent.sock";

/// Directory of the jobs' access tokens below [`RUNTIME`]: `jobs/<job>/bt_u<uid>`.
pub const JOBS: &str = "jobs";

/// File name of the access token of a user (WLCG Bearer Token Discovery).
#[must_use]
pub fn bearer_token_file(uid: u32) -> String {
    format!("bt_u{uid}")
}
