// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settles ended jobs: slurmctld says whether a job is final, then its sub-token is revoked or left to others. The lease table is not
//! locked during a query.

use mytoken::Deadline;
use mytoken_wire::agent::EventKind;

use super::credential_service::RequestFailure;
use super::lease::{Lease, LeaseCredential, LeaseKey, Phase};
use super::lease_table::Task;
use super::{Agent, millis};
use crate::jobs::{EndDecision, decide_end, is_gone};
use crate::log::Level;

/// How many times slurmctld is asked about an ended job, including failed revocations. Afterwards the sub-token ends by its expiry.
/// With [`DOUBLINGS`] the tries cover eleven hours without slurmctld or without the mytoken server.
const MAX_TRIES: u32 = 20;

/// How many times the pause between two tries doubles: from seconds to an hour.
const DOUBLINGS: u32 = 11;

/// The result of one try.
enum Settlement {
    /// The lease is finished. The event says why.
    Finished(EventKind, String),
    /// There is no decision yet, for this reason.
    TryAgain(String),
}

impl Agent {
    /// Asks slurmctld about an ended job and acts on the answer.
    pub(super) fn settle(&self, task: &Task) {
        let LeaseKey::Job(job) = task.key else { return };
        let copied = self.leases().begin(task, |lease| Some((lease.credential.clone(), lease.array_job, lease.phase)));
        let Some((credential, array, Phase::Ended { tries, .. })) = copied else { return };
        let settlement = match self.configured().controller.job_states(array.unwrap_or(job)) {
            Ok(states) => self.carry_out(decide_end(states.as_deref(), job, &self.node), &task.key, credential),
            Err(error) => Settlement::TryAgain(error.to_string()),
        };
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        if matches!(lease.phase, Phase::Ended { .. }) {
            self.apply(lease, settlement, tries.saturating_add(1));
        }
        self.lease_changed(&mut table, &task.key);
    }

    fn carry_out(&self, decision: EndDecision, key: &LeaseKey, credential: Option<LeaseCredential>) -> Settlement {
        let left = |text: &str| Settlement::Finished(EventKind::Left, text.to_owned());
        match (decision, credential) {
            (EndDecision::Revoke, _) if self.is_shared(key) => {
                left("another job of the same submission still runs on this node")
            }
            (EndDecision::Revoke, Some(credential)) => self.revoke(&credential),
            (EndDecision::Revoke | EndDecision::Leave, _) => {
                left("the job's first node revokes the sub-token, or the node of the array's last task")
            }
            (EndDecision::Requeued, _) => Settlement::Finished(
                EventKind::Requeued,
                "the job is back in the queue and keeps its credential".to_owned(),
            ),
            (EndDecision::Undecided, _) => {
                Settlement::TryAgain("slurmctld does not report the job as finished yet".to_owned())
            }
        }
    }

    fn apply(&self, lease: &mut Lease, settlement: Settlement, tries: u32) {
        let now = self.clock.unix_millis();
        let finished = Phase::Finished { due: now.saturating_add(millis(self.configured().intervals.retention)) };
        match settlement {
            Settlement::Finished(kind, text) => {
                self.record(lease, Level::Info, kind, text);
                lease.credential = None;
                lease.phase = finished;
            }
            Settlement::TryAgain(_) if tries < MAX_TRIES => {
                let wait = self.configured().intervals.settle_delay.saturating_mul(1 << tries.min(DOUBLINGS));
                lease.phase = Phase::Ended { due: now.saturating_add(millis(wait)), tries };
            }
            Settlement::TryAgain(reason) => {
                let text = format!("the sub-token was not revoked ({reason}); it ends by its expiry");
                self.record(lease, Level::Warning, EventKind::Kept, text);
                lease.credential = None;
                lease.phase = finished;
            }
        }
    }

    fn revoke(&self, credential: &LeaseCredential) -> Settlement {
        match self
            .configured()
            .service
            .revoke(credential, Deadline::after(self.configured().intervals.request_deadline))
        {
            Ok(()) => Settlement::Finished(EventKind::Revoked, "the job is over; its sub-token was revoked".to_owned()),
            Err(failure) if failure.temporary => Settlement::TryAgain(failure.reason),
            Err(failure) => {
                Settlement::Finished(EventKind::Kept, format!("the sub-token could not be revoked: {}", failure.reason))
            }
        }
    }

    /// Whether another job of the same submission runs here: components of a heterogeneous job and tasks of an array share one
    /// credential. Jobs of different users never share one: every user can seal a credential with the handle of another user.
    fn is_shared(&self, key: &LeaseKey) -> bool {
        let table = self.leases();
        let Some(own) = table.get(key).filter(|own| !own.handle.is_empty()) else { return false };
        let same = |other: &Lease| other.uid == own.uid && other.handle == own.handle;
        table.leases().any(|other| other.key != own.key && other.is_running() && same(other))
    }

    /// Ends a job that has no process here, if slurmctld says that it has left all nodes. Its epilog did not run or did not reach the agent.
    pub(super) fn query_job(&self, task: &Task) {
        let LeaseKey::Job(job) = task.key else { return };
        let gone = self.configured().controller.job_states(job).is_ok_and(|states| is_gone(states.as_deref(), job));
        let mut table = self.leases();
        let Some(lease) = table.current(task) else { return };
        if gone && lease.is_running() {
            self.record(lease, Level::Warning, EventKind::Missed, "the job ended, but no epilog called the agent");
            if let Err(error) = self.runtime_dir.remove_job(job) {
                self.log.line(Level::Error, &format!("job {job}: its files could not be removed: {error}"));
            }
            self.end_job(&mut table, job);
        }
    }

    /// Treats a panic of the worker thread as a temporary failure of its task.
    pub(super) fn task_panicked(&self, task: &Task) {
        let mut table = self.leases();
        let Some(lease) = table.finish(task) else { return };
        let reason = "an internal error of the agent";
        match lease.phase {
            Phase::Active { .. } => self.request_failed(lease, RequestFailure::temporary(reason)),
            Phase::Ended { tries, .. } => {
                self.apply(lease, Settlement::TryAgain(reason.to_owned()), tries.saturating_add(1));
            }
            Phase::Refused | Phase::Finished { .. } => {}
        }
        self.lease_changed(&mut table, &task.key);
    }
}
