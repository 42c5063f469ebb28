// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lease: one job or login session of this node that gets access tokens, its state, and its next action.
//!
//! Everything here is a function of the lease and the time. The times of actions are Unix milliseconds.

use mytoken::private_files::Owner;
use mytoken_wire::agent::{EventKind, JobState, JobStatus, RenewalCredential};
use serde::{Deserialize, Serialize};

use crate::jobs::EventHistory;

/// The job or session of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseKey {
    /// A job.
    Job(u32),
    /// A login session.
    Session(String),
}

/// The credential that access tokens are obtained with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseCredential {
    /// A job's sealed credential. It is opened for each request, and the content is not kept.
    Sealed(String),
    /// A session's mytoken.
    Mytoken(RenewalCredential),
}

/// The access token in the job's or session's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentToken {
    /// Expiry, Unix seconds.
    pub exp: u64,
    /// Lifetime in seconds when it was issued.
    pub lifetime: u64,
}

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
    /// The job has ended on this node. The agent has to find out whether to revoke the sub-token.
    Ended {
        /// Time of the next query, Unix milliseconds.
        due: u64,
        /// Number of queries so far.
        tries: u32,
    },
    /// Nothing is to be done any more. The lease is kept for `mytokenctl status`.
    #[serde(rename = "over")]
    Finished {
        /// Time of its deletion, Unix milliseconds.
        due: u64,
    },
}

/// What the agent has to do for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Obtain an access token.
    Renew,
    /// Remove the file with the expired token.
    Expire,
    /// Find out whether the ended job is final, and revoke its sub-token.
    Settle,
    /// Delete the lease.
    Delete,
    /// Ask slurmctld whether the job still exists, because it has had no process here for a while.
    QueryJob,
}

/// A lease. It is stored as JSON between two runs of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// The job or session.
    pub key: LeaseKey,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Job id of the array that the job is a task of.
    #[serde(default)]
    pub array_job: Option<u32>,
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
    /// Expiry of the sub-token or mytoken, or of a session's access token when nothing can renew it. Unix seconds.
    #[serde(default)]
    pub until: Option<u64>,
    /// The credential. Removed when the agent does not need it any more.
    #[serde(default, rename = "source")]
    pub credential: Option<LeaseCredential>,
    /// No step of the job has brought a sealed credential so far (for example `srun --export-file`). A later step may bring it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_credential: bool,
    /// The access token in the file, if there is one.
    #[serde(default, rename = "held")]
    pub token: Option<CurrentToken>,
    /// State.
    pub phase: Phase,
    /// Number of consecutive failures.
    #[serde(default)]
    pub failures: u32,
    /// Why there is no token, or why it is not renewed. A sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// What happened so far.
    #[serde(default)]
    pub history: EventHistory,
    /// A number that no earlier lease with the same key had. A worker compares it before it changes the lease.
    #[serde(skip)]
    pub generation: u64,
    /// A worker thread processes this lease.
    #[serde(skip)]
    pub in_progress: bool,
    /// Due time of the lease's entry in the heap.
    #[serde(skip)]
    pub scheduled: Option<u64>,
    /// When a process of the job was last seen on this node, Unix milliseconds.
    #[serde(skip)]
    pub last_seen: u64,
}

impl Lease {
    /// A new lease. Its first request for a token is due at `now`, Unix milliseconds.
    #[must_use]
    pub fn new(key: LeaseKey, owner: Owner, profile: &str, now: u64) -> Self {
        Self {
            key,
            uid: owner.uid,
            gid: owner.gid,
            array_job: None,
            process: None,
            profile: profile.to_owned(),
            handle: String::new(),
            required: false,
            until: None,
            credential: None,
            lacks_credential: false,
            token: None,
            phase: Phase::Active { due: now },
            failures: 0,
            reason: None,
            history: EventHistory::default(),
            generation: 0,
            in_progress: false,
            scheduled: None,
            last_seen: now,
        }
    }

    /// Owner of the file.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    /// The next action and its time. Nothing while a worker thread processes the lease.
    #[must_use]
    pub fn next_action(&self) -> Option<(u64, Action)> {
        let (due, action) = match self.phase {
            _ if self.in_progress => return None,
            Phase::Active { due } => (due, Action::Renew),
            Phase::Ended { due, .. } => (due, Action::Settle),
            Phase::Finished { due } => (due, Action::Delete),
            Phase::Refused => (u64::MAX, Action::Delete),
        };
        let expiry = self.token.map(|token| (token.exp.saturating_mul(1000), Action::Expire));
        // A token that expires before the next request is removed first.
        let next = expiry.filter(|(expires, _)| *expires <= due).unwrap_or((due, action));
        (next.0 != u64::MAX).then_some(next)
    }

