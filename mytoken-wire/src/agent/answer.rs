// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers of the agent, version 1.

use serde::{Deserialize, Serialize};

use super::Event;

/// The answer, on the wire `{"v":1,"started":{...}}`, `{"v":1,"status":{...}}`, `{"v":1,"done":{}}` or `{"v":1,"error":"sentence"}`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(fuzzing, derive(Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`JobStart`](super::JobStart).
    Started(Started),
    /// To [`StatusQuery`](super::StatusQuery).
    Status(Status),
    /// To everything else.
    Done {},
    /// Refused, in a sentence.
    Error(String),
}

/// Where a job's access token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// `BEARER_TOKEN_FILE` for the job: `/run/mytoken/jobs/<job>/bt_u<uid>`. Given also while pending.
    pub path: String,
    /// Whether the file is there.
    pub state: JobState,
    /// A sentence when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The user demanded a credential: without one the plugin's `task_init` fails the job.
    #[serde(default)]
    pub required: bool,
}

/// State of a job's access token on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The file holds a valid access token.
    Ready,
    /// The agent is still trying; the file will appear at the path.
    Pending,
    /// There will be no access token: `reason` says why.
    Failed,
}

/// What the agent knows of the caller's jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Host or node name of the agent.
    pub node: String,
    /// Jobs and sessions, oldest first; when they are many, each with its last events only.
    pub jobs: Vec<JobStatus>,
    /// How many older ones were left out, because an answer is one line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One job (or session) as `mytokenctl status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Job id; 0 for a login session.
    pub job: u32,
    /// Owner.
    pub uid: u32,
    /// Profile of the submission, `session` for a login session.
    pub profile: String,
    /// State of the credential.
    pub state: JobState,
    /// Expiry of the sub-token or mytoken; where nothing renews a session, of its access token. Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}
