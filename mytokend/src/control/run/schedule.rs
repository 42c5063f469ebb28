// SPDX-License-Identifier: MIT OR Apache-2.0
//! When `mytokenctl run` requests the next access token, and when it removes the one in the file.
//!
//! Times are elapsed time since a fixed point, so that a change of the time of day does not matter. `draw` is a random number of [0, 1).

use std::time::Duration;

use crate::jobs::{backoff, renew_at};

/// Longest time limit of a request. Shorter if the token in the file expires earlier, so that a hanging request leaves time for others.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Shortest time limit of a request.
const REQUEST_MINIMUM: Duration = Duration::from_secs(2);
/// Shortest time between two renewals: a token that comes with little life left must not cause a loop.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// Longest wait at a stretch: a computer that slept looks at its clock again soon.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send a request that ends after this time.
    Request(Duration),
    /// Remove the file: the token in it has expired.
    Remove,
    /// Wait this long, or for an answer or the end of the program.
    Wait(Duration),
}

/// An access token in the file.
#[derive(Debug, Clone, Copy)]
struct Held {
    expires: Duration,
    lifetime: u64,
}

/// The schedule of one program.
#[derive(Debug)]
pub struct Schedule {
    held: Option<Held>,
    /// When the next request is due; `None` if there is no further one.
    due: Option<Duration>,
    requesting: bool,
    failures: u32,
    lifetime: u64,
}

impl Schedule {
    /// The first request was sent.
    #[must_use]
    pub fn new() -> Self {
        Self { held: None, due: None, requesting: true, failures: 0, lifetime: 0 }
    }

    /// Whether a request has no answer yet.
    #[must_use]
    pub fn is_requesting(&self) -> bool {
        self.requesting
    }

    /// What to do at `now`. A request that it names counts as sent.
    pub fn next(&mut self, now: Duration) -> Step {
        if self.held.is_some_and(|held| held.expires <= now) {
            self.held = None;
            return Step::Remove;
        }
        let due = self.due.filter(|_| !self.requesting);
        if due.is_some_and(|due| due <= now) {
            self.requesting = true;
            let limit = self.left(now).map_or(REQUEST_LIMIT, |left| left / 2);
            return Step::Request(limit.clamp(REQUEST_MINIMUM, REQUEST_LIMIT));
        }
        let events = [due, self.held.map(|held| held.expires)];
        let next = events.into_iter().flatten().min().map_or(LONGEST_WAIT, |next| next.saturating_sub(now));
        Step::Wait(next.min(LONGEST_WAIT))
    }

    /// How long the token in the file is still valid; `None` if there is no file.
    #[must_use]
    pub fn left(&self, now: Duration) -> Option<Duration> {
        self.held.map(|held| held.expires.saturating_sub(now))
    }

    /// A token came. Its lifetime in seconds counts from `begin`, the time of its request.
    pub fn granted(&mut self, begin: Duration, now: Duration, lifetime: u64, draw: f64) {
        // Servers count whole seconds. Of the one in which they issued it, a part was over.
        let expires = begin.saturating_add(Duration::from_secs(lifetime.saturating_sub(1)));
        let after = Duration::from_millis(renew_at(lifetime, lifetime, draw));
        self.held = Some(Held { expires, lifetime });
        self.due = Some(begin.saturating_add(after).max(now.saturating_add(SHORTEST_PAUSE)));
        self.requesting = false;
        self.failures = 0;
        self.lifetime = lifetime;
    }

    /// A request failed, and may succeed later.
    pub fn failed(&mut self, now: Duration, retry_after: Option<Duration>, draw: f64) {
        self.requesting = false;
        self.failures = self.failures.saturating_add(1);
        let lifetime = self.held.map_or(self.lifetime, |held| held.lifetime);
        let left = self.left(now).map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        self.due = Some(now.saturating_add(backoff(self.failures, lifetime, left, retry_after, draw)));
    }

