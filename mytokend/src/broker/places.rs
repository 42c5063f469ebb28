// SPDX-License-Identifier: MIT OR Apache-2.0
//! Room for submissions. Everybody can seal texts, and each that opens is a submission. So the places that one host can take are limited: a
//! node that was stolen leaves some to the others.

use std::collections::HashMap;
use std::time::Duration;

use super::submission::{End, Submission};
use super::submission_key::SubmissionKey;
use super::{REMEMBERED, State};
use crate::agent::credential_service::Admitted;

/// Most submissions. A user's own jobs, and the number of jobs that slurmctld holds, are far below that.
pub(super) const MOST: usize = 200_000;

/// Most submissions that one host has brought first.
pub(super) const MOST_OF_HOST: usize = MOST / 8;

/// A submission is forgotten so many seconds after the expiry of its sub-token: the clocks of the broker and of the mytoken server differ.
const AFTER_EXPIRY: u64 = 600;

/// What a host is told for which there is no room.
pub(super) const NO_ROOM: &str = "the broker has too many submissions, of this host or of all";

/// Number of submissions by the host that has brought them first.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<String, usize>);

impl Places {
    fn of<'s>(submissions: impl Iterator<Item = &'s Submission>) -> Self {
        let mut places = Self::default();
        submissions.for_each(|own| places.take(&own.host));
        places
    }

    fn take(&mut self, host: &str) {
        if let Some(count) = self.0.get_mut(host) {
            *count += 1;
        } else {
            self.0.insert(host.to_owned(), 1);
        }
    }

    fn has_room(&self, host: &str) -> bool {
        // Of what an earlier run has left, the host is not always known.
        host.is_empty() || self.0.get(host).is_none_or(|count| *count < MOST_OF_HOST)
    }
}

impl State {
    /// Whether this submission is known, or `host` may bring it.
    pub(super) fn has_room(&self, key: &SubmissionKey, host: &str) -> bool {
        self.submissions.contains_key(key) || self.submissions.len() < MOST && self.places.has_room(host)
    }

    /// Forgets submissions that were settled a while ago before `elapsed`, elapsed time, and those whose sub-tokens have expired at `now`,
    /// Unix seconds.
    pub(super) fn forget(&mut self, elapsed: Duration, now: u64) {
        self.submissions.retain(|_, own| {
            let is_old = matches!(own.end, End::Settled { since } if elapsed.saturating_sub(since) > REMEMBERED);
            !is_old && own.admitted.exp.saturating_add(AFTER_EXPIRY) > now
        });
        self.places = Places::of(self.submissions.values());
        self.revoked.forget(elapsed);
    }
}

/// The submission with this key. It is made if there is room for one that `host` brings; empty if that is not known.
pub(super) fn submission<'s>(
    state: &'s mut State,
    key: &SubmissionKey,
    sealed: &str,
    admitted: &Admitted,
    host: &str,
) -> Option<&'s mut Submission> {
    if !state.has_room(key, host) {
        return None;
    }
    if !state.submissions.contains_key(key) {
        let mut new = Submission::new(sealed.to_owned(), admitted.clone());
        host.clone_into(&mut new.host);
        if let Some(since) = state.revoked.done_at(key) {
            // By the run before this one, whose memory is gone.
            new.end = End::Settled { since };
        }
        state.submissions.insert(key.clone(), new);
        state.places.take(host);
    }
    state.submissions.get_mut(key)
}
