// SPDX-License-Identifier: MIT OR Apache-2.0
//! The access token of one file of a submission, and its requests. A function of its answers and of elapsed time.

use std::time::Duration;

use tokio::sync::watch;

use super::millis;
use crate::agent::credential_service::{IssuedToken, RequestFailure};
use crate::jobs::{AttemptTimes, attempt_times, backoff};

/// A permanent refusal counts for this time. Then the server is asked again if a node asks: the next window of the credential may begin.
const REFUSED: Duration = Duration::from_secs(60);

/// Longest pause of the broker's own while there is no token, in milliseconds. What a server, or the budget, wants is added.
const WITHOUT: u64 = 5_000;

/// The failure of a request for a token that nobody can use. It is asked for again after a pause like after any other failure.
const EXPIRED: &str = "the new access token has expired already; check the clock of the broker and of the provider";

/// The access token of one file.
#[derive(Debug)]
pub struct FileToken {
    held: Option<(IssuedToken, Duration)>,
    /// Number of requests for it that are queued.
    queued: u8,
    /// Number of requests of this round that have no answer yet.
    running: u8,
    /// Those that have failed while another one had no answer.
    beside: u8,
    /// When a request has brought the token, those that have no answer yet belong to an earlier round: one that hangs for its whole
    /// deadline must not hold up the renewal of that token.
    round: u32,
    /// A further one is to be sent if none has an answer at this time, elapsed time.
    further_due: Option<Duration>,
    failures: u32,
    failed: Option<(RequestFailure, Duration)>,
    /// Told of each answer, and when a request is sent: the nodes that wait listen.
    pub answered: watch::Sender<()>,
}

impl Default for FileToken {
    fn default() -> Self {
        Self {
            held: None,
            queued: 0,
            running: 0,
            beside: 0,
            round: 0,
            further_due: None,
            failures: 0,
            failed: None,
            answered: watch::channel(()).0,
        }
    }
}

/// Which requests one belongs to, as long as it has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    number: u32,
    are_limited: bool,
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
        if let Some(token) = held.clone().filter(is_fresh) {
            return TokenState::Ready(token);
        }
        if self.queued.saturating_add(self.running) > 0 {
            let is_due = self.further_due.is_some_and(|due| due <= now);
            return if is_due { TokenState::Ask } else { TokenState::Wait };
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
        let left = token.left.saturating_sub(age);
        // Nodes are told whole seconds.
        (left.as_secs() > 0).then(|| IssuedToken { left, ..token.clone() })
    }

    /// A request for it is queued.
    pub fn ask(&mut self) {
        self.queued = self.queued.saturating_add(1);
        self.further_due = None;
    }

    /// A request for it is sent at `now`, elapsed time. Returns its times and its round; `None`: another one was answered meanwhile. One that hangs must
    /// not hold up all nodes until its end, so a further one follows, unless the uses of the credential `are_limited`.
    pub fn begin(&mut self, now: Duration, longest: Duration, are_limited: bool) -> Option<(AttemptTimes, Round)> {
        self.queued = self.queued.saturating_sub(1);
        let usable = self.usable(now);
        if usable.as_ref().is_some_and(is_fresh) {
            return None;
        }
        let times = attempt_times(usable.map(|token| millis(token.left)), self.failures, longest);
        self.running = self.running.saturating_add(1);
        let further = times.further(self.running).filter(|_| !are_limited);
        self.further_due = further.map(|wait| now.saturating_add(wait));
        self.answered.send_replace(());
        Some((times, Round { number: self.round, are_limited }))
    }

    /// After which time who waits for an answer looks again: a further request may be due.
    #[must_use]
    pub fn look_after(&self, now: Duration) -> Option<Duration> {
        self.further_due.map(|due| due.saturating_sub(now).max(Duration::from_millis(1)))
    }

    /// A request of `round` was answered. `now` is elapsed time, `draw` is random in [0, 1).
    pub fn answer(&mut self, round: Round, result: Result<IssuedToken, RequestFailure>, now: Duration, draw: f64) {
        let is_current = round.number == self.round;
        if is_current {
            self.running = self.running.saturating_sub(1);
        }
        // The other request was answered first: all nodes get the same token.
        if self.usable(now).as_ref().is_some_and(is_fresh) {
            return;
        }
        let result = result.and_then(|token| match token.left.as_secs() {
            0 => Err(RequestFailure::temporary(EXPIRED)),
            _ => Ok(token),
        });
        match result {
            // An old token that comes late is not better than that which is there.
            Ok(token) if !is_current && self.usable(now).is_some_and(|held| held.left >= token.left) => return,
            Ok(token) => {
                (self.round, self.running, self.beside) = (self.round.wrapping_add(1), 0, 0);
                self.held = Some((token, now));
                (self.failures, self.failed, self.further_due) = (0, None, None);
            }
            Err(_) if !is_current => return,
            // The other one may still be answered. If it hangs, the nodes must not wait for its end.
            Err(failure) if failure.temporary && self.running > 0 => {
                if !round.are_limited {
                    self.beside = self.beside.saturating_add(1);
                    let pause = self.pause(&failure, self.failures.saturating_add(self.beside.into()), now, draw);
                    let due = now.saturating_add(pause);
                    self.further_due = Some(self.further_due.map_or(due, |planned| planned.min(due)));
                }
            }
            Err(failure) => {
                (self.further_due, self.beside) = (None, 0);
                self.failures = self.failures.saturating_add(1);
                let pause = if failure.temporary { self.pause(&failure, self.failures, now, draw) } else { REFUSED };
                self.failed = Some((failure, now.saturating_add(pause)));
            }
        }
        self.answered.send_replace(());
    }

    /// The thread of one of its requests has panicked, perhaps before it was sent. All open ones count no more.
    pub fn panicked(&mut self, failure: RequestFailure, now: Duration, draw: f64) {
        (self.queued, self.running, self.round) = (0, 0, self.round.wrapping_add(1));
        let round = Round { number: self.round, are_limited: false };
        self.answer(round, Err(failure), now, draw);
    }

    /// The pause after so many failures.
    fn pause(&self, failure: &RequestFailure, failures: u32, now: Duration, draw: f64) -> Duration {
        // One that has expired says nothing: without a token, the pause is as short as for the first one.
        let usable = self.usable(now);
        // A pause is at most a quarter of what is left. Without a token, jobs wait for the end of the pause.
        let left = usable.as_ref().map_or(4 * WITHOUT, |token| millis(token.left));
        let lifetime = usable.map_or(0, |token| token.lifetime);
        backoff(failures, lifetime, Some(left), failure.retry_after, draw)
    }
}

