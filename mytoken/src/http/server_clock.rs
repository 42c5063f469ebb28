// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock of a server, as its `Date` tells it (RFC 9110 6.6.1, MT-74).
//!
//! The ends and begins in a mytoken are times of the server's clock, and this machine's clock may differ. How each judgement errs:
//! - Whether a mytoken is expired or not valid yet only decides whether a request is worthwhile. If the server's clock is unknown, this
//!   machine's counts, and the server has the last word.
//! - An access token in a file is removed after the seconds that its answer names, measured as elapsed time. No `Date` can prolong that.
//! - A time that is asked for, such as the end of a new mytoken, is a time of the server's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A server's clock compared with elapsed time of this machine. Setting this machine's clock does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerClock {
    /// The server's time in Unix milliseconds, minus this machine's elapsed milliseconds.
    offset: i64,
}

/// The earliest and latest `Date` that is believed, Unix seconds: 2020 and 2200. A server whose clock was never set says 1970.
const PLAUSIBLE: std::ops::Range<u64> = 1_577_836_800..7_258_118_400;

/// Longest time between request and answer. The server's `Date` lies anywhere in between.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(20);

/// Smallest difference that a person is told, in seconds.
const REMARKABLE: u64 = 60;

impl ServerClock {
    /// From the `Date` of an answer, and the elapsed times when the request was sent and the answer came. `None` if the date is not
    /// plausible or the answer took too long. A date has whole seconds, so the result is wrong by up to half a second and half the
    /// round trip.
    #[must_use]
    pub fn measure(date: SystemTime, sent: Duration, received: Duration) -> Option<Self> {
        let round_trip = received.checked_sub(sent).filter(|time| *time <= LONGEST_ROUND_TRIP)?;
        let date = date.duration_since(UNIX_EPOCH).ok().filter(|date| PLAUSIBLE.contains(&date.as_secs()))?;
        let server = date.checked_add(Duration::from_millis(500))?;
        let here = sent.checked_add(round_trip / 2)?;
        Some(Self { offset: millis(server)?.checked_sub(millis(here)?)? })
    }

    /// The server's time of day, Unix seconds, when this machine's elapsed time is `elapsed`.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> u64 {
        let elapsed = millis(elapsed).unwrap_or(i64::MAX);
        u64::try_from(self.offset.saturating_add(elapsed)).unwrap_or(0) / 1000
    }
}

fn millis(time: Duration) -> Option<i64> {
    i64::try_from(time.as_millis()).ok()
}

/// A sentence about the difference between this host's clock and the mytoken server's. `None` if it is small. Both are Unix seconds.
#[must_use]
pub fn clock_difference(server: u64, here: u64) -> Option<String> {
    let seconds = server.abs_diff(here);
    let direction = if here < server { "behind" } else { "ahead of" };
    (seconds > REMARKABLE).then(|| format!("this host's clock is {seconds} s {direction} the mytoken server's"))
}

/// The id of this machine's boot. Elapsed times of two boots, or of two hosts with one home directory, cannot be compared. `None`
/// outside Linux.
#[must_use]
pub fn boot_id() -> Option<String> {
    Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_servers_time_is_that_of_its_date_and_the_time_since_then() {
        for (date, sent, received, expected) in [
            ("Thu, 26 Nov 2026 02:00:00 GMT", 100_000, 100_040, Some(1_795_658_400)),
            // The form of older servers.
            ("Thursday, 26-Nov-26 02:00:00 GMT", 100_000, 100_040, Some(1_795_658_400)),
            // Half of the round trip has passed since the answer was made.
            ("Thu, 26 Nov 2026 02:00:00 GMT", 100_000, 110_000, Some(1_795_658_405)),
            ("Thu, 26 Nov 2026 02:00:00 GMT", 100_000, 120_001, None),
            ("Thu, 26 Nov 2026 02:00:00 GMT", 100_000, 99_999, None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 100_000, 100_040, None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 100_000, 100_040, None),
        ] {
            let date = httpdate::parse_http_date(date).unwrap();
            let (sent, received) = (Duration::from_millis(sent), Duration::from_millis(received));
            let clock = ServerClock::measure(date, sent, received);
            assert_eq!(clock.map(|clock| clock.at(received)), expected, "{date:?}");
            assert_eq!(clock.map(|clock| clock.at(received + 60 * SECOND)), expected.map(|at| at + 60), "{date:?}");
        }
    }

    #[test]
    fn only_a_large_difference_is_told() {
        for (server, here, expected) in [
            (1_000, 690, Some("this host's clock is 310 s behind the mytoken server's")),
            (690, 1_000, Some("this host's clock is 310 s ahead of the mytoken server's")),
            (1_000, 940, None),
            (940, 1_000, None),
        ] {
            assert_eq!(clock_difference(server, here).as_deref(), expected);
        }
    }

    proptest! {
        #[test]
        fn the_error_is_half_a_second_and_half_the_round_trip(
            sent in 0_u64..10_000_000_000, round_trip in 0_u64..20_000, share in 0.0..1.0_f64, server in PLAUSIBLE.start * 1000..PLAUSIBLE.end * 1000
        ) {
            // `server` is the server's time when this machine's elapsed time is `sent`.
            let (sent, trip) = (Duration::from_millis(sent), Duration::from_millis(round_trip));
            let made = Duration::from_millis(server) + trip.mul_f64(share);
            let date = UNIX_EPOCH + Duration::from_secs(made.as_secs());
            if let Some(clock) = ServerClock::measure(date, sent, sent + trip) {
                let real = server + round_trip;
                let error = (clock.offset + millis(sent + trip).unwrap()).unsigned_abs().abs_diff(real);
                prop_assert!(error <= 502 + round_trip / 2, "{error}");
            }
        }
    }
}
