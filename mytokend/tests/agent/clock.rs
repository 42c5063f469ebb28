// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that only the test moves, and the times that count for it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mytoken::ScheduleClock;

use crate::harness::NOW;

/// Lifetime of the access tokens, in seconds. They are renewed when between 25 and 40 percent of it are left.
pub const LIFETIME: u64 = 3_600;
/// Until this age no token is renewed.
pub const BEFORE_RENEWAL: Duration = Duration::from_secs(2_159);
/// At this age every token has been renewed.
pub const RENEWAL: Duration = Duration::from_secs(2_700);
/// At this age a token has expired.
pub const EXPIRY: Duration = Duration::from_secs(3_600);
/// Within this time there is a sweep.
pub const SWEEP: Duration = Duration::from_secs(20);
/// After this time, the agent asks slurmctld about a job without a process. Jobs have none unless a test says so.
pub const MISSING: Duration = Duration::from_secs(141);
/// Within this time, the agent asks slurmctld about an ended job.
pub const SETTLE: Duration = Duration::from_secs(2);

/// A clock that stands still until the test moves it: elapsed time, and by how many seconds somebody has set the time of day.
#[derive(Clone, Default)]
pub struct FakeClock(pub Arc<Mutex<Duration>>, pub Arc<Mutex<i64>>);

impl FakeClock {
    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.unix_millis() / 1000
    }
}

impl ScheduleClock for FakeClock {
    fn unix_millis(&self) -> u64 {
        let set = *self.1.lock().unwrap() * 1000;
        (NOW * 1000 + u64::try_from(self.elapsed().as_millis()).unwrap()).saturating_add_signed(set)
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// Waits until `condition` holds, in real time.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}
