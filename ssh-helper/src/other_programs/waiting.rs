// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for another program, until it is done, its time is over, or nobody needs it any more: ssh has ended meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use mytoken::Deadline;

/// How often it is looked whether anybody still waits.
const POLL: Duration = Duration::from_millis(50);

/// Whether the run that needs tokens has ended. It begins once in a process.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// From now on nobody waits for a token.
pub fn end() {
    HAS_ENDED.store(true, Ordering::Relaxed);
}

/// Calls `look` until it gives something. `None`: the time is over, or nobody waits any more.
pub fn until<T>(deadline: Deadline, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if HAS_ENDED.load(Ordering::Relaxed) {
            return None;
        }
        std::thread::sleep(deadline.remaining()?.min(POLL));
    }
}

/// What another thread sends. `None`: as [`until`], or it ends without it.
pub fn received<T>(from: &Receiver<T>, deadline: Deadline) -> Option<T> {
    until(deadline, || match from.recv_timeout(POLL) {
        Err(RecvTimeoutError::Timeout) => None,
        answer => Some(answer.ok()),
    })?
}

/// Runs `work` in a thread, which is left alone when the time is over, and ends with this program.
pub fn within<T: Send + 'static>(deadline: Deadline, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = channel();
    std::thread::spawn(move || {
        // Nobody waits any more if this fails.
        let _ = done.send(work());
    });
    received(&result, deadline)
}
