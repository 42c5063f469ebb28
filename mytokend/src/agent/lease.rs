// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lease: one submission or login session that gets access tokens on this node, its state, and its next action.
//!
//! Everything here is a function of the lease and the time. The times of actions are Unix milliseconds.

use std::collections::{BTreeMap, BTreeSet};

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_wire::agent::{EventKind, JobState, JobStatus, RenewalCredential};
use serde::{Deserialize, Serialize};

use crate::jobs::{EventHistory, Progress, Window};

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

/// The credential that access tokens are obtained with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseCredential {
    /// A submission's sealed credential. It is opened for each request, and the content is not kept.
    Sealed(String),
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

/// The current access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentToken {
    /// Expiry, Unix seconds.
    pub exp: u64,
    /// Lifetime in seconds when it was issued.
    pub lifetime: u64,
}

/// One job of a submission on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalJob {
    /// Group of its file.
    pub gid: u32,
    /// Whether it still runs here. Jobs that have ended are kept for `mytokenctl status`.
    pub running: bool,
    /// Expiry of the access token in its file, Unix seconds, if there is one. It is another one than the lease's own when the last write
    /// failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// When a process of the job was last seen on this node, Unix milliseconds.
    #[serde(skip)]
    pub last_seen: u64,
}

/// Most jobs of a lease that have ended and are still shown.
const MOST_ENDED_JOBS: usize = 16;

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

