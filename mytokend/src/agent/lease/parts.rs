// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of a lease: its key, its credential, its token and its jobs.

use std::collections::BTreeSet;
use std::time::Duration;

use mytoken::Secret;
use mytoken_wire::agent::RenewalCredential;
use mytoken_wire::{FileName, JobName, printable};
use serde::{Deserialize, Serialize};

use crate::jobs::JobWindow;

/// The submission or session of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseKey {
    /// A submission. The uid belongs to it: every user can seal a credential with the handle of another user.
    Submission {
        /// The user who submitted.
        uid: u32,
        /// The handle.
        handle: String,
    },
    /// A job without a credential that can be opened, so that nobody knows its submission.
    Job(u32),
    /// A login session.
    Session(String),
}

/// What the agent has to do for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Obtain an access token.
    Renew,
    /// Obtain an access token for the further file with this index.
    RenewFile(u8),
    /// Write the current access token for the jobs that lack it: an earlier attempt failed.
    Write,
    /// Remove the files with the expired token.
    Expire,
    /// Find out whether the ended submission is final.
    Settle,
    /// Revoke the sub-token of a submission that is final.
    Revoke,
    /// Ask slurmctld when jobs began whose windows count from their start.
    AskStart,
    /// Such a window of a job begins or ends.
    FollowWindows,
    /// Delete the lease.
    Delete,
    /// Ask slurmctld whether a job still exists, because it has had no process here for a while.
    QueryJobs,
}

/// The credential that access tokens are obtained with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseCredential {
    /// A submission's sealed credential. It is opened for each request, and the content is not kept.
    Sealed(String),
    /// The handle of a submission whose sealed credential the brokers keep.
    Registered {
        /// The user.
        uid: u32,
        /// The handle.
        handle: String,
    },
    /// A session's mytoken.
    Mytoken(RenewalCredential),
    /// The sub-token of a submission that was made on this host. It is only revoked here.
    SubToken {
        /// Name of the mytoken server in `mytoken.toml`.
        server: String,
        /// The sub-token.
        sub_token: Secret,
    },
}

/// The command that submits: sbatch, salloc or srun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitter {
    /// Process id and start time.
    pub process: (u32, u64),
    /// When its end was seen, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
}

impl Submitter {
    /// Until when it has lived: `now` if it still lives.
    #[must_use]
    pub fn lived(&self, now: u64) -> u64 {
        self.ended.unwrap_or(now)
    }

    /// The same after a look at `now`.
    #[must_use]
    pub fn seen(self, lives: bool, now: u64) -> Self {
        let ended = (!lives).then_some(now);
        Self { ended: self.ended.or(ended), ..self }
    }

    /// The same with another time.
    #[must_use]
    pub fn moved(self, time: impl Fn(u64) -> u64) -> Self {
        Self { ended: self.ended.map(time), ..self }
    }
}

/// What ends the credential of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// The end of the submission. slurmctld knows it.
    #[default]
    Submission,
    /// The end of its last job here: perhaps no other node has it.
    JobsHere,
    /// Its owner or root: it is revoked now.
    OnRequest,
}

impl Ends {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a credential from `mytokenctl replace` stands for. The environment of a job does not change: when the job is requeued, it begins
/// with the credential of its submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandsFor {
    /// The job.
    pub job: u32,
    /// Handles of the credentials that were replaced one after the other.
    pub handles: BTreeSet<String>,
}

/// The current access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentToken {
    /// Expiry, Unix seconds.
    pub exp: u64,
    /// Lifetime in seconds when it was issued.
    pub lifetime: u64,
}

impl CurrentToken {
    /// Whether an answer that has come after `took` brings this token again: a broker gives a node the one that it has while half of its life
    /// is left, or while it gets no other one. `held` is its text; without that, after a restart, each token counts as another one. A server
    /// may prolong the life of a token: one with a later end is another one, too.
    #[must_use]
    pub fn came_again(self, held: Option<&Secret>, (text, exp): (&Secret, u64), took: Duration) -> bool {
        // Answers tell what is left of its life in whole seconds, and take a while.
        let inaccuracy = took.as_secs().saturating_add(2);
        held == Some(text) && exp <= self.exp.saturating_add(inaccuracy)
    }
}

/// An access token of a session that is not in its file yet. Until then the one before it counts.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The access token.
    pub text: Secret,
    /// Its expiry and lifetime.
    pub token: CurrentToken,
    /// When it is to be renewed, Unix milliseconds.
    pub renewal: u64,
    /// How long the request for it took.
    pub took: Duration,
}

/// One job of a submission on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalJob {
    /// Group of its file.
    pub gid: u32,
    /// Its id as Slurm prints it, if that is not the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<JobName>,
    /// Whether it still runs here. Jobs that have ended are kept for `mytokenctl status`.
    pub running: bool,
    /// Expiry of the access token in its file, Unix seconds, if there is one. It is another one than the lease's own when the last write
    /// failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// When it began, Unix milliseconds, if its profile has windows that count from then. Until slurmctld has told it: its first step here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// What these windows mean at present.
    #[serde(default, skip_serializing_if = "JobWindow::is_always")]
    pub window: JobWindow,
    /// Its batch script runs here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub script: bool,
    /// Its directory is to be made, also without an access token. By it the plugin finds out that a step from outside the job
    /// (`srun --jobid`) belongs to a job with a credential.
    #[serde(skip)]
    pub needs_directory: bool,
    /// Its file may hold an access token that it must not hold.
    #[serde(skip)]
    pub is_stale: bool,
    /// After a restart: nobody knows what its file holds.
    #[serde(skip)]
    pub is_doubtful: bool,
    /// The current access token could not be written to its file, and that is tried again.
    #[serde(skip)]
    pub is_unwritten: bool,
    /// Files with an access token that could be used when a thread last looked at them. `None` is the main one.
    #[serde(skip)]
    pub seen: Vec<Option<FileName>>,
    /// When a step of the job last began, in milliseconds since boot, if its plugin told it.
    #[serde(skip)]
    pub began: Option<u64>,
    /// When a process of the job was last seen on this node, Unix milliseconds.
    #[serde(skip)]
    pub last_seen: u64,
}

impl LocalJob {
    /// A job that runs here since `now`, Unix milliseconds.
    #[must_use]
    pub fn new(gid: u32, now: u64) -> Self {
        let (name, file, start, window) = (None, None, None, JobWindow::Always);
        Self {
            gid,
            name,
            running: true,
            file,
            start,
            window,
            script: false,
            needs_directory: false,
            is_stale: false,
            is_doubtful: false,
            is_unwritten: false,
            seen: Vec::new(),
            began: None,
            last_seen: now,
        }
    }
}

/// The lane of requests to one provider at one mytoken server. A user can choose the provider's name, which gives him more lanes, and no more
/// requests at the same time.
#[must_use]
pub fn lane(server: &str, provider: &str) -> String {
    format!("{server} {}", printable(provider, 200))
}

/// The mytoken server of a lease: its URL, or its name in `mytoken.toml`. Empty if it is unknown.
#[must_use]
pub fn server<'a>(credential: Option<&'a LeaseCredential>, lane: &'a str) -> &'a str {
    match credential {
        Some(LeaseCredential::SubToken { server, .. }) => server,
        // No URL contains a blank.
        _ => lane.split(' ').next().unwrap_or_default(),
    }
}