    /// Whether the job or session still runs on this node.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Active { .. } | Phase::Refused)
    }

    /// The state that a starting step gets as its answer.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self.phase {
            _ if self.token.is_some() => JobState::Ready,
            Phase::Active { .. } => JobState::Pending,
            _ => JobState::Failed,
        }
    }

    /// Adds an event at `now` (Unix milliseconds).
    pub fn record(&mut self, now: u64, kind: EventKind, text: impl Into<String>) {
        self.history.add(now / 1000, kind, text);
    }

    /// Ends the renewal for `reason`.
    pub fn refuse(&mut self, now: u64, reason: String) {
        self.record(now, EventKind::Refused, reason.clone());
        self.reason = Some(reason);
        self.credential = None;
        self.phase = Phase::Refused;
    }

    /// The job's id; 0 for a session.
    #[must_use]
    pub fn job_id(&self) -> u32 {
        match self.key {
            LeaseKey::Job(job) => job,
            LeaseKey::Session(_) => 0,
        }
    }

    /// Time of the first event, Unix seconds.
    #[must_use]
    pub fn first_event(&self) -> Option<u64> {
        self.history.events().first().map(|event| event.time)
    }

    /// The lease for `mytokenctl status`, with its last `most` events.
    #[must_use]
    pub fn status(&self, most: usize) -> JobStatus {
        let events = self.history.events();
        JobStatus {
            job: self.job_id(),
            uid: self.uid,
            profile: self.profile.clone(),
            state: self.state(),
            until: self.until,
            events: events.get(events.len().saturating_sub(most)..).unwrap_or_default().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { uid: 1, gid: 1 };

    fn lease(phase: Phase, token: Option<u64>) -> Lease {
        let mut lease = Lease::new(LeaseKey::Job(1), OWNER, "default", 0);
        lease.phase = phase;
        lease.token = token.map(|exp| CurrentToken { exp, lifetime: 60 });
        lease
    }

    #[test]
    fn the_next_action_is_the_earliest() {
        for (lease, next) in [
            (lease(Phase::Active { due: 5_000 }, None), Some((5_000, Action::Renew))),
            (lease(Phase::Active { due: 5_000 }, Some(10)), Some((5_000, Action::Renew))),
            (lease(Phase::Active { due: 50_000 }, Some(10)), Some((10_000, Action::Expire))),
            (lease(Phase::Refused, None), None),
            (lease(Phase::Refused, Some(10)), Some((10_000, Action::Expire))),
            (lease(Phase::Ended { due: 7, tries: 0 }, None), Some((7, Action::Settle))),
            (lease(Phase::Finished { due: 9 }, None), Some((9, Action::Delete))),
        ] {
            assert_eq!(lease.next_action(), next, "{:?}", lease.phase);
            assert_eq!(Lease { in_progress: true, ..lease }.next_action(), None);
        }
    }

    #[test]
    fn a_stored_lease_is_read_back() {
        let mut before = lease(Phase::Active { due: 5 }, Some(10));
        before.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
        before.in_progress = true;
        before.record(1_000, EventKind::Started, "here");
        let after: Lease = serde_json::from_slice(&serde_json::to_vec(&before).unwrap()).unwrap();
        assert_eq!(
            (after.key, after.phase, after.token, after.credential),
            (before.key, before.phase, before.token, before.credential)
        );
        assert_eq!(after.history, before.history);
        assert!(!after.in_progress && after.scheduled.is_none());
    }

    /// Jobs continue while the agent is upgraded. These are files of release 0.1.0 with invented secrets.
    #[test]
    fn files_of_earlier_releases_are_read() {
        for text in [
            r#"{"key":{"job":1},"uid":1,"gid":1,"array_job":7,"process":null,"profile":"default","handle":"0123456789abcdef0123456789abcdef",
                "required":true,"until":1800086400,"source":{"sealed":"mt1.6a1d98ed.AAAA"},"held":{"exp":1800000120,"lifetime":60},
                "phase":{"alive":{"due":1800000060500}},"failures":0,"reason":null,
                "history":[{"time":1800000000,"what":"started","text":"node1"}]}"#,
            r#"{"key":{"session":"s1"},"uid":1,"gid":1,"array_job":null,"process":[4711,99],"profile":"session","handle":"",
                "required":false,"until":null,"source":{"mytoken":{"server":"main","mytoken":"a.b.c","scope":"openid",
                "audience":"https://testbed"}},"held":null,"phase":{"ended":{"due":5,"tries":2}},"failures":3,"reason":"no token",
                "history":[]}"#,
        ] {
            let lease: Lease = serde_json::from_str(text).unwrap();
            let before: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_value(&lease).unwrap(), before);
        }
    }
}