    /// There will be no further token.
    pub fn refused(&mut self) {
        self.requesting = false;
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// A first token came that lives for `lifetime` seconds after `begin`.
    fn granted(begin: Duration, now: Duration, lifetime: u64, draw: f64) -> Schedule {
        let mut schedule = Schedule::new();
        assert!(schedule.is_requesting() && schedule.next(now) == Step::Wait(LONGEST_WAIT));
        schedule.granted(begin, now, lifetime, draw);
        schedule
    }

    #[test]
    fn a_first_request_that_fails_is_repeated_and_one_that_is_refused_is_not() {
        let mut schedule = Schedule::new();
        schedule.failed(seconds(2), None, 0.0);
        assert!(!schedule.is_requesting() && schedule.left(seconds(2)).is_none());
        assert!(matches!(schedule.next(seconds(60)), Step::Request(_)));
        schedule.refused();
        assert_eq!(schedule.next(seconds(1_000)), Step::Wait(LONGEST_WAIT));
    }

    #[test]
    fn a_token_of_an_hour_is_renewed_in_its_last_quarter() {
        let mut schedule = granted(seconds(100), seconds(101), 3600, 0.0);
        assert_eq!(schedule.next(seconds(101)), Step::Wait(LONGEST_WAIT));
        assert_eq!(schedule.next(seconds(2_799)), Step::Wait(seconds(1)));
        assert_eq!(schedule.next(seconds(2_800)), Step::Request(REQUEST_LIMIT));
        assert_eq!(schedule.next(seconds(2_800)), Step::Wait(LONGEST_WAIT), "one request at a time");
    }

    #[test]
    fn an_expired_token_is_removed_while_a_request_hangs() {
        let mut schedule = granted(seconds(0), seconds(0), 20, 0.0);
        assert_eq!(schedule.next(seconds(15)), Step::Request(seconds(2)));
        assert_eq!(schedule.next(seconds(18)), Step::Wait(seconds(1)));
        assert_eq!(schedule.next(seconds(19)), Step::Remove);
        assert_eq!(schedule.next(seconds(19)), Step::Wait(LONGEST_WAIT));
        schedule.granted(seconds(21), seconds(22), 20, 0.0);
        assert_eq!(schedule.left(seconds(22)), Some(seconds(18)));
    }

    #[test]
    fn a_hang_leaves_time_for_another_request() {
        let mut schedule = granted(seconds(0), seconds(0), 40, 0.0);
        assert_eq!(schedule.next(seconds(30)), Step::Request(Duration::from_millis(4_500)));
        schedule.failed(seconds(35), None, 0.0);
        assert_eq!(schedule.next(seconds(36)), Step::Request(seconds(2)), "before the token expires");
    }

    #[test]
    fn after_a_refusal_the_token_stays_until_it_expires() {
        let mut schedule = granted(seconds(0), seconds(0), 20, 0.0);
        assert!(matches!(schedule.next(seconds(15)), Step::Request(_)));
        schedule.refused();
        assert_eq!(schedule.next(seconds(16)), Step::Wait(seconds(3)));
        assert_eq!(schedule.next(seconds(19)), Step::Remove);
        assert_eq!(schedule.next(seconds(1_000)), Step::Wait(LONGEST_WAIT));
    }

    #[test]
    fn a_token_without_life_causes_no_loop() {
        let mut schedule = granted(seconds(5), seconds(5), 0, 0.5);
        assert_eq!(schedule.next(seconds(5)), Step::Remove);
        assert_eq!(schedule.next(seconds(5)), Step::Wait(SHORTEST_PAUSE));
    }

    proptest! {
        #[test]
        fn no_step_leaves_an_expired_token(lifetime in 0_u64..10_000, waits in prop::collection::vec((0_u64..40_000, 0.0..1.0), 1..40)) {
            let mut schedule = granted(Duration::ZERO, Duration::ZERO, lifetime, 0.5);
            let mut now = Duration::ZERO;
            for (wait, draw) in waits {
                match schedule.next(now) {
                    Step::Wait(most) => {
                        prop_assert!(most <= LONGEST_WAIT);
                        prop_assert!(schedule.left(now).is_none_or(|left| !left.is_zero() && most <= left));
                        now += most.min(Duration::from_millis(wait));
                    }
                    Step::Request(limit) => {
                        prop_assert!(limit <= REQUEST_LIMIT);
                        if draw < 0.5 { schedule.granted(now, now, lifetime, draw) } else { schedule.failed(now, None, draw) }
                    }
                    Step::Remove => prop_assert_eq!(schedule.left(now), None),
                }
            }
        }
    }
}
