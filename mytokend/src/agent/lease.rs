// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lease: one submission or login session that gets access tokens on this node, its state, and its next action.
//!
//! Everything here is a function of the lease and the time. The times of actions are Unix milliseconds.

mod actions;
mod earlier;
mod files;
mod job_windows;
mod jump;
mod named_file;
mod open_requests;
mod parts;

use std::collections::{BTreeMap, BTreeSet};

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_wire::agent::{EventKind, JobState, SessionPlace};
use serde::{Deserialize, Serialize};

use super::login_processes::LoginMark;
use crate::jobs::{EventHistory, JobWindow, KnownNodes, Progress, StartWindow, Window};

pub use named_file::{AdmittedFile, NamedFile};
pub use open_requests::OpenRequests;
pub use parts::{
    Action, Arrived, CurrentToken, Ends, LeaseCredential, LeaseKey, LocalJob, StandsFor, Submitter, lane, server,
};

/// Most jobs of a lease that have ended and are still shown.
const MOST_ENDED_JOBS: usize = 16;

/// For this time, in milliseconds, the agent tells an end that no broker understands: one without the key may get it back.
const LONGEST_UNOPENED: u64 = 3 * 86_400_000;

/// The state of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The agent keeps the token fresh.
    #[serde(rename = "alive")]
    Active {
        /// Time of the next request, Unix milliseconds.
        due: u64,
    },
    /// There will be no further token; [`Lease::reason`] says why. The current one stays until it expires.
    Refused,
    /// No job of the submission runs here any more. The agent has to find out when the submission is final, and to revoke the sub-token.
    Ended {
        /// Time of the next query, Unix milliseconds.
        due: u64,
        /// Number of queries so far that gave the same result.
        tries: u32,
        /// When the sub-token is revoked unless a job of the submission has come back, Unix milliseconds. Another node does it first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revoke: Option<u64>,
    },
    /// Nothing is to be done any more. The lease is kept for `mytokenctl status`.
    #[serde(rename = "over")]
    Finished {
        /// Time of its deletion, Unix milliseconds.
        due: u64,
    },
}

