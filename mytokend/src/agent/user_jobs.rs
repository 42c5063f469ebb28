// SPDX-License-Identifier: MIT OR Apache-2.0
//! What slurmctld said last about the jobs of each user. A user may have many submissions, and slurmctld serves thousands of nodes: one
//! answer serves all submissions of the user that only wait.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Agent;
use super::slurm::SqueueError;

/// The last answers by uid, with the elapsed time of their questions.
pub(super) type UserJobs = HashMap<u32, (Duration, Arc<str>)>;

/// An answer of this age is as good as a new one.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// An answer of this age still shows that a submission is not over.
pub(super) const USABLE: Duration = Duration::from_secs(30);

impl Agent {
    /// The output of squeue about the jobs of `uid`, at most `age` old, and whether it is [`FRESH`].
    pub(super) fn jobs_of(&self, uid: u32, age: Duration) -> Result<(Arc<str>, bool), SqueueError> {
        let now = self.clock.elapsed();
        self.forget_old_answers();
        let known = self.user_jobs.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        if let Some((asked, output)) = known {
            let old = now.saturating_sub(asked);
            if old <= age {
                return Ok((output, old <= FRESH));
            }
        }
        // Not locked: slurmctld may hang, and the answers about other users must not wait.
        let output: Arc<str> = self.configured().controller.jobs_of(uid)?.into();
        let mut answers = self.user_jobs.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(uid, (now, Arc::clone(&output)));
        Ok((output, true))
    }

    /// Frees the answers that are of no use any more. One about an array may have megabytes.
    pub(super) fn forget_old_answers(&self) {
        let now = self.clock.elapsed();
        let mut answers = self.user_jobs.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (asked, _)| now.saturating_sub(*asked) <= USABLE);
    }
}
