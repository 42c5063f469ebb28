// SPDX-License-Identifier: MIT OR Apache-2.0
//! When an access token is renewed, and when a failed request is repeated.
//!
//! Times are Unix milliseconds, because some access tokens live only for seconds. `draw` is a random number of [0, 1).

use std::time::Duration;

use mytoken::server::ServerError;
use mytoken::{Error, Kind};

/// When to renew a token that expires at `exp` (Unix seconds) and was issued for `lifetime` seconds: when between 25 and 40 percent of the
/// lifetime are left. The share is random for each node and renewal. So the requests of ten thousand nodes that started together are spread
/// over 15 percent of the lifetime. A token in a file normally has at least a quarter of its lifetime left.
#[must_use]
pub fn renew_at(exp: u64, lifetime: u64, draw: f64) -> u64 {
    let early = share(lifetime.saturating_mul(1000), 0.25 + 0.15 * unit(draw));
    exp.saturating_mul(1000).saturating_sub(early)
}

/// When to remove the file of a token that expires at `exp` (Unix seconds): a moment before, because a token is not accepted any more in
/// the second of its `exp` (RFC 7519, 4.1.4), and so that no program reads an expired one. The renewal of a token that lives for three
/// seconds comes earlier.
#[must_use]
pub fn remove_at(exp: u64) -> u64 {
    exp.saturating_mul(1000).saturating_sub(REMOVAL_MARGIN)
}

/// Milliseconds in which the agent comes to remove a file.
const REMOVAL_MARGIN: u64 = 250;

/// The end of a new token by this host's clock, and when to renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Expiry, Unix seconds.
    pub exp: u64,
    /// Unix milliseconds.
    pub renewal: u64,
}

/// Shortest time between two renewals in milliseconds: a token that comes with little life left must not cause a loop.
const SHORTEST_PAUSE: u64 = 500;

/// Seconds of which the last one may not be whole.
#[must_use]
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add((time.subsec_nanos() > 0).into())
}

/// The plan for a token that has `left` of `lifetime` (seconds) at `now`.
#[must_use]
pub fn plan(now: u64, left: Duration, lifetime: u64, draw: f64) -> Plan {
    // Between the answer and `now`, a second may have begun: if `left` were whole seconds, the end would be one too late.
    let exp = now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)) / 1000;
    // If this clock is ahead, or the provider issues old tokens, less than the lifetime is left. If the next renewal were computed
    // from the whole lifetime, it would be due at once, every time and on every node.
    let renewal = renew_at(exp, lifetime.min(whole_seconds(left)), draw).max(now.saturating_add(SHORTEST_PAUSE));
    Plan { exp, renewal }
}

/// The pause after `failures` consecutive failures: random between zero and a window that starts at two seconds and doubles up to a
/// twentieth of the token's `lifetime` (at least 10 s, at most 5 min).
///
/// While the old token has `left` milliseconds, the pause is at most a quarter of them.
///
/// A `Retry-After` of the server, up to an hour, is added: all nodes of the cluster got the same one, and the random part spreads them.
#[must_use]
pub fn backoff(failures: u32, lifetime: u64, left: Option<u64>, retry_after: Option<Duration>, draw: f64) -> Duration {
    let longest = (lifetime / 20).clamp(10, 300).saturating_mul(1000).min(left.map_or(u64::MAX, |left| left / 4));
    let window = 2_000_u64.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    // At least 100 ms: a broken random number must not cause a loop.
    let jitter = Duration::from_millis(share(window, unit(draw)).max(100));
    retry_after.map_or(Duration::ZERO, |wait| wait.min(Duration::from_secs(3_600))).saturating_add(jitter)
}

/// The pause when a broker has told when to come again, up to an hour: at most a second more. All nodes share one request of the broker, so
/// they need not be spread over a longer time, and a pause of their own would be added to that of the broker.
#[must_use]
pub fn told_pause(told: Duration, draw: f64) -> Duration {
    // At least 100 ms: the broker may say that it can be asked at once.
    let jitter = Duration::from_millis(share(1_000, unit(draw)).max(100));
    told.min(Duration::from_secs(3_600)).saturating_add(jitter)
}