/// A lease. It is stored as JSON between two runs of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// The submission or session.
    pub key: LeaseKey,
    /// Owner of the files.
    pub uid: u32,
    /// Group of a session's file.
    pub gid: u32,
    /// The jobs of the submission on this node.
    #[serde(default)]
    pub jobs: BTreeMap<u32, Box<LocalJob>>,
    /// Ids under which slurmctld lists the submission's jobs: of an array the array job, of a heterogeneous job the leader.
    #[serde(default)]
    pub leaders: BTreeSet<u32>,
    /// In files of release 0.1.0: the array job of the job that is the key.
    #[serde(default, skip_serializing)]
    pub array_job: Option<u32>,
    /// Begin and end of the time in which jobs of this submission may have been submitted, Unix seconds: by the clock of its server if several
    /// submissions share its credential, by this agent's plans if it was made here and none of its jobs has run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted: Option<(u64, u64)>,
    /// The agent of the submission's host follows it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
    /// Nodes of the submission's jobs.
    #[serde(default, skip_serializing_if = "KnownNodes::is_unknown")]
    pub known: KnownNodes,
    /// The submission was made on this host: what was seen of its jobs in slurmctld so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The submission was made on this host, also if its jobs run here: only this host may tell the brokers to forget its credential.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_here: bool,
    /// The command that submits, if it was made on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<Submitter>,
    /// What ends the credential.
    #[serde(default, skip_serializing_if = "Ends::is_default")]
    pub ends: Ends,
    /// Handle of the credential that this one has replaced, while that is not settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// The credentials that this one has replaced. Its job brings one of them when it is requeued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<StandsFor>,
    /// Process id and start time of the session's process. The session ends with this process.
    #[serde(default)]
    pub process: Option<(u32, u64)>,
    /// Profile of the submission, or `session`.
    pub profile: String,
    /// Handle of the submission.
    #[serde(default)]
    pub handle: String,
    /// Whether the job must fail without a credential.
    #[serde(default)]
    pub required: bool,
    /// Expiry of the sub-token or mytoken, or of a session's access token when nothing can renew it. Unix seconds, as [`Self::submitted`].
    #[serde(default)]
    pub until: Option<u64>,
    /// When the credential gives access tokens. Empty: always, as far as its own text says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// When its jobs get access tokens, counted from the start of each. Empty: always. The server does not know these windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_windows: Vec<StartWindow>,
    /// The credential. Removed when the agent does not need it any more.
    #[serde(default, rename = "source")]
    pub credential: Option<LeaseCredential>,
    /// Only a broker can open the credential, and has not told yet what it says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unopened: bool,
    /// A broker is asked for its tokens. That asks slurmctld first about a job that it does not know.
    #[serde(skip)]
    pub asks_broker: bool,
    /// No step of the job has brought a sealed credential so far (for example `srun --export-file`). A later step may bring it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_credential: bool,
    /// The credential has given an access token. Before, only its user says that it is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// The current access token, if there is one.
    #[serde(default, rename = "held")]
    pub token: Option<CurrentToken>,
    /// The access token itself, for further jobs of the submission. After a restart it is read from a file.
    #[serde(skip)]
    pub token_text: Option<Secret>,
    /// An access token for the session's file.
    #[serde(skip)]
    pub arrived: Option<Box<Arrived>>,
    /// The session has ended, and its files are still to be removed. Agents of earlier releases do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// By what the processes of its login are known, if the session lasts while they run. Agents of earlier releases do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginMark>,
    /// The session itself has ended, and processes of its login run on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lingers: bool,
    /// The session's files stay after its end, until the access token expires. Agents of earlier releases do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// Where the session's files are. Agents of earlier releases do not know it.
    #[serde(default, skip_serializing_if = "SessionPlace::is_default")]
    pub place: SessionPlace,
    /// The session's mytoken was made for it alone and is revoked at its end. Agents of earlier releases do not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoke_at_end: bool,
    /// The session's file may hold an access token that it must not hold.
    #[serde(skip)]
    pub is_stale: bool,
    /// After a restart: nobody knows what the session's file holds.
    #[serde(skip)]
    pub is_doubtful: bool,
    /// The session's file held a token that had not ended when a thread last looked.
    #[serde(skip)]
    pub on_disk: bool,
    /// Files are perhaps not as this lease says, and are to be changed.
    #[serde(skip)]
    pub files_due: bool,
    /// When to try again to write or remove files, Unix milliseconds.
    #[serde(skip)]
    pub write_due: Option<u64>,
    /// The further files. Agents of earlier releases do not know them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<NamedFile>,
    /// State.
    pub phase: Phase,
    /// Begin of the next window, Unix seconds, while the agent waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<u64>,
    /// Number of consecutive failures.
    #[serde(default)]
    pub failures: u32,
    /// Since when each request has failed, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// Why there is no token, or why it is not renewed. A sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// What happened so far.
    #[serde(default)]
    pub history: EventHistory,
    /// Where requests for its access tokens belong: mytoken server and provider.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lane: String,
    /// The number of access tokens is limited, so that no further request may be sent while one has no answer yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited_uses: bool,
    /// The time of day minus elapsed time when the lease was stored, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<i64>,
    /// The requests for an access token that are queued or have no answer yet.
    #[serde(skip)]
    pub requests: OpenRequests,
    /// When a new token was last asked for with `mytokenctl renew`, Unix milliseconds.
    #[serde(skip)]
    pub requested: Option<u64>,
    /// The phase before a new token was asked for, until the request for it was answered.
    #[serde(skip)]
    pub asked: Option<Phase>,
    /// A number that no earlier lease with the same key had. A worker compares it before it changes the lease.
    #[serde(skip)]
    pub generation: u64,
    /// slurmctld is asked when its jobs began, or that is queued.
    #[serde(skip)]
    pub asking: bool,
    /// A worker thread settles this lease, or it is queued for that.
    #[serde(skip)]
    pub in_progress: bool,
    /// The revocation of the sub-token is queued or has no answer yet, and no job has come back since then.
    #[serde(skip)]
    pub revoking: bool,
    /// Due time of the lease's entry in the heap.
    #[serde(skip)]
    pub scheduled: Option<u64>,
}

impl Lease {
    /// A new lease. Its first request for a token is due at `now`, Unix milliseconds.
    #[must_use]
    pub fn new(key: LeaseKey, owner: Owner, profile: &str, now: u64) -> Self {
        Self {
            key,
            uid: owner.uid,
            gid: owner.gid,
            jobs: BTreeMap::new(),
            leaders: BTreeSet::new(),
            array_job: None,
            submitted: None,
            followed: false,
            known: KnownNodes::default(),
            progress: None,
            made_here: false,
            submitter: None,
            ends: Ends::Submission,
            replaced: None,
            stands_for: None,
            process: None,
            profile: profile.to_owned(),
            handle: String::new(),
            required: false,
            until: None,
            windows: Vec::new(),
            start_windows: Vec::new(),
            credential: None,
            is_unopened: false,
            asks_broker: false,
            lacks_credential: false,
            proven: false,
            token: None,
            token_text: None,
            arrived: None,
            removing: false,
            login: None,
            lingers: false,
            retain: false,
            place: SessionPlace::Run,
            revoke_at_end: false,
            is_stale: false,
            is_doubtful: false,
            on_disk: false,
            files_due: false,
            write_due: None,
            files: Vec::new(),
            phase: Phase::Active { due: now },
            waits_until: None,
            failures: 0,
            failing_since: None,
            reason: None,
            history: EventHistory::default(),
            lane: String::new(),
            limited_uses: false,
            clock_offset: None,
            requests: OpenRequests::default(),
            requested: None,
            asked: None,
            generation: 0,
            asking: false,
            in_progress: false,
            revoking: false,
            scheduled: None,
        }
    }

