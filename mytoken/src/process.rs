// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process and the time of its start. A process id alone is not unique: the system reuses it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Clock ticks in a second, as `/proc` counts them: Linux has this number for programs on each architecture that Rust builds for.
const TICKS: u64 = 100;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of_pid(std::process::id())
    }

    /// Its parent: in sshd's auth child the monitor, which later opens the session (SSH-01).
    #[must_use]
    pub fn parent() -> Option<Self> {
        Self::of_pid(std::os::unix::process::parent_id())
    }

    /// Whether it still runs. A zombie counts as running: it disappears as soon as its parent waits for it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match read_stat(self.pid) {
            Ok(stat) => start_time(&stat) == Some(self.start),
            // Only these two errors mean that the process does not exist. Others can mean that this process cannot open more files.
            Err(error) => !(error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)),
        }
    }

    /// How long it has run. `uptime`: time since boot, with the time of a suspend. Zero if it began after that: the times are of two clocks
    /// that differ, as in a container that sees another boot.
    #[must_use]
    pub fn age(&self, uptime: Duration) -> Duration {
        let begin = Duration::from_millis(self.start.saturating_mul(1000 / TICKS));
        uptime.saturating_sub(begin)
    }

    fn of_pid(pid: u32) -> Option<Self> {
        Some(Self { pid, start: start_time(&read_stat(pid).ok()?)? })
    }
}

fn read_stat(pid: u32) -> std::io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
}

/// The start time in the text of `/proc/PID/stat`. The name in field 2 can hold blanks and parentheses, so fields are counted from the
/// last parenthesis.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_after_any_process_name() {
        let rest = (3..=30).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_time(&format!("7 (sshd: a) b ) {rest}")), Some(22));
        assert_eq!(start_time("7 (x"), None);
    }

    #[test]
    fn its_age_is_the_time_since_its_start() {
        let process = Process { pid: 7, start: 12_345 };
        let age = |millis| process.age(Duration::from_millis(millis));
        assert_eq!((age(123_450), age(163_450)), (Duration::ZERO, Duration::from_secs(40)));
        assert_eq!(age(100), Duration::ZERO, "another boot");
        // The unit is that of this system: the process of the test is young, and this host was not started at the same moment.
        let uptime = mytoken_wire::clock::ScheduleClock::elapsed(&crate::SystemClock);
        let own = Process::own().unwrap().age(uptime);
        assert!(own > Duration::ZERO && own < Duration::from_secs(600), "{own:?}");
    }

    #[test]
    fn a_process_is_equal_to_itself_and_not_to_its_parent() {
        assert_eq!(Process::own(), Process::own());
        assert!(Process::own().is_some() && Process::parent() != Process::own());
    }
}
