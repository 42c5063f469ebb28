// SPDX-License-Identifier: MIT OR Apache-2.0
//! A clock that only the test moves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mytoken::ScheduleClock;

use crate::harness::NOW;

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
