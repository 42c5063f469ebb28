// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the broker knows of a submission: its jobs, its tokens, its end. Everything here is a function of the submission and of elapsed time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mytoken_wire::FileName;
use tokio::sync::watch;

use super::binding::Binding;
use super::ends::Standing;
use crate::agent::credential_service::{Admitted, IssuedToken, RequestFailure};
use crate::jobs::backoff;

/// A permanent refusal counts for this time. Then the server is asked again if a node asks: the next window of the credential may begin.
const REFUSED: Duration = Duration::from_secs(60);

/// slurmctld has forgotten the jobs of a submission when so many answers in a row do not show them.
pub(super) const NOT_SHOWN: u32 = 3;

/// Longest pause between two attempts to revoke a sub-token.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The access token of one file.
#[derive(Debug)]
pub struct FileToken {
    held: Option<(IssuedToken, Duration)>,
    /// A request for it is queued or has no answer yet.
    pub asked: bool,
    failures: u32,
    failed: Option<(RequestFailure, Duration)>,
    /// Told of each answer: the nodes that wait listen.
    pub answered: watch::Sender<()>,
}

impl Default for FileToken {
    fn default() -> Self {
        Self { held: None, asked: false, failures: 0, failed: None, answered: watch::channel(()).0 }
    }
}

/// What a node that asks for a token gets.
#[derive(Debug, Clone)]
pub enum TokenState {
    /// This token.
    Ready(IssuedToken),
    /// This failure.
    Failed(RequestFailure),
    /// A request for it is to be sent.
    Ask,
    /// A request for it has no answer yet.
    Wait,
}

impl FileToken {
    /// The state at `now`, elapsed time. A token is given out while half of its life is left. All nodes get the same one.
    #[must_use]
    pub fn state(&self, now: Duration) -> TokenState {
        let held = self.usable(now);
        if let Some(token) = held.clone().filter(|token| token.left >= token.lifetime / 2) {
            return TokenState::Ready(token);
        }
        if self.asked {
            return TokenState::Wait;
        }
        match (&self.failed, held) {
            (Some((_, until)), Some(token)) if now < *until => TokenState::Ready(token),
            (Some((failure, until)), None) if now < *until => {
                let retry_after = failure.temporary.then(|| until.saturating_sub(now));
                TokenState::Failed(RequestFailure { retry_after, ..failure.clone() })
            }
            _ => TokenState::Ask,
        }
    }

    /// The token that there is, however old: for a node that has waited long enough for a new one.
    #[must_use]
    pub fn usable(&self, now: Duration) -> Option<IssuedToken> {
        let (token, at) = self.held.as_ref()?;
        let age = now.saturating_sub(*at);
        // A second that has begun counts.
        let left = token.left.saturating_sub(age.saturating_add(Duration::from_nanos(999_999_999)).as_secs());
        (left > 0).then(|| IssuedToken { left, ..token.clone() })
    }

    /// A request for it was answered. `sent` and `now` are elapsed time, `draw` is random in [0, 1).
    pub fn answer(&mut self, result: Result<IssuedToken, RequestFailure>, now: Duration, draw: f64) {
        self.asked = false;
        match result {
            Ok(token) => {
                self.held = Some((token, now));
                (self.failures, self.failed) = (0, None);
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                let left = self.usable(now).map(|token| token.left.saturating_mul(1000));
                let lifetime = self.held.as_ref().map_or(0, |(token, _)| token.lifetime);
                let pause = if failure.temporary {
                    backoff(self.failures, lifetime, left, failure.retry_after, draw)
                } else {
                    REFUSED
                };
                self.failed = Some((failure, now.saturating_add(pause)));
            }
        }
        self.answered.send_replace(());
    }
}

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
    /// What that says.
    pub admitted: Admitted,
    /// Its jobs.
    pub binding: Binding,
    /// The ids of those that nodes have named.
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
            admitted,
            binding: Binding::default(),
            jobs: BTreeSet::new(),
            complete: false,
            proven: false,
            tokens: BTreeMap::new(),
            first_end: None,
            judged_from: Duration::ZERO,
            end: End::Open { not_shown: 0 },
        }
    }

    /// A job under this leader gets access tokens of it.
    pub fn serve(&mut self, leader: u32, job: u32) {
        self.binding.leaders.insert(leader);
        self.jobs.insert(job);
        self.judged_from = Duration::ZERO;
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
    use mytoken_wire::Secret;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn token(text: &str) -> IssuedToken {
        IssuedToken { token: Secret::new(text), left: 100, lifetime: 100 }
    }

    fn left(state: &TokenState) -> Option<u64> {
        if let TokenState::Ready(token) = state { Some(token.left) } else { None }
    }

    #[test]
    fn a_token_is_given_out_for_half_of_its_life() {
        let mut file = FileToken::default();
        assert!(matches!(file.state(at(0)), TokenState::Ask));
        file.asked = true;
        assert!(matches!(file.state(at(0)), TokenState::Wait));
        file.answer(Ok(token("a")), at(10), 0.5);
        assert_eq!(left(&file.state(at(10))), Some(100));
        assert_eq!(left(&file.state(at(60))), Some(50));
        assert!(matches!(file.state(at(61)), TokenState::Ask), "less than half is left");
        file.asked = true;
        assert_eq!(file.usable(at(61)).map(|token| token.left), Some(49), "for who cannot wait");
        assert!(file.usable(at(110)).is_none(), "expired");
    }

    #[test]
    fn a_failure_keeps_the_old_token_and_the_others_from_asking() {
        let mut file = FileToken::default();
        file.answer(Ok(token("a")), at(0), 0.5);
        file.answer(Err(RequestFailure::temporary("away")), at(60), 0.9);
        assert_eq!(left(&file.state(at(60))), Some(40), "nobody asks again before the pause is over");
        assert!(matches!(file.state(at(70)), TokenState::Ask));
        let mut none = FileToken::default();
        none.answer(Err(RequestFailure::temporary("away")), at(0), 0.9);
        let TokenState::Failed(failure) = none.state(at(0)) else { panic!("{none:?}") };
        assert!(failure.temporary && failure.retry_after.is_some_and(|wait| wait <= at(2)));
        none.answer(Err(RequestFailure::permanent("revoked")), at(5), 0.9);
        assert!(matches!(none.state(at(64)), TokenState::Failed(failure) if !failure.temporary));
        assert!(matches!(none.state(at(66)), TokenState::Ask), "a window may have begun");
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