/// A token is given out while half of its life is left.
fn is_fresh(token: &IssuedToken) -> bool {
    token.left.as_secs() >= token.lifetime / 2
}

#[cfg(test)]
mod tests {
    use mytoken_wire::Secret;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn token(text: &str) -> IssuedToken {
        IssuedToken { token: Secret::new(text), left: at(100), lifetime: 100 }
    }

    fn left(state: &TokenState) -> Option<u64> {
        if let TokenState::Ready(token) = state { Some(token.left.as_secs()) } else { None }
    }

    impl FileToken {
        /// A request that is sent and answered at this time.
        fn asked(&mut self, result: Result<IssuedToken, RequestFailure>, now: Duration, draw: f64) {
            self.ask();
            let (_, round) = self.begin(now, at(30), false).unwrap();
            self.answer(round, result, now, draw);
        }
    }

    #[test]
    fn a_token_is_given_out_for_half_of_its_life() {
        let mut file = FileToken::default();
        assert!(matches!(file.state(at(0)), TokenState::Ask));
        file.ask();
        assert!(matches!(file.state(at(0)), TokenState::Wait));
        let (_, round) = file.begin(at(0), at(30), false).unwrap();
        file.answer(round, Ok(token("a")), at(10), 0.5);
        assert_eq!(left(&file.state(at(10))), Some(100));
        assert_eq!(left(&file.state(at(60))), Some(50));
        assert!(matches!(file.state(at(61)), TokenState::Ask), "less than half is left");
        file.ask();
        assert_eq!(file.usable(at(61)).map(|token| token.left), Some(at(49)), "for who cannot wait");
        assert!(file.usable(at(110)).is_none(), "expired");
    }

    #[test]
    fn a_failure_keeps_the_old_token_and_the_others_from_asking() {
        let mut file = FileToken::default();
        file.asked(Ok(token("a")), at(0), 0.5);
        file.asked(Err(RequestFailure::temporary("away")), at(60), 0.9);
        assert_eq!(left(&file.state(at(60))), Some(40), "nobody asks again before the pause is over");
        assert!(matches!(file.state(at(70)), TokenState::Ask));
        let mut none = FileToken::default();
        none.asked(Err(RequestFailure::temporary("away")), at(0), 0.9);
        let TokenState::Failed(failure) = none.state(at(0)) else { panic!("{none:?}") };
        assert!(failure.temporary && failure.retry_after.is_some_and(|wait| wait <= at(2)));
        none.asked(Err(RequestFailure::permanent("revoked")), at(5), 0.9);
        assert!(matches!(none.state(at(64)), TokenState::Failed(failure) if !failure.temporary));
        assert!(matches!(none.state(at(66)), TokenState::Ask), "a window may have begun");
    }

