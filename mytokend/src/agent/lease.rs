// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lease: one job's or session's claim to a fresh access token on this node, and what has to be done about it next.
//!
//! Everything here is a function of the lease and the time; times of schedules are Unix milliseconds.

use mytoken::files::Owner;
use mytoken_wire::agent::{EventKind, JobState, JobStatus, RenewalCredential};
use serde::{Deserialize, Serialize};

use crate::jobs::History;

/// Whose lease it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// A job.
    Job(u32),
    /// A login session.
    Session(String),
}

/// What access tokens are obtained with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A job's sealed credential: opened for each exchange and forgotten again.
    Sealed(String),
    /// A session's mytoken.
    Mytoken(RenewalCredential),
}

/// The access token in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Expiry, Unix seconds.
    pub exp: u64,
    /// Lifetime in seconds when it was issued.
    pub lifetime: u64,
}

/// Where in its life a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The token is obtained and kept fresh; the next attempt is due then.
    Alive {
        /// Unix milliseconds.
        due: u64,
    },
    /// There will be no further token: `reason` of the lease says why. One that is held stays until it expires.
    Refused,
    /// The job has ended here; whether its sub-token is to be revoked is to be found out then.
    Ended {
        /// Unix milliseconds.
        due: u64,
        /// How many times it was tried.
        tries: u32,
    },
    /// Nothing is left but the memory, until then.
    Over {
        /// Unix milliseconds.
        due: u64,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Obtain an access token.
    Renew,
    /// Remove the file: its token is not valid any more.
    Expire,
    /// Find out whether the job is final and revoke.
    Settle,
    /// Forget the lease.
    Forget,
    /// Ask whether the job is still there: no process of it was seen for a while. Decided by the sweep.
    Doubt,
}

/// The lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// Whose.
    pub key: Key,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// The array that the job is a task of.
    #[serde(default)]
    pub array_job: Option<u32>,
    /// A session's process and its start time: when it is gone, the session is over.
    #[serde(default)]
    pub process: Option<(u32, u64)>,
    /// Profile of the submission, or `session`.
    pub profile: String,
    /// Handle of the submission.
    #[serde(default)]
    pub handle: String,
    /// The user demanded a credential.
    #[serde(default)]
    pub required: bool,
    /// Expiry of the sub-token or mytoken; where nothing renews a session, of its access token. Unix seconds.
    #[serde(default)]
    pub until: Option<u64>,
    /// What tokens are obtained with; gone when nothing more is to be done.
    #[serde(default)]
    pub source: Option<Source>,
    /// What is in the file, if there is a file.
    #[serde(default)]
    pub held: Option<Held>,
    /// Where in its life.
    pub phase: Phase,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// Why there is no token, or why it is not renewed: a sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// What happened.
    #[serde(default)]
    pub history: History,
    /// Tells this lease from an earlier one of the same key, for a worker that comes back late.
    #[serde(skip)]
    pub generation: u64,
    /// A worker is at it.
    #[serde(skip)]
    pub busy: bool,
    /// The heap has an entry for it, due then.
    #[serde(skip)]
    pub queued: Option<u64>,
    /// When a process of the job was last seen on this node, Unix milliseconds.
    #[serde(skip)]
    pub seen: u64,
}

impl Lease {
    /// A lease that wants its first token now.
    #[must_use]
    pub fn new(key: Key, owner: Owner, profile: &str, now: u64) -> Self {
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
            source: None,
            held: None,
            phase: Phase::Alive { due: now },
            failures: 0,
            reason: None,
            history: History::default(),
            generation: 0,
            busy: false,
            queued: None,
            seen: now,
        }
    }

    /// Owner of the file.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    /// What is to be done next, and when; nothing while a worker is at it.
    #[must_use]
    pub fn next(&self) -> Option<(u64, Action)> {
        let (due, action) = match self.phase {
            _ if self.busy => return None,
            Phase::Alive { due } => (due, Action::Renew),
            Phase::Ended { due, .. } => (due, Action::Settle),
            Phase::Over { due } => (due, Action::Forget),
            Phase::Refused => (u64::MAX, Action::Forget),
        };
        let expiry = self.held.map(|held| (held.exp.saturating_mul(1000), Action::Expire));
        // A token that expires before its renewal is tried again leaves the file first.
        let next = expiry.filter(|(expires, _)| *expires <= due).unwrap_or((due, action));
        (next.0 != u64::MAX).then_some(next)
    }

    /// Whether there is a job or session that wants tokens.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Alive { .. } | Phase::Refused)
    }

    /// What a starting step is told.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self.phase {
            _ if self.held.is_some() => JobState::Ready,
            Phase::Alive { .. } => JobState::Pending,
            _ => JobState::Failed,
        }
    }

    /// Adds an event at `now` (Unix milliseconds).
    pub fn tell(&mut self, now: u64, kind: EventKind, text: impl Into<String>) {
        self.history.add(now / 1000, kind, text);
    }

    /// No further token, for `reason`.
    pub fn refuse(&mut self, now: u64, reason: String) {
        self.tell(now, EventKind::Refused, reason.clone());
        self.reason = Some(reason);
        self.source = None;
        self.phase = Phase::Refused;
    }

    /// The job's id, 0 for a session.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self.key {
            Key::Job(job) => job,
            Key::Session(_) => 0,
        }
    }

    /// When the first event was, Unix seconds.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        self.history.events().first().map(|event| event.time)
    }

    /// As `mytokenctl status` shows it, with the last `most` events.
    #[must_use]
    pub fn status(&self, most: usize) -> JobStatus {
        let events = self.history.events();
        JobStatus {
            job: self.number(),
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

    const NOBODY: Owner = Owner { uid: 1, gid: 1 };

    fn lease(phase: Phase, held: Option<u64>) -> Lease {
        let mut lease = Lease::new(Key::Job(1), NOBODY, "default", 0);
        lease.phase = phase;
        lease.held = held.map(|exp| Held { exp, lifetime: 60 });
        lease
    }

    #[test]
    fn the_next_action_is_the_earliest() {
        for (lease, next) in [
            (lease(Phase::Alive { due: 5_000 }, None), Some((5_000, Action::Renew))),
            (lease(Phase::Alive { due: 5_000 }, Some(10)), Some((5_000, Action::Renew))),
            (lease(Phase::Alive { due: 50_000 }, Some(10)), Some((10_000, Action::Expire))),
            (lease(Phase::Refused, None), None),
            (lease(Phase::Refused, Some(10)), Some((10_000, Action::Expire))),
            (lease(Phase::Ended { due: 7, tries: 0 }, None), Some((7, Action::Settle))),
            (lease(Phase::Over { due: 9 }, None), Some((9, Action::Forget))),
        ] {
            assert_eq!(lease.next(), next, "{:?}", lease.phase);
            assert_eq!(Lease { busy: true, ..lease }.next(), None);
        }
    }

    #[test]
    fn a_lease_survives_its_file() {
        let mut before = lease(Phase::Alive { due: 5 }, Some(10));
        before.source = Some(Source::Sealed("mt1.x".into()));
        before.busy = true;
        before.tell(1_000, EventKind::Started, "here");
        let after: Lease = serde_json::from_slice(&serde_json::to_vec(&before).unwrap()).unwrap();
        assert_eq!(
            (after.key, after.phase, after.held, after.source),
            (before.key, before.phase, before.held, before.source)
        );
        assert_eq!(after.history, before.history);
        assert!(!after.busy && after.queued.is_none());
    }

    /// Jobs go on over an upgrade of the agent: what release 0.1.0 wrote; the secrets are made up.
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
