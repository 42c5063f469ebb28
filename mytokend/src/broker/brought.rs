// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which credential serves a job: the one that it has brought, or the one that has replaced that while the job waited. Nodes go on sending
//! the text of the submission, and to them the credential has its handle.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mytoken_wire::agent::JobStart;

use super::cluster_jobs::ClusterJobs;
use super::messages::{EndRequest, ReplacedAnswer, ReplacedRequest};
use super::replacements::{Leader, Replacement};
use super::{Broker, State, SubmissionKey};
use crate::agent::credential_service::{Admitted, Denied};
use crate::log::Level;

/// How long a node waits at most for slurmctld.
const PATIENCE: Duration = Duration::from_secs(10);

/// The credential that a job has brought.
pub(super) struct Brought {
    /// What it says.
    pub admitted: Admitted,
    /// Why it gives the job no token, if it has expired. Another one may have replaced it.
    pub expired: Option<Denied>,
}

/// The credential that serves a job.
pub(super) struct Served {
    /// Its submission.
    pub key: SubmissionKey,
    /// What the node is told of it. `None` while another one may be found.
    pub told: Option<Admitted>,
}

/// A credential that has replaced the one that a job has brought.
pub(super) struct Replacing {
    /// Its own submission.
    pub key: SubmissionKey,
    /// The job that leads those that it serves.
    pub leader: u32,
    /// What is kept of it.
    pub replacement: Arc<Replacement>,
    /// What it says.
    pub admitted: Admitted,
}

impl Replacing {
    /// What nodes are told of it: what they know the submission by stays as it was.
    pub(super) fn told(&self, brought: &Admitted) -> Admitted {
        Admitted {
            handle: brought.handle.clone(),
            required: brought.required,
            submitted: brought.submitted,
            followed: brought.followed,
            ..self.admitted.clone()
        }
    }
}

/// What serves jobs in place of the credentials of their submissions.
pub(super) struct InUse {
    /// By user: the leaders, and those that have given an access token.
    proven: HashMap<u32, Vec<(u32, Arc<Replacement>)>>,
    /// The other ones. Until they have given a token, the credential that they replace is needed.
    pub unproven: HashSet<SubmissionKey>,
}

impl InUse {
    /// The leaders whose jobs do not need the credential of this submission any more, which was made at `made`, Unix seconds.
    pub(super) fn leaders_beside(&self, key: &SubmissionKey, made: u64) -> BTreeSet<u32> {
        let of_user = self.proven.get(&key.uid).into_iter().flatten();
        of_user.filter(|(_, other)| other.replaces(&key.handle, made)).map(|(leader, _)| *leader).collect()
    }
}

impl Broker {
    /// Opens the credential that a job has brought.
    pub(super) fn brought(&self, job: u32, uid: u32, sealed: &str) -> Result<Brought, Denied> {
        let denied = match self.admit(job, uid, sealed) {
            Ok(admitted) => return Ok(Brought { admitted, expired: None }),
            Err(denied) => denied,
        };
        match self.admit_expired(job, uid, sealed) {
            Some(admitted) => Ok(Brought { admitted, expired: Some(denied) }),
            None => Err(denied),
        }
    }

    fn admit_expired(&self, job: u32, uid: u32, sealed: &str) -> Option<Admitted> {
        if !self.replaced.has_any(uid) {
            return None;
        }
        let now = self.clock.elapsed();
        if let Some(admitted) = self.replaced.expired.get(uid, sealed, now) {
            return Some(admitted);
        }
        let start = JobStart { job, uid, ..JobStart::default() };
        let admitted = self.service().admit_expired(&start, sealed)?;
        self.replaced.expired.keep(uid, sealed, &admitted, now);
        Some(admitted)
    }

    /// What serves a job until slurmctld has told its leader.
    pub(super) fn served_at_first(&self, uid: u32, brought: &Brought) -> Served {
        let key = SubmissionKey { uid, handle: brought.admitted.handle.clone() };
        let is_final = brought.expired.is_none() && !self.replaced.has_any(uid);
        Served { key, told: is_final.then(|| brought.admitted.clone()) }
    }

    /// The credential that has replaced this one for the jobs that `leader` leads. One that cannot be opened replaces none.
    pub(super) fn replacing(&self, leader: Leader, brought: &Admitted) -> Option<Replacing> {
        self.opened(leader, self.replaced.get(leader)?, brought)
    }