    #[test]
    fn a_token_that_has_expired_on_arrival_is_a_failure_with_a_pause() {
        let mut file = FileToken::default();
        for _ in 0..3 {
            file.asked(Ok(IssuedToken { left: at(0), lifetime: 0, ..token("a") }), at(0), 0.9);
            let TokenState::Failed(failure) = file.state(at(0)) else { panic!("the server is asked without a pause") };
            assert!(failure.temporary && failure.retry_after.is_some_and(|wait| wait > at(0)), "{failure:?}");
            assert_eq!(failure.reason, EXPIRED);
        }
    }

    #[test]
    fn the_life_of_an_expired_token_makes_no_pause_longer() {
        let mut file = FileToken::default();
        file.asked(Ok(IssuedToken { left: at(3_600), lifetime: 3_600, ..token("a") }), at(0), 0.5);
        // After the expiry, jobs have no token until the server is back.
        for minute in 61..70 {
            file.asked(Err(RequestFailure::temporary("away")), at(minute * 60), 0.9);
        }
        let TokenState::Failed(failure) = file.state(at(69 * 60)) else { panic!("{file:?}") };
        assert!(failure.retry_after.is_some_and(|wait| wait <= at(10)), "{failure:?}");
    }

    #[test]
    fn a_request_that_hangs_is_followed_by_another_one() {
        let longest = at(30);
        let mut file = FileToken::default();
        file.ask();
        let (times, first) = file.begin(at(0), longest, false).unwrap();
        assert_eq!((times.deadline, file.look_after(at(0))), (at(10), Some(Duration::from_millis(1_200))));
        assert!(matches!(file.state(at(1)), TokenState::Wait));
        assert!(matches!(file.state(at(2)), TokenState::Ask));
        file.ask();
        assert!(matches!(file.state(at(2)), TokenState::Wait), "it is queued once");
        let (_, second) = file.begin(at(2), longest, false).unwrap();
        file.answer(second, Err(RequestFailure::temporary("away")), at(3), 0.5);
        assert!(matches!(file.state(at(3)), TokenState::Wait), "the other one may be answered");
        assert!(matches!(file.state(at(4)), TokenState::Ask), "it may hang, too");
        file.ask();
        let (_, third) = file.begin(at(4), longest, false).unwrap();
        file.ask();
        file.answer(third, Ok(token("b")), at(4), 0.5);
        assert!(file.begin(at(4), longest, false).is_none(), "it was queued, and is not needed any more");
        file.answer(first, Ok(token("c")), at(5), 0.5);
        let TokenState::Ready(held) = file.state(at(5)) else { panic!("{file:?}") };
        assert_eq!(held.token.expose(), "b", "all nodes get the same one");

        let mut limited = FileToken::default();
        limited.ask();
        assert!(limited.begin(at(0), longest, true).is_some() && limited.look_after(at(0)).is_none());
        assert!(matches!(limited.state(at(29)), TokenState::Wait), "each request costs a use");
    }

    #[test]
    fn a_request_that_hangs_does_not_hold_up_the_renewal_of_the_token_that_another_one_brought() {
        let mut file = FileToken::default();
        let send = |file: &mut FileToken, now: u64| {
            file.ask();
            file.begin(at(now), at(100), false).unwrap().1
        };
        let (hangs, second) = (send(&mut file, 0), send(&mut file, 2));
        file.answer(second, Ok(token("a")), at(3), 0.5);
        assert!(matches!(file.state(at(60)), TokenState::Ask), "half of its life is over");
        let renewal = send(&mut file, 60);
        file.answer(hangs, Err(RequestFailure::permanent("revoked")), at(61), 0.5);
        assert!(matches!(file.state(at(61)), TokenState::Wait), "that says nothing of the newer one");
        file.answer(hangs, Ok(IssuedToken { left: at(10), ..token("old") }), at(62), 0.5);
        assert_eq!(file.usable(at(62)).map(|held| held.token.expose().to_owned()).as_deref(), Some("a"));
        file.answer(renewal, Ok(token("b")), at(63), 0.5);
        assert_eq!(left(&file.state(at(63))), Some(100));
        file.ask();
        file.panicked(RequestFailure::temporary("an internal error"), at(120), 0.5);
        assert!(matches!(file.state(at(125)), TokenState::Ask), "nothing is open any more");
    }

    #[test]
    fn jobs_without_a_token_wait_for_no_long_pause_of_the_broker() {
        let mut file = FileToken::default();
        let mut wait = |failure: RequestFailure, now: u64| {
            file.asked(Err(failure), at(now), 1.0);
            match file.state(at(now)) {
                TokenState::Failed(failure) => failure.retry_after,
                other => panic!("{other:?}"),
            }
        };
        for minute in 0..9 {
            let told = wait(RequestFailure::temporary("away"), minute * 60);
            assert!(told.is_some_and(|wait| wait <= at(5)), "{told:?}");
        }
        let busy = RequestFailure { retry_after: Some(at(120)), ..RequestFailure::temporary("too many requests") };
        assert_eq!(wait(busy, 600), Some(at(125)), "the server's wish is observed");
    }
}