/// What the agent has to do for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Obtain an access token.
    Renew,
    /// Write the current access token for the jobs that lack it: an earlier attempt failed.
    Write,
    /// Remove the files with the expired token.
    Expire,
    /// Find out whether the ended submission is final, and revoke its sub-token.
    Settle,
    /// Delete the lease.
    Delete,
    /// Ask slurmctld whether a job still exists, because it has had no process here for a while.
    QueryJobs,
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
    pub jobs: BTreeMap<u32, LocalJob>,
    /// Ids under which slurmctld lists the submission's jobs: of an array the array job, of a heterogeneous job the leader.
    #[serde(default)]
    pub leaders: BTreeSet<u32>,
    /// In files of release 0.1.0: the array job of the job that is the key.
    #[serde(default, skip_serializing)]
    pub array_job: Option<u32>,
    /// Begin and end of the time in which jobs of this submission may have been submitted, Unix seconds. Only of a credential that several
    /// submissions share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted: Option<(u64, u64)>,
    /// The agent of the submission's host follows it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
    /// The submission was made on this host: what was seen of its jobs in slurmctld so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
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
    /// When the credential gives access tokens. Empty: always, as far as its own text says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The credential. Removed when the agent does not need it any more.
    #[serde(default, rename = "source")]
    pub credential: Option<LeaseCredential>,
    /// No step of the job has brought a sealed credential so far (for example `srun --export-file`). A later step may bring it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_credential: bool,
    /// The current access token, if there is one.
    #[serde(default, rename = "held")]
    pub token: Option<CurrentToken>,
    /// The access token itself, for further jobs of the submission. After a restart it is read from a file.
    #[serde(skip)]
    pub token_text: Option<Secret>,
    /// When to try again to write the files of jobs that lack them, Unix milliseconds.
    #[serde(skip)]
    pub write_due: Option<u64>,
    /// State.
    pub phase: Phase,
    /// Begin of the next window, Unix seconds, while the agent waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<u64>,
    /// Number of consecutive failures.
    #[serde(default)]
    pub failures: u32,
    /// Why there is no token, or why it is not renewed. A sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// What happened so far.
    #[serde(default)]
    pub history: EventHistory,
    /// Where requests for its access tokens belong: mytoken server and provider.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lane: String,
    /// The number of access tokens is limited, so that no second request may be sent while one has no answer yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited_uses: bool,
    /// The time of day minus elapsed time when the lease was stored, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<i64>,
    /// Number of requests for an access token that are queued or have no answer yet.
    #[serde(skip)]
    pub attempts: u8,
    /// When to send a second request if the first has no answer yet, Unix milliseconds.
    #[serde(skip)]
    pub second_due: Option<u64>,
    /// A number that no earlier lease with the same key had. A worker compares it before it changes the lease.
    #[serde(skip)]
    pub generation: u64,
    /// A worker thread settles this lease.
    #[serde(skip)]
    pub in_progress: bool,
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
            progress: None,
            process: None,
            profile: profile.to_owned(),
            handle: String::new(),
            required: false,
            until: None,
            windows: Vec::new(),
            credential: None,
            lacks_credential: false,
            token: None,
            token_text: None,
            write_due: None,
            phase: Phase::Active { due: now },
            waits_until: None,
            failures: 0,
            reason: None,
            history: EventHistory::default(),
            lane: String::new(),
            limited_uses: false,
            clock_offset: None,
            attempts: 0,
            second_due: None,
            generation: 0,
            in_progress: false,
            scheduled: None,
        }
    }

    /// The lease in its present form: release 0.1.0 had one lease for each job.
    #[must_use]
    pub fn in_present_form(mut self, now: u64) -> Self {
        if let LeaseKey::Job(job) = self.key {
            if self.jobs.is_empty() {
                let (running, file) = (self.is_running(), self.token.map(|token| token.exp));
                self.jobs.insert(job, LocalJob { gid: self.gid, running, file, last_seen: now });
                self.leaders.insert(self.array_job.unwrap_or(job));
            }
            if self.credential.is_some() && !self.handle.is_empty() {
                self.key = LeaseKey::Submission { uid: self.uid, handle: self.handle.clone() };
            }
        }
        for job in self.jobs.values_mut() {
            job.last_seen = now;
        }
        self
    }

    /// Adds a job that starts on this node.
    pub fn add_job(&mut self, job: u32, gid: u32, array_job: Option<u32>, now: u64) {
        self.jobs.insert(job, LocalJob { gid, running: true, file: None, last_seen: now });
        self.leaders.insert(array_job.filter(|array| *array != 0).unwrap_or(job));
        let ended: Vec<u32> = self.jobs.iter().filter(|(_, job)| !job.running).map(|(id, _)| *id).collect();
        for old in ended.iter().take(ended.len().saturating_sub(MOST_ENDED_JOBS)) {
            self.jobs.remove(old);
        }
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

    /// Owner of the file of `job`; of a session's file when there is no such job.
    #[must_use]
    pub fn owner(&self, job: Option<u32>) -> Owner {
        let gid = job.and_then(|job| self.jobs.get(&job)).map_or(self.gid, |job| job.gid);
        Owner { uid: self.uid, gid }
    }

    /// Moves all plans by `jump` milliseconds, because the time of day was set by that much. The plans of this machine follow; the times of
    /// the credential are those of its server. `soon` is when to renew at the latest.
    pub fn follow_jump(&mut self, jump: i64, offset: i64, soon: u64) {
        let later = |at: u64| at.saturating_add_signed(jump);
        let seconds = |exp: u64| exp.saturating_mul(1000).saturating_add_signed(jump) / 1000;
        self.clock_offset = Some(offset);
        if let Some(token) = &mut self.token {
            token.exp = seconds(token.exp);
        }
        for job in self.jobs.values_mut() {
            job.last_seen = later(job.last_seen);
            job.file = job.file.map(seconds);
        }
        self.write_due = self.write_due.map(later);
        self.second_due = self.second_due.map(later);
        self.phase = match self.phase {
            Phase::Active { due } => {
                let window = self.waits_until.map(|begin| begin.saturating_add(1).saturating_mul(1000));
                Phase::Active { due: window.unwrap_or_else(|| later(due).min(soon)) }
            }
            Phase::Ended { due, tries, revoke } => Phase::Ended { due: later(due), tries, revoke: revoke.map(later) },
            Phase::Finished { due } => Phase::Finished { due: later(due) },
            Phase::Refused => Phase::Refused,
        };
    }

    /// The next action and its time. While a worker thread processes the lease, only an expired token is removed, and a second request
    /// is sent when the first has no answer for a long time.
    #[must_use]
    pub fn next_action(&self) -> Option<(u64, Action)> {
        let (due, action) = match self.phase {
            _ if self.in_progress => (u64::MAX, Action::Delete),
            Phase::Active { due } if self.attempts == 0 => (due, Action::Renew),
            Phase::Active { .. } => (self.second_due.unwrap_or(u64::MAX), Action::Renew),
            Phase::Ended { due, .. } => (due, Action::Settle),
            Phase::Finished { due } => (due, Action::Delete),
            Phase::Refused => (u64::MAX, Action::Delete),
        };
        // A token that expires before the next request is removed first.
        let in_files = self.jobs.values().filter_map(|job| job.file);
        let expiry = in_files.chain(self.token.map(|token| token.exp)).min();
        let expiry = expiry.map(|exp| (exp.saturating_mul(1000), Action::Expire));
        let write = self.write_due.map(|due| (due, Action::Write));
        let next = [expiry, write, Some((due, action))].into_iter().flatten().min_by_key(|(due, _)| *due)?;
        (next.0 != u64::MAX).then_some(next)
    }

    /// A worker thread has done `action`.
    pub fn end_task(&mut self, action: Action) {
        match action {
            Action::Renew => self.attempts = self.attempts.saturating_sub(1),
            _ => self.in_progress = false,
        }
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

    /// The state of a job's access token: the answer to a starting step. `None` is the session.
    #[must_use]
    pub fn state(&self, job: Option<u32>) -> JobState {
        let (running, ready) = match job {
            Some(job) => self.jobs.get(&job).map_or((false, false), |job| (job.running, job.file.is_some())),
            None => (true, self.token.is_some()),
        };
        match self.phase {
            Phase::Active { .. } | Phase::Refused if running && ready => JobState::Ready,
            Phase::Active { .. } if running => JobState::Pending,
            // The files could not be written yet.
            Phase::Refused if running && self.token.is_some() => JobState::Pending,
            _ => JobState::Failed,
        }
    }

    /// Adds an event at `now` (Unix milliseconds).
    pub fn record(&mut self, now: u64, kind: EventKind, text: impl Into<String>) {
        self.history.add(now / 1000, kind, text);
    }

    /// Ends the renewal for `reason`. The credential stays: the sub-token has to be revoked at the end.
    pub fn refuse(&mut self, now: u64, reason: String) {
        self.record(now, EventKind::Refused, reason.clone());
        self.reason = Some(reason);
        self.waits_until = None;
        if matches!(self.key, LeaseKey::Session(_)) {
            self.credential = None;
        }
        self.phase = Phase::Refused;
    }

    /// Time of the first event, Unix seconds.
    #[must_use]
    pub fn first_event(&self) -> Option<u64> {
        self.history.events().first().map(|event| event.time)
    }

    /// One job of the lease, or the session, for `mytokenctl status`, with the last `most` events.
    #[must_use]
    pub fn status(&self, job: Option<u32>, most: usize) -> JobStatus {
        let events = self.history.events();
        JobStatus {
            job: job.unwrap_or(0),
            uid: self.uid,
            profile: self.profile.clone(),
            state: self.state(job),
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
        let ended = Phase::Ended { due: 7, tries: 0, revoke: None };
        for (lease, next, while_busy) in [
            (lease(Phase::Active { due: 5_000 }, None), Some((5_000, Action::Renew)), None),
            (lease(Phase::Active { due: 5_000 }, Some(10)), Some((5_000, Action::Renew)), Some(10_000)),
            (lease(Phase::Active { due: 50_000 }, Some(10)), Some((10_000, Action::Expire)), Some(10_000)),
            (lease(Phase::Refused, None), None, None),
            (lease(Phase::Refused, Some(10)), Some((10_000, Action::Expire)), Some(10_000)),
            (lease(ended, None), Some((7, Action::Settle)), None),
            (lease(Phase::Finished { due: 9 }, None), Some((9, Action::Delete)), None),
            (Lease { write_due: Some(3), ..lease(Phase::Refused, Some(10)) }, Some((3, Action::Write)), Some(3)),
        ] {
            assert_eq!(lease.next_action(), next, "{:?}", lease.phase);
            let busy = Lease { in_progress: true, ..lease };
            assert_eq!(busy.next_action().map(|(due, _)| due), while_busy, "{:?}", busy.phase);
        }
    }

    #[test]
    fn a_second_request_has_its_own_time() {
        let mut lease = Lease { attempts: 1, ..lease(Phase::Active { due: 5_000 }, Some(10)) };
        assert_eq!(lease.next_action(), Some((10_000, Action::Expire)));
        lease.second_due = Some(7_000);
        assert_eq!(lease.next_action(), Some((7_000, Action::Renew)));
    }

    #[test]
    fn a_jump_of_the_clock_moves_the_plans_and_not_the_credential() {
        let hour = 3_600_000;
        let start = Lease { until: Some(9_000), ..lease(Phase::Active { due: 5_000_000 }, Some(6_000)) };
        let mut back = start.clone();
        back.follow_jump(-hour, 1, 9_000_000);
        assert_eq!((back.phase, back.token.unwrap().exp), (Phase::Active { due: 1_400_000 }, 2_400));
        assert_eq!((back.until, back.clock_offset), (Some(9_000), Some(1)));
        let mut forward = start.clone();
        forward.follow_jump(hour, 1, 5_500_000);
        assert_eq!((forward.phase, forward.token.unwrap().exp), (Phase::Active { due: 5_500_000 }, 9_600));
        let mut waiting = Lease { waits_until: Some(7_000), ..start };
        waiting.follow_jump(-hour, 1, 0);
        assert_eq!(waiting.phase, Phase::Active { due: 7_001_000 });
        let mut ended = lease(Phase::Ended { due: 5_000_000, tries: 3, revoke: Some(5_500_000) }, None);
        ended.follow_jump(-hour, 1, 0);
        assert_eq!(ended.phase, Phase::Ended { due: 1_400_000, tries: 3, revoke: Some(1_900_000) });
    }

    #[test]
    fn a_stored_lease_is_read_back() {
        let mut before = lease(Phase::Ended { due: 5, tries: 1, revoke: Some(9) }, Some(10));
        before.key = LeaseKey::Submission { uid: 1, handle: "h".into() };
        before.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
        before.windows = vec![Window { nbf: Some(5), exp: None }];
        before.in_progress = true;
        before.token_text = Some(Secret::new("an access token"));
        before.add_job(8, 5, Some(7), 1);
        before.record(1_000, EventKind::Started, "here");
        let text = serde_json::to_string(&before).unwrap();
        assert!(!text.contains("an access token"), "{text}");
        let after: Lease = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (after.key.clone(), after.phase, after.token, after.credential.clone()),
            (before.key, before.phase, before.token, before.credential)
        );
        assert_eq!((&after.history, &after.windows), (&before.history, &before.windows));
        assert_eq!((after.running_jobs().collect::<Vec<_>>(), after.leaders.clone()), (vec![8], [7].into()));
        assert!(!after.in_progress && after.scheduled.is_none());
        assert_eq!(after.in_present_form(4).jobs[&8].last_seen, 4);
    }

    #[test]
    fn an_old_token_that_could_not_be_replaced_expires_at_its_own_time() {
        let mut lease = lease(Phase::Active { due: 900_000 }, Some(1_000));
        lease.add_job(8, 5, None, 1);
        lease.jobs.get_mut(&8).unwrap().file = Some(400);
        assert_eq!(lease.next_action(), Some((400_000, Action::Expire)));
        assert_eq!(lease.state(Some(8)), JobState::Ready);
    }

    #[test]
    fn of_many_ended_jobs_the_last_ones_are_shown() {
        let mut lease = lease(Phase::Active { due: 0 }, None);
        for job in 0..1_000 {
            lease.add_job(job, 1, Some(7), 0);
            lease.jobs.get_mut(&job).unwrap().running = job == 3;
        }
        assert_eq!(lease.jobs.len(), MOST_ENDED_JOBS + 2, "{:?}", lease.jobs.keys());
        assert!(lease.runs(3) && lease.jobs.contains_key(&999));
        assert_eq!(lease.leaders, [7].into());
    }

    #[test]
    fn a_refused_submission_keeps_its_credential_for_the_revocation() {
        for (key, kept) in
            [(LeaseKey::Submission { uid: 1, handle: "h".into() }, true), (LeaseKey::Session("s".into()), false)]
        {
            let mut lease = Lease::new(key, OWNER, "p", 0);
            lease.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
            lease.refuse(1, "no".into());
            assert_eq!(lease.credential.is_some(), kept, "{:?}", lease.key);
        }
    }

    /// Jobs continue while the agent is upgraded. These are files of release 0.1.0 with invented secrets.
    #[test]
    fn files_of_earlier_releases_are_read() {
        let job = r#"{"key":{"job":1},"uid":1,"gid":2,"array_job":7,"process":null,"profile":"default","handle":"0123456789abcdef0123456789abcdef",
                "required":true,"until":1800086400,"source":{"sealed":"mt1.6a1d98ed.AAAA"},"held":{"exp":1800000120,"lifetime":60},
                "phase":{"alive":{"due":1800000060500}},"failures":0,"reason":null,
                "history":[{"time":1800000000,"what":"started","text":"node1"}]}"#;
        let lease = serde_json::from_str::<Lease>(job).unwrap().in_present_form(5);
        let handle = "0123456789abcdef0123456789abcdef".to_owned();
        assert_eq!(lease.key, LeaseKey::Submission { uid: 1, handle });
        let local = LocalJob { gid: 2, running: true, file: Some(1_800_000_120), last_seen: 5 };
        assert_eq!((lease.jobs, lease.leaders), ([(1, local)].into(), [7].into()));
        let session = r#"{"key":{"session":"s1"},"uid":1,"gid":1,"array_job":null,"process":[4711,99],"profile":"session","handle":"",
                "required":false,"until":null,"source":{"mytoken":{"server":"main","mytoken":"a.b.c","scope":"openid",
                "audience":"https://testbed"}},"held":null,"phase":{"ended":{"due":5,"tries":2}},"failures":3,"reason":"no token",
                "history":[]}"#;
        let lease = serde_json::from_str::<Lease>(session).unwrap().in_present_form(5);
        assert_eq!(lease.key, LeaseKey::Session("s1".into()));
        assert_eq!((lease.phase, lease.process), (Phase::Ended { due: 5, tries: 2, revoke: None }, Some((4711, 99))));
        // A job that was refused before the upgrade has no credential, so nobody knows its submission.
        let refused = job
            .replace(r#"{"sealed":"mt1.6a1d98ed.AAAA"}"#, "null")
            .replace(r#"{"alive":{"due":1800000060500}}"#, r#""refused""#);
        let lease = serde_json::from_str::<Lease>(&refused).unwrap().in_present_form(5);
        assert_eq!((lease.key.clone(), lease.runs(1)), (LeaseKey::Job(1), true));
    }
}
