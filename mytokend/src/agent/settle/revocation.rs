// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends the revocation of a sub-token, or of a session's mytoken.

use mytoken::Deadline;
use mytoken_wire::agent::EventKind;

use super::Settlement;
use crate::agent::Agent;
use crate::agent::budget::ledger::Purpose;
use crate::agent::credential_service::{Charge, RequestFailure};
use crate::agent::lease::{Ends, LeaseCredential, Phase};
use crate::agent::lease_table::Task;
use crate::jobs::Progress;

/// What is revoked, for people.
pub(super) const fn word(credential: &LeaseCredential) -> &'static str {
    match credential {
        LeaseCredential::Mytoken(_) => "mytoken",
        LeaseCredential::Sealed(_) | LeaseCredential::Registered { .. } | LeaseCredential::SubToken { .. } => {
            "sub-token"
        }
    }
}

impl Agent {
    /// Revokes the sub-token of a submission that is final, unless a job has come back, or the mytoken of a session that has ended.
    pub(in crate::agent) fn revoke(&self, task: &Task) {
        let now = self.now();
        let copied = self.leases().begin(task, |lease| match lease.phase {
            Phase::Ended { tries, revoke, .. } if lease.revoking => {
                let purpose = match lease.progress {
                    _ if lease.proven => Purpose::Revocation,
                    Some(Progress::Started) => Purpose::LastRevocation,
                    _ => Purpose::UnverifiedRevocation,
                };
                let charge = Charge { uid: lease.uid, purpose, job: lease.jobs.keys().copied().last() };
                Some((lease.credential.clone()?, charge, lease.ends, (tries, revoke, lease.is_given_up(now))))
            }
            _ => None,
        });
        let Some((credential, charge, ends, (tries, revoke, is_given_up))) = copied else { return };
        let (configured, word) = (self.configured(), word(&credential));
        let deadline = Deadline::after(configured.intervals.request_deadline);
        let settlement = match configured.service.revoke(&credential, charge, deadline) {
            Ok(()) => {
                let is_submission = ends == Ends::Submission && !matches!(credential, LeaseCredential::Mytoken(_));
                let why = if is_submission { "the submission is over; its" } else { "the" };
                Settlement::Finished(EventKind::Revoked, format!("{why} {word} was revoked"))
            }
            Err(RequestFailure { unsent: true, retry_after, reason, .. }) => {
                let by_budget =
                    || format!("the {word} is revoked when the budget of requests to the mytoken server permits it");
                let text = if configured.service.decides_ends() { reason } else { by_budget() };
                Settlement::Waits(retry_after.unwrap_or_default(), text)
            }
            Err(failure) if failure.temporary && !is_given_up => Settlement::RevokeAgain(failure.reason),
            Err(failure) => {
                Settlement::Finished(EventKind::Kept, format!("the {word} could not be revoked: {}", failure.reason))
            }
        };
        drop(credential);
        let mut table = self.leases();
        let still = table.current(task).is_some_and(|lease| lease.revoking);
        let Some(lease) = table.finish(task) else { return };
        if still && matches!(lease.phase, Phase::Ended { .. }) {
            self.apply(lease, settlement, tries, revoke);
        }
        self.lease_changed(&mut table, &task.key);
    }
}