/// Whether the same request for an access token may succeed later, and after which time the server wants it. Only a refusal of the token
/// itself is final: a maintenance page may be any answer, and an administrator may correct a wrong CA file.
#[must_use]
pub fn repeatable(error: &Error) -> Option<Option<Duration>> {
    match error {
        Error::Server(
            ServerError::TooManyRequests { retry_after, .. } | ServerError::ProviderTooManyRequests { retry_after, .. },
        ) => Some(*retry_after),
        Error::Server(ServerError::Rejected { .. } | ServerError::ForeignIssuer { .. }) => Some(None),
        error => matches!(error.kind(), Kind::Unavailable | Kind::Configuration | Kind::Storage).then_some(None),
    }
}

/// The times of one request for an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptTimes {
    /// When the request is given up.
    pub deadline: Duration,
    /// When a second request is sent if the first has no answer. One hang must not cost the time that the old token has left.
    pub second: Duration,
}

impl AttemptTimes {
    /// When to send a further request while `running` ones have no answer, counted from the last of them. A third one
    /// is sent only if four times [`Self::second`] is less than the deadline, as for a first token: there is no token to go on with, and two
    /// requests that hang must not use up the whole time.
    #[must_use]
    pub fn further(&self, running: u8) -> Option<Duration> {
        match running {
            1 => Some(self.second),
            2 => Some(self.second.saturating_mul(2)).filter(|_| self.second.saturating_mul(4) < self.deadline),
            _ => None,
        }
    }
}

/// The times of a request while the old token has `left` milliseconds; `None`: there is no token. `longest` is the configured limit.
#[must_use]
pub fn attempt_times(left: Option<u64>, failures: u32, longest: Duration) -> AttemptTimes {
    let (deadline, second) = match left.map(Duration::from_millis) {
        Some(left) => (left / 2, left / 6),
        // A step waits two seconds for its first token.
        None if failures == 0 => (Duration::from_secs(10), FIRST_SECOND),
        None => (longest, Duration::from_secs(3)),
    };
    let deadline = deadline.clamp(SHORTEST_ATTEMPT, longest.max(SHORTEST_ATTEMPT));
    AttemptTimes { deadline, second: second.clamp(FIRST_SECOND, LONGEST_WAIT_FOR_ANSWER).min(deadline) }
}

/// A request gets at least this time: a slow server must be able to answer.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(3);

/// The second request for a first token is sent after this time. Providers answer within a few hundred milliseconds.
const FIRST_SECOND: Duration = Duration::from_millis(1_200);

/// Longest wait for the answer to a request before a second one is sent.
const LONGEST_WAIT_FOR_ANSWER: Duration = Duration::from_secs(10);

/// `draw` in [0, 1].
pub(super) fn unit(draw: f64) -> f64 {
    if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 0.5 }
}

