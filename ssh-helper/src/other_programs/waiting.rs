// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for another program, until it is done, its time is over, or nobody needs it any more: ssh has ended meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use mytoken::Deadline;

/// How often it is looked whether anybody still waits.
const POLL: Duration = Duration::from_millis(50);

/// Whether the run that needs tokens has ended.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Why the waiting has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// The time is over.
    TimeOver,
    /// Nobody waits any more.
    NotNeeded,
}

/// From now on nobody waits for a token in this process.
pub fn end() {
    HAS_ENDED.store(true, Ordering::Relaxed);
}

/// Calls `look` until it gives something.
pub fn until<T>(deadline: Deadline, look: impl FnMut() -> Option<T>) -> Result<T, Unfinished> {
    until_unless(&HAS_ENDED, deadline, look)
}

fn until_unless<T>(
    has_ended: &AtomicBool,
    deadline: Deadline,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Unfinished> {
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if has_ended.load(Ordering::Relaxed) {
            return Err(Unfinished::NotNeeded);
        }
        std::thread::sleep(deadline.remaining().ok_or(Unfinished::TimeOver)?.min(POLL));
    }
}

/// Runs `work` in a thread, which is left alone when the time is over, and ends with this program.
pub fn within<T: Send + 'static>(
    deadline: Deadline,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let (done, result) = channel();
    std::thread::spawn(move || {
        // Nobody waits any more if this fails.
        let _ = done.send(work());
    });
    let received = until(deadline, || match result.recv_timeout(POLL) {
        Err(RecvTimeoutError::Timeout) => None,
        answer => Some(answer.ok()),
    })?;
    // Without an answer the thread has panicked.
    received.ok_or(Unfinished::TimeOver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_work_with_the_time_or_when_nobody_waits() {
        let short = || Deadline::after(Duration::from_millis(200));
        let has_ended = AtomicBool::new(false);
        let mut looks = 0;
        let third = until_unless(&has_ended, Deadline::after(Duration::from_secs(60)), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(third, Ok(3));
        assert_eq!(until_unless(&has_ended, short(), || None::<u8>), Err(Unfinished::TimeOver));
        has_ended.store(true, Ordering::Relaxed);
        let long = Deadline::after(Duration::from_secs(60));
        assert_eq!(until_unless(&has_ended, long, || None::<u8>), Err(Unfinished::NotNeeded));
        assert_eq!(within(short(), || 5), Ok(5));
        assert_eq!(within(short(), || std::thread::sleep(Duration::from_secs(3))), Err(Unfinished::TimeOver));
    }
}