    /// Adds a job that starts on this node.
    pub fn add_job(&mut self, job: u32, gid: u32, array_job: Option<u32>, now: u64) {
        let (start, window) = self.first_window(now);
        self.jobs.insert(job, Box::new(LocalJob { start, window, ..LocalJob::new(gid, now) }));
        self.revoking &= self.ends == Ends::OnRequest;
        self.leaders.insert(array_job.filter(|array| *array != 0).unwrap_or(job));
        let ended: Vec<u32> = self.jobs.iter().filter(|(_, job)| !job.running).map(|(id, _)| *id).collect();
        for old in ended.iter().take(ended.len().saturating_sub(MOST_ENDED_JOBS)) {
            self.jobs.remove(old);
        }
    }

    /// Whether the agent tells its end no longer, at `now`, Unix milliseconds, while no broker can open its credential: nobody knows when
    /// that expires.
    #[must_use]
    pub fn is_given_up(&self, now: u64) -> bool {
        self.is_unopened && self.jobs.values().all(|job| now.saturating_sub(job.last_seen) > LONGEST_UNOPENED)
    }

    /// Ids of the jobs that run here.
    pub fn running_jobs(&self) -> impl Iterator<Item = u32> {
        self.jobs.iter().filter(|(_, job)| job.running).map(|(id, _)| *id)
    }

    /// Whether this job runs here under this lease.
    #[must_use]
    pub fn runs(&self, job: u32) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.running)
    }

    /// Whether the submission was made on this host, and none of its jobs has run here.
    #[must_use]
    pub fn is_followed_here(&self) -> bool {
        self.progress.is_some() && self.jobs.is_empty() && !matches!(self.phase, Phase::Finished { .. })
    }

    /// Whether the session, or a job of the submission, still runs on this node.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Active { .. } | Phase::Refused)
    }

    /// Whether its access tokens are renewed as planned: then [`Self::reason`] says nothing about requests for them.
    #[must_use]
    pub fn is_as_planned(&self) -> bool {
        matches!(self.phase, Phase::Active { .. }) && self.failing_since.is_none() && self.waits_until.is_none()
    }

    /// The state of a job's access token: the answer to a starting step. `None` is the session.
    #[must_use]
    pub fn state(&self, job: Option<u32>) -> JobState {
        let (running, ready) = match job {
            Some(job) => self.jobs.get(&job).map_or((false, false), |job| (job.running, job.file.is_some())),
            None => (true, self.token.is_some()),
        };
        let window = job.map_or(JobWindow::Always, |job| self.window_of(job));
        match self.phase {
            Phase::Active { .. } | Phase::Refused if running && ready => JobState::Ready,
            Phase::Active { .. } | Phase::Refused if window == JobWindow::Over => JobState::Failed,
            Phase::Active { .. } if running => JobState::Pending,
            // The files could not be written yet.
            Phase::Refused if running && self.token.is_some() && window.is_open() => JobState::Pending,
            _ => JobState::Failed,
        }
    }

    /// Adds an event at `now` (Unix milliseconds).
    pub fn record(&mut self, now: u64, kind: EventKind, text: impl Into<String>) {
        self.history.add(now / 1000, kind, text);
    }

    /// Ends the renewal for `reason`. The credential stays if it has to be revoked at the end.
    pub fn refuse(&mut self, now: u64, reason: String) {
        self.record(now, EventKind::Refused, reason.clone());
        self.reason = Some(reason);
        self.waits_until = None;
        if matches!(self.key, LeaseKey::Session(_)) && !self.revoke_at_end {
            self.credential = None;
        }
        self.phase = Phase::Refused;
    }

    /// Time of the first event, Unix seconds.
    #[must_use]
    pub fn first_event(&self) -> Option<u64> {
        self.history.events().first().map(|event| event.time)
    }
}

#[cfg(test)]
mod tests;
