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

/// A submission is forgotten so many seconds after the expiry of its sub-token: no clock is measured exactly.
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

    /// Forgets submissions that were settled a while ago before `elapsed`, elapsed time, and those whose sub-tokens have expired.
    /// `server_time` tells the time of day at a mytoken server, Unix seconds.
    ///
    /// This host's clock does not count: a jump of it would drop the submissions of all jobs, or keep them for years. The server's counts,
    /// if it is known, and the whole life of the sub-token, which nobody can use for longer than that after it came here. A sub-token that
    /// is to be revoked is forgotten by the latter alone: until then, only the server's answer says that nobody can use it any more.
    /// `time_at` tells the time of day on this host, Unix seconds, at an elapsed time, for a sub-token that does not say when it was made.
    pub(super) fn forget(
        &mut self,
        elapsed: Duration,
        time_at: impl Fn(Duration) -> u64,
        server_time: impl Fn(&str) -> Option<u64>,
    ) {
        let mut times: HashMap<String, Option<u64>> = HashMap::new();
        self.submissions.retain(|_, own| {
            let known_since = *own.known_since.get_or_insert(elapsed);
            let Admitted { made, exp, .. } = own.admitted;
            let life = life(made, exp, || time_at(known_since));
            let is_past = elapsed.saturating_sub(known_since) > life;
            match own.end {
                End::Settled { since } => elapsed.saturating_sub(since) <= REMEMBERED,
                End::Revoking { .. } => !is_past,
                End::Open { .. } => {
                    let server = own.admitted.server();
                    let now = times.get(server).copied().unwrap_or_else(|| {
                        let now = server_time(server);
                        times.insert(server.to_owned(), now);
                        now
                    });
                    !is_past && now.is_none_or(|now| exp.saturating_add(AFTER_EXPIRY) > now)
                }
            }
        });
        self.places = Places::of(self.submissions.values());
        self.revoked.forget(elapsed);
    }
}

/// How long a sub-token is kept that came here at `known_at`. `made` is 0 in texts that an earlier release has sealed.
fn life(made: u64, exp: u64, known_at: impl Fn() -> u64) -> Duration {
    let begin = if made == 0 { known_at() } else { made };
    Duration::from_secs(exp.saturating_sub(begin).saturating_add(AFTER_EXPIRY))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_token_that_does_not_say_when_it_was_made_lives_from_when_it_came() {
        for (made, exp, known_at, expected) in [
            (1_000, 5_000, 9_999, 4_000),
            (0, 1_800_003_600, 1_800_000_000, 3_600),
            // It had expired.
            (0, 1_800_000_000, 1_800_003_600, 0),
        ] {
            assert_eq!(life(made, exp, || known_at), Duration::from_secs(expected + AFTER_EXPIRY), "{made} {known_at}");
        }
    }
}