    /// The same for a job that has ended. slurmctld may have forgotten it, and the submission may be over.
    pub(super) fn replacing_ended(
        &self,
        request: &EndRequest,
        leader: Option<u32>,
        brought: &Admitted,
    ) -> Option<Replacing> {
        let EndRequest { job, uid, .. } = request;
        let candidates = self.replaced.of_user(*uid);
        if candidates.is_empty() {
            return None;
        }
        let in_answer = |jobs: &ClusterJobs| jobs.job(*job).filter(|own| own.uid == *uid).map(|own| own.leader);
        let leader = leader.or_else(|| self.questions.last().jobs.as_deref().and_then(in_answer));
        let found = {
            let state = self.state();
            let has_served = |other: &Replacement| {
                let key = SubmissionKey { uid: *uid, handle: other.handle.clone() };
                state.submissions.get(&key).is_some_and(|known| known.jobs.contains(job))
            };
            candidates.into_iter().find(|(own, other)| Some(own.job) == leader || has_served(other))
        };
        let (own, replacement) = found?;
        self.opened(own, replacement, brought)
    }

    fn opened(&self, leader: Leader, replacement: Arc<Replacement>, brought: &Admitted) -> Option<Replacing> {
        if !replacement.replaces(&brought.handle, brought.made) {
            return None;
        }
        match self.admit(leader.job, leader.uid, &replacement.sealed) {
            Ok(admitted) => {
                let key = SubmissionKey { uid: leader.uid, handle: replacement.handle.clone() };
                Some(Replacing { key, leader: leader.job, replacement, admitted })
            }
            Err(denied) => {
                self.tell_unopened(leader, &denied.reason);
                None
            }
        }
    }

    /// Logs that a credential which replaces another one cannot be used.
    pub(super) fn tell_unopened(&self, leader: Leader, reason: &str) {
        let Leader { uid, job } = leader;
        let text = format!("job {job} uid {uid}: the credential that replaces its own cannot be opened: {reason}");
        if self.told.is_new(&text, self.clock.elapsed()) {
            self.log.line_of(uid, Level::Error, &text);
        }
    }

    /// The credential that has replaced the own one of a job on `node`, which has brought a handle under which nothing is kept. Only the node
    /// of the job gets it.
    ///
    /// # Errors
    /// A sentence: the node asks again.
    pub async fn replaced(&self, node: &str, request: &ReplacedRequest) -> Result<ReplacedAnswer, String> {
        let (uid, job) = (request.uid, request.job);
        if !self.replaced.has_any(uid) {
            return Ok(ReplacedAnswer::Unknown {});
        }
        let found = tokio::time::timeout(PATIENCE, self.leader_on(node, uid, job)).await;
        let leader = found.map_err(|_| "slurmctld does not answer the broker".to_owned())??;
        let replacement = self.replaced.get(Leader { uid, job: leader });
        Ok(replacement.map_or(ReplacedAnswer::Unknown {}, |own| ReplacedAnswer::Sealed(own.sealed.clone())))
    }

    /// The leader of a user's job that runs on `node`.
    async fn leader_on(&self, node: &str, uid: u32, job: u32) -> Result<u32, String> {
        let begin = self.clock.elapsed();
        let mut answered = self.questions.last();
        loop {
            let own = answered.jobs.as_ref().and_then(|jobs| jobs.job(job));
            if let Some(own) = own.filter(|own| own.uid == uid && own.is_on(node)) {
                self.asking.running.found(node, job);
                return Ok(own.leader);
            }
            // The job may have started since the answer.
            let is_new = answered.asked >= begin;
            if is_new || self.asking.running.may_ask(node, job, self.clock.elapsed()).is_err() {
                if let Some(trouble) = &answered.trouble {
                    return Err(format!("the broker cannot ask slurmctld about the job: {trouble}"));
                }
                if is_new {
                    self.asked_in_vain(&self.asking.running, node, job, answered.asked);
                }
                return Err(format!("slurmctld says that job {job} does not run on {node}"));
            }
            answered = self.questions.newer(&answered).await;
        }
    }

    /// Which jobs are served by another credential than that of their submission.
    pub(super) fn in_use(&self, state: &State) -> InUse {
        let mut found = InUse { proven: HashMap::new(), unproven: HashSet::new() };
        for (leader, replacement) in self.replaced.all() {
            let key = SubmissionKey { uid: leader.uid, handle: replacement.handle.clone() };
            if state.submissions.get(&key).is_some_and(|known| known.proven) {
                found.proven.entry(leader.uid).or_default().push((leader.job, replacement));
            } else {
                found.unproven.insert(key);
            }
        }
        found
    }
}
