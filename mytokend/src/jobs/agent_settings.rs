// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[agent]` in `jobs.toml`.

use std::path::PathBuf;

use mytoken::config::Duration;
use serde::Deserialize;

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// Directory of the socket, the token files and the stored leases.
    pub runtime_dir: PathBuf,
    /// A starting step gets its answer within this time.
    pub start_deadline: Duration,
    /// Time limit of one request to a mytoken server, including connection and discovery.
    pub request_deadline: Duration,
    /// Path of `squeue`. `None`: the first one at the usual paths.
    pub squeue: Option<PathBuf>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            runtime_dir: PathBuf::from(mytoken_wire::paths::RUNTIME),
            start_deadline: Duration::seconds(2),
            request_deadline: Duration::seconds(30),
            squeue: None,
        }
    }
}
