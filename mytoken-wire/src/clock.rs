// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time as a parameter: the time of day, elapsed time, and the deadline of an operation.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// The time of day in seconds. Decisions take a `&dyn Clock`, so that tests can set it.
pub trait Clock: Send + Sync {
    /// Unix time in seconds.
    fn now(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        read(ClockId::CLOCK_REALTIME).as_secs()
    }
}

/// The clocks of a process that keeps a schedule: the time of day, which somebody can set while it runs, and elapsed time, which only
/// grows.
pub trait ScheduleClock: Send + Sync {
    /// The time of day, in Unix milliseconds.
    fn unix_millis(&self) -> u64;

    /// Time since a fixed point in the past. Setting the time of day does not change it.
    fn elapsed(&self) -> Duration;
}

impl ScheduleClock for SystemClock {
    fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        // With the time of a suspend, during which tokens get older, too.
        #[cfg(target_os = "linux")]
        let id = ClockId::CLOCK_BOOTTIME;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::CLOCK_MONOTONIC;
        read(id)
    }
}

/// The time of a clock. Not by std: its errors would bring texts of their own into the Slurm plugin.
fn read(clock: ClockId) -> Duration {
    // A time of day before 1970 is none.
    let time = clock_gettime(clock).ok().and_then(|time| Some((time.tv_sec().try_into().ok()?, time.tv_nsec())));
    time.map_or(Duration::ZERO, |(seconds, nanoseconds)| {
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds.try_into().unwrap_or(0)))
    })
}

/// Seconds since boot, including sleep. For durations across processes, because setting the time of day does not change it.
#[cfg(target_os = "linux")]
#[must_use]
pub fn uptime() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).as_secs()
}

/// The same in milliseconds, for the order of events.
#[cfg(target_os = "linux")]
#[must_use]
pub fn uptime_millis() -> u64 {
    u64::try_from(SystemClock.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A clock that stands still.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(
    /// Unix time in seconds.
    pub u64,
);

impl Clock for FixedClock {
    fn now(&self) -> u64 {
        self.0
    }
}

/// The point in time at which an operation gives up. Callers pass it down, and functions have no timeouts of their own, so that all
/// calls of one login or submission share one time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(
    /// On [`ClockId::CLOCK_MONOTONIC`].
    Duration,
);

/// The latest deadline, about a hundred years ahead. A longer duration, such as one that a server names, could exceed the clock's range.
const FAR: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Deadline {
    /// The deadline that lies `duration` ahead of now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Self(read(ClockId::CLOCK_MONOTONIC).saturating_add(duration.min(FAR)))
    }

    /// The time that is left, `None` if the deadline has passed.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.0.checked_sub(read(ClockId::CLOCK_MONOTONIC)).filter(|left| !left.is_zero())
    }

    /// A deadline that is earlier by `duration`, so that the caller has that much time left afterwards.
    #[must_use]
    pub fn earlier(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// The earlier of this deadline and the one `duration` ahead of now.
    #[must_use]
    pub fn at_most(self, duration: Duration) -> Self {
        self.min(Self::after(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_beyond_the_clocks_range_is_clipped() {
        for duration in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(i64::MAX as u64)] {
            assert!(Deadline::after(duration).remaining() > Some(FAR / 2), "{duration:?}");
            let soon = Deadline::after(Duration::from_secs(60));
            assert_eq!(soon.at_most(duration), soon);
        }
        assert_eq!(Deadline::after(Duration::ZERO).remaining(), None);
    }
}
