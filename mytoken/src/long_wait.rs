// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notices that a request waits long for its answer.
//!
//! sshd ends a login whose `LoginGraceTime` is over, without any clean-up (SSH-10). So a login that waits for a server must say so on
//! disk while it waits: afterwards it may be gone, and the next login would wait for the same server again.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, scope};
use std::time::Duration;

/// From this time on a request counts as one that waits long. A process that ends earlier has shown nothing about the server: whoever
/// waits at the prompt until shortly before the end of `LoginGraceTime` chooses the end of the process.
pub const LONG_WAIT: Duration = Duration::from_secs(3);

/// Runs `request`, and meanwhile `notice`, in a thread, if `request` takes longer than `limit`. Returns when both have returned, so
/// `notice` must not block for long. Without a thread, `request` runs alone.
pub fn notice_long_wait<T>(limit: Duration, notice: impl FnOnce() + Send, request: impl FnOnce() -> T) -> T {
    let (running, ended) = channel::<()>();
    let watch = move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            notice();
        }
    };
    scope(move |scope| {
        let _ = Builder::new().name("long-wait".to_owned()).spawn_scoped(scope, watch);
        let answer = request();
        drop(running);
        answer
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    #[test]
    fn only_a_long_wait_is_noticed_and_while_it_lasts() {
        let noticed = AtomicU32::new(0);
        let notice = || {
            noticed.fetch_add(1, Ordering::SeqCst);
        };
        let begun = Instant::now();
        assert_eq!(notice_long_wait(Duration::from_secs(60), notice, || 7), 7);
        assert!(begun.elapsed() < Duration::from_secs(30), "a short request does not wait for the watching thread");
        assert_eq!(noticed.load(Ordering::SeqCst), 0);
        let seen = notice_long_wait(Duration::from_millis(10), notice, || {
            let begun = Instant::now();
            while noticed.load(Ordering::SeqCst) == 0 && begun.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(2));
            }
            noticed.load(Ordering::SeqCst)
        });
        assert_eq!((seen, noticed.load(Ordering::SeqCst)), (1, 1));
    }

    #[test]
    fn a_panic_of_the_request_ends_the_watching_thread() {
        let begun = Instant::now();
        let request = || assert!(begun.elapsed() > Duration::from_secs(3_600), "on purpose");
        let panicking = || notice_long_wait(Duration::from_secs(60), || {}, request);
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}