/// `fraction` (of [0, 1]) of `whole` milliseconds. Exact below 2^53 ms, which are 285,000 years.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(super) fn share(whole: u64, fraction: f64) -> u64 {
    (whole as f64 * fraction) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_of_an_hour_is_renewed_15_to_24_minutes_before_its_end() {
        let exp = 1_900_000_000;
        for (draw, left) in [(0.0, 900_000), (0.5, 1_170_000), (1.0, 1_440_000)] {
            assert_eq!(exp * 1000 - renew_at(exp, 3600, draw), left, "{draw}");
        }
    }

    #[test]
    fn a_token_of_three_seconds_is_renewed_in_time() {
        assert_eq!(remove_at(1_003), 1_002_750, "not later, and not before its renewal");
        assert_eq!(renew_at(1000, 3, 0.0), 999_250);
        assert_eq!(renew_at(0, 3600, 0.5), 0, "after the expiry it is due at once");
    }

    #[test]
    fn the_end_is_not_too_late_when_a_second_begins_after_the_answer() {
        // Of three seconds that ended at 1,003,000, this was left at 1,000,990.
        let left = Duration::from_millis(2_010);
        for (now, renewal) in [(1_000_990, 1_002_250), (1_001_020, 1_002_250), (1_001_989, 1_002_489)] {
            assert_eq!(plan(now, left, 3, 0.0), Plan { exp: 1_003, renewal }, "{now}");
        }
        assert_eq!(plan(1_000_000, Duration::ZERO, 3, 0.0), Plan { exp: 1_000, renewal: 1_000_500 });
        assert_eq!(plan(0, Duration::MAX, 3, 0.0).exp, u64::MAX / 1000);
    }

    #[test]
    fn the_window_doubles_up_to_its_limit() {
        let longest: Vec<u64> = (1..=9).map(|n| backoff(n, 3600, None, None, 1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 64, 128, 180, 180]);
        assert_eq!(backoff(30, 15, None, None, 1.0).as_secs(), 10);
        assert_eq!(backoff(u32::MAX, 1_000_000, None, None, 1.0).as_secs(), 300);
    }

    #[test]
    fn retry_after_is_observed_and_spread() {
        let two_minutes = Some(Duration::from_secs(120));
        assert_eq!(backoff(1, 3600, None, two_minutes, 0.0).as_millis(), 120_100);
        assert_eq!(backoff(1, 3600, None, two_minutes, 1.0).as_secs(), 122);
        assert_eq!(backoff(1, 3600, None, Some(Duration::from_secs(u64::MAX)), 0.0).as_millis(), 3_600_100);
    }

    #[test]
    fn one_hang_leaves_time_for_further_requests() {
        let limit = Duration::from_secs(30);
        for (left, failures, deadline, second) in [
            // A token of 20 s is renewed when it has 5 to 8 s left.
            (Some(6_000), 0, 3_000, 1_200),
            (Some(1_000_000), 0, 30_000, 10_000),
            (Some(20_000), 0, 10_000, 3_333),
            (Some(0), 3, 3_000, 1_200),
            (None, 0, 10_000, 1_200),
            (None, 1, 30_000, 3_000),
        ] {
            let times = attempt_times(left, failures, limit);
            assert_eq!((times.deadline.as_millis(), times.second.as_millis()), (deadline, second), "{left:?}");
        }
    }

    #[test]
    fn a_first_token_gets_a_third_request() {
        let seconds = |left, running| {
            attempt_times(left, 0, Duration::from_secs(30)).further(running).map(|wait| wait.as_millis())
        };
        assert_eq!([0, 1, 2, 3].map(|running| seconds(None, running)), [None, Some(1_200), Some(2_400), None]);
        for left in [0, 6_000, 20_000, 1_000_000] {
            assert_eq!(seconds(Some(left), 2), None, "{left} ms are left");
        }
    }

    #[test]
    fn the_pause_leaves_time_for_further_requests_too() {
        assert_eq!(backoff(9, 20, Some(4_000), None, 1.0).as_millis(), 1_000);
        assert_eq!(backoff(9, 20, Some(0), None, 1.0).as_millis(), 100);
    }

    proptest! {
        #[test]
        fn renewal_lies_in_the_last_25_to_40_percent(exp in 1_000_000_u64..4_000_000_000, lifetime in 1_u64..1_000_000, draw in 0.0..1.0) {
            let left = exp * 1000 - renew_at(exp, lifetime, draw);
            prop_assert!(left * 4 + 4 >= lifetime * 1000 && left * 10 <= lifetime * 4000);
        }

        #[test]
        fn a_pause_is_never_zero_and_never_long(failures in any::<u32>(), lifetime in any::<u64>(), draw in any::<f64>()) {
            let wait = backoff(failures, lifetime, None, None, draw);
            prop_assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_secs(300));
        }
    }
}
