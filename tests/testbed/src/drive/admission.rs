// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many stories run at the same time. Most of them wait most of the time, some of them use both processors.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// So many stories always run.
const ALWAYS: usize = 6;

/// A further story starts when so many hundredths of the processors' time were idle since the last look.
const IDLE: u64 = 30;

/// A story that has just started has not used the processors yet.
const LOOK_EVERY: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(200);

struct Running {
    count: usize,
    last: Option<(Instant, Times)>,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { count: 0, last: None });

/// A running story.
pub(super) struct Admitted(());

impl Admitted {
    /// Waits until one more story may run.
    pub(super) fn wait() -> Self {
        while !RUNNING.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now(), Times::now) {
            thread::sleep(PAUSE);
        }
        Self(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).count -= 1;
    }
}

impl Running {
    fn admit(&mut self, now: Instant, times: impl FnOnce() -> Times) -> bool {
        let is_due = self.last.is_none_or(|(time, _)| now.saturating_duration_since(time) >= LOOK_EVERY);
        let mut may_run = self.count < ALWAYS;
        if is_due {
            let times = times();
            may_run |= self.last.is_some_and(|(_, earlier)| times.were_idle_since(earlier));
            self.last = Some((now, times));
        }
        self.count += usize::from(may_run);
        may_run
    }
}

/// The processors' time since the boot, in units of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    all: u64,
    idle: u64,
}

impl Times {
    /// Without `/proc/stat` the processors are never idle.
    fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// The first line is `cpu user nice system idle iowait ...`. Waiting for the disk is no free time.
    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let numbers: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        Self { all: numbers.iter().take(8).sum(), idle: numbers.get(3).copied().unwrap_or_default() }
    }

    fn were_idle_since(self, earlier: Self) -> bool {
        let all = self.all.saturating_sub(earlier.all);
        self.idle.saturating_sub(earlier.idle).saturating_mul(100) > all.saturating_mul(IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_stories_start_only_while_the_processors_are_idle() {
        let begin = Instant::now();
        let mut running = Running { count: 0, last: None };
        let mut admit = |seconds: u64, idle: u64| {
            running.admit(begin + Duration::from_secs(seconds), || Times { all: 100 * seconds, idle })
        };
        assert_eq!((0..8).map(|_| admit(0, 0)).filter(|admitted| *admitted).count(), ALWAYS);
        assert!(!admit(2, 200), "too early");
        assert!(!admit(4, 100), "a quarter was idle");
        assert!(admit(8, 300), "half was idle");
        assert!(!admit(9, 400), "too early after that one");
    }

    #[test]
    fn the_kernels_times_are_read() {
        let times = Times::parse("cpu  10 0 5 80 3 0 1 1 7 0\ncpu0 1 0 0 1\n");
        assert_eq!(times, Times { all: 100, idle: 80 });
        assert_eq!(Times::parse("nothing"), Times::default());
        assert!(Times::now().all > 0);
    }
}
