// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands against a new credential, as the broker knows it without slurmctld. It is looked at before slurmctld is asked: whoever has a
//! job that waits could make it answer as often as he likes.

use std::sync::PoisonError;
use std::time::Duration;

use super::Replaced;
use crate::agent::credential_service::Admitted;
use crate::broker::messages::ReplaceRequest;
use crate::broker::places::NO_ROOM;
use crate::broker::replacements::Leader;
use crate::broker::submission::{End, Submission};
use crate::broker::submission_key::SubmissionKey;
use crate::broker::{Broker, State};

/// Between two new credentials of one job. Each makes two requests to a mytoken server, one of them to revoke the one before.
const PAUSE_OF_JOB: Duration = Duration::from_secs(10);

/// Most credentials of one job that are replaced.
const MOST_OF_JOB: usize = 16;

/// Most of a user's sub-tokens that have given no token and wait to be revoked. With more of them, no credential of his is replaced.
const MOST_UNPROVEN: usize = 128;

impl Replaced {
    /// Refuses a job that got a new credential a moment ago.
    fn check_pause(&self, leader: Leader, now: Duration) -> Result<(), String> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, at| now.saturating_sub(*at) < PAUSE_OF_JOB);
        if recent.contains_key(&leader) {
            let (job, pause) = (leader.job, PAUSE_OF_JOB.as_secs());
            return Err(format!("job {job} got a new credential a moment ago; wait {pause} seconds and try again"));
        }
        Ok(())
    }

    pub(super) fn keep_pause(&self, leader: Leader, now: Duration) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).insert(leader, now);
    }
}

impl Broker {
    /// Whether the broker has this new credential already.
    ///
    /// # Errors
    /// A sentence: it does not take it, whatever slurmctld says.
    pub(super) fn check_replacement(
        &self,
        host: &str,
        request: &ReplaceRequest,
        admitted: &Admitted,
    ) -> Result<bool, String> {
        let ReplaceRequest { uid, job, sealed, .. } = request;
        let store = self.replaced.store.get().ok_or("this broker has no directory for new credentials")?;
        let leader = Leader { uid: *uid, job: *job };
        let known = store.get(leader);
        if known.as_ref().is_some_and(|known| known.sealed == *sealed) {
            return Ok(true);
        }
        if known.is_some_and(|known| known.retired.len() >= MOST_OF_JOB) {
            return Err(format!("{MOST_OF_JOB} credentials of job {job} were replaced already"));
        }
        self.replaced.check_pause(leader, self.clock.elapsed())?;
        store.check_room(leader).map_err(|error| error.to_string())?;
        let key = SubmissionKey::new(*uid, &admitted.handle, sealed);
        let state = self.state();
        if self.replaced.has(&key) || state.submissions.contains_key(&key) {
            return Err("this credential is in use already".to_owned());
        }
        if !state.has_room(&key, host) {
            return Err(NO_ROOM.to_owned());
        }
        if unproven(&state, *uid) >= MOST_UNPROVEN {
            return Err("the broker still revokes many credentials of this user; wait a while and try again".to_owned());
        }
        Ok(false)
    }
}

/// How many of a user's sub-tokens have given no token and wait to be revoked.
fn unproven(state: &State, uid: u32) -> usize {
    let waits = |own: &Submission| !own.proven && matches!(own.end, End::Revoking { .. });
    state.submissions.iter().filter(|(key, own)| key.uid == uid && waits(own)).count()
}
