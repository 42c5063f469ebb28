// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the broker knows of a submission: its jobs, its tokens, its end. Everything here is a function of the submission and of elapsed time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mytoken_wire::FileName;

use super::binding::Binding;
use super::ends::Standing;
use super::file_token::FileToken;
use crate::agent::credential_service::{Admitted, RequestFailure};
use crate::jobs::backoff;

/// slurmctld has forgotten the jobs of a submission when so many answers in a row do not show them.
pub(super) const NOT_SHOWN: u32 = 3;

/// Longest pause between two attempts to revoke a sub-token.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How far the end of a submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A job of it runs, waits, or may still come.
    Open {
        /// Number of answers of slurmctld in a row that do not show it.
        not_shown: u32,
    },
    /// It is over, and its sub-token is to be revoked.
    Revoking {
        /// Number of attempts so far.
        tries: u32,
        /// When to try, elapsed time.
        due: Duration,
        /// An attempt is queued or has no answer yet.
        asked: bool,
    },
    /// Nothing is left to do.
    Settled {
        /// Since then, elapsed time.
        since: Duration,
    },
}

/// A submission.
#[derive(Debug)]
pub struct Submission {
    /// Its sealed credential.
    pub sealed: String,
    /// The host that has brought it first. Empty: not known.
    pub host: String,
    /// What that says.
    pub admitted: Admitted,
    /// Its jobs.
    pub binding: Binding,
    /// The ids of those that have got access tokens.
    pub jobs: BTreeSet<u32>,
    /// slurmctld was asked after the time in which its jobs were submitted.
    pub complete: bool,
    /// Its sub-token has given an access token.
    pub proven: bool,
    /// The access tokens, by file.
    pub tokens: BTreeMap<Option<FileName>, FileToken>,
    /// When a node told for the first time that it has no job of it any more, elapsed time.
    pub first_end: Option<Duration>,
    /// It is not judged before this elapsed time: slurmctld may not know its first job yet.
    pub judged_from: Duration,
    /// Since when this broker knows it, elapsed time. `None`: since a moment ago.
    pub known_since: Option<Duration>,
    /// How far its end is.
    pub end: End,
}

/// Nodes tell an end again after these times, while the submission goes on: the shortest, and the longest.
const END_PAUSES: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(120));

impl Submission {
    /// A submission that nobody has asked for yet.
    #[must_use]
    pub fn new(sealed: String, admitted: Admitted) -> Self {
        Self {
            sealed,
            host: String::new(),
            admitted,
            binding: Binding::default(),
            jobs: BTreeSet::new(),
            complete: false,
            proven: false,
            tokens: BTreeMap::new(),
            first_end: None,
            judged_from: Duration::ZERO,
            known_since: None,
            end: End::Open { not_shown: 0 },
        }
    }

    /// A job under this leader gets access tokens of it. `is_sure`: it is a job of this submission.
    pub fn serve(&mut self, leader: u32, job: u32, is_sure: bool) {
        self.binding.learn(leader, is_sure);
        self.jobs.insert(job);
        self.judged_from = Duration::ZERO;
    }

    /// Whether a node has asked for one of its jobs, or told an end.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.first_end.is_some() || !self.jobs.is_empty()
    }

    /// A node has no job of it any more. Returns after which time it tells that again. Most submissions are over soon after the first such
    /// news; in a long array, with nodes that come and go, this must not become a burden.
    pub fn node_ended(&mut self, now: Duration) -> Duration {
        let first = *self.first_end.get_or_insert(now);
        (now.saturating_sub(first) / 2).clamp(END_PAUSES.0, END_PAUSES.1)
    }

    /// Takes note of an answer of slurmctld, at the elapsed time `now`. Returns whether the sub-token is to be revoked from now on.
    pub fn note(&mut self, standing: Standing, now: Duration) -> bool {
        let End::Open { not_shown } = &mut self.end else { return false };
        match standing {
            Standing::GoesOn => *not_shown = 0,
            Standing::NotShown => *not_shown = not_shown.saturating_add(1),
            Standing::Over => *not_shown = NOT_SHOWN,
        }
        if *not_shown < NOT_SHOWN {
            return false;
        }
        self.give_up(now);
        true
    }

    /// Its sub-token is to be revoked from now on: it is over, or another credential has taken its place.
    pub fn give_up(&mut self, now: Duration) {
        if matches!(self.end, End::Open { .. }) {
            self.tokens.clear();
            self.end = End::Revoking { tries: 0, due: now, asked: false };
        }
    }

    /// The attempt to revoke its sub-token was answered.
    pub fn revoked(&mut self, result: &Result<(), RequestFailure>, now: Duration, draw: f64) {
        let End::Revoking { tries, due, asked } = &mut self.end else { return };
        match result {
            Err(failure) if failure.temporary => {
                *tries = if failure.unsent { *tries } else { tries.saturating_add(1) };
                let pause = backoff(*tries, u64::MAX, None, failure.retry_after, draw).min(LONGEST_PAUSE);
                (*due, *asked) = (now.saturating_add(pause), false);
            }
            _ => self.end = End::Settled { since: now },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn submission() -> Submission {
        let admitted = Admitted {
            profile: "default".into(),
            handle: "0".repeat(32),
            required: false,
            made: 0,
            exp: 1,
            windows: Vec::new(),
            start_windows: Vec::new(),
            submitted: None,
            followed: false,
            lane: "lane".into(),
            limited_uses: false,
            description: String::new(),
            files: Vec::new(),
            is_provisional: false,
        };
        Submission::new("mt1.00000000.AA".into(), admitted)
    }

    #[test]
    fn nodes_tell_an_end_again_soon_at_first_and_seldom_later() {
        let mut held = submission();
        let pauses = [100, 115, 130, 160, 300, 5000].map(|second| held.node_ended(at(second)).as_secs());
        assert_eq!(pauses, [15, 15, 15, 30, 100, 120]);
    }

    #[test]
    fn one_answer_that_does_not_show_it_ends_no_submission() {
        let mut held = submission();
        for standing in [Standing::NotShown, Standing::NotShown, Standing::GoesOn, Standing::NotShown] {
            assert!(!held.note(standing, at(1)));
        }
        assert!(!held.note(Standing::NotShown, at(1)) && held.note(Standing::NotShown, at(1)));
        assert!(!held.note(Standing::Over, at(2)), "once");
        let mut over = submission();
        assert!(over.note(Standing::Over, at(1)));
    }

    #[test]
    fn a_revocation_is_tried_until_the_server_has_answered() {
        let mut held = submission();
        held.note(Standing::Over, at(1));
        held.revoked(&Err(RequestFailure::temporary("away")), at(2), 0.5);
        let End::Revoking { tries: 1, due, asked: false } = held.end else { panic!("{:?}", held.end) };
        assert!(due > at(2) && due <= at(2) + LONGEST_PAUSE);
        held.revoked(&Ok(()), at(9), 0.5);
        assert_eq!(held.end, End::Settled { since: at(9) });
        let mut refused = submission();
        refused.note(Standing::Over, at(1));
        refused.revoked(&Err(RequestFailure::permanent("no such server")), at(2), 0.5);
        assert_eq!(refused.end, End::Settled { since: at(2) });
    }
}
