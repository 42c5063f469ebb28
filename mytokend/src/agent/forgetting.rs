// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the brokers which submissions of this host are over. Each keeps a copy of their sealed credentials (escrow), and only the one
//! that nodes ask for tokens finds out by itself that a submission is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytoken::Deadline;

use super::Agent;
use super::lease::{Lease, LeaseKey};
use crate::log::Level;

/// Time limit of all brokers together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before the brokers are told again if one did not answer. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// How often they are told: for more than four hours. Then the copy stays until its sub-token expires, as after a restart of the agent.
const MOST_TRIES: u32 = 10;

/// Most submissions that wait. The copies of further ones stay.
const MOST: usize = 10_000;

/// A submission that is over.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    /// When to tell it, elapsed time.
    due: Duration,
    uid: u32,
    handle: String,
    /// How often it was told in vain.
    tries: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BinaryHeap<Reverse<Ended>>,
    stopping: bool,
}

/// The submissions that the brokers have to be told.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Forgetting {
    /// Returns it when too many wait.
    fn add(&self, ended: Ended) -> Result<(), Ended> {
        let mut queue = self.queue();
        if queue.waiting.len() >= MOST {
            return Err(ended);
        }
        queue.waiting.push(Reverse(ended));
        drop(queue);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the next one. `None`: the agent stops.
    fn next(&self, elapsed: &dyn Fn() -> Duration) -> Option<Ended> {
        let mut queue = self.queue();
        while !queue.stopping {
            let now = elapsed();
            let wait = queue.waiting.peek().map(|Reverse(first)| first.due.saturating_sub(now));
            match wait {
                Some(wait) if wait.is_zero() => return queue.waiting.pop().map(|Reverse(first)| first),
                Some(wait) => {
                    (queue, _) = self.changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner);
                }
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
        None
    }

    /// Ends [`Agent::run_forgetting`].
    pub(super) fn stop(&self) {
        self.queue().stopping = true;
        self.changed.notify_all();
    }

    /// Reads the clock again.
    pub(super) fn wake(&self) {
        drop(self.queue());
        self.changed.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agent {
    /// The lease is finished: if its submission was made on this host, its credential is not needed any more.
    pub(super) fn forget_at_brokers(&self, lease: &Lease) {
        let LeaseKey::Submission { uid, handle } = &lease.key else { return };
        if lease.made_here {
            let (uid, handle) = (*uid, handle.clone());
            self.tell_later(Ended { due: self.clock.elapsed(), uid, handle, tries: 0 });
        }
    }

    fn tell_later(&self, ended: Ended) {
        if let Err(ended) = self.forgetting.add(ended) {
            self.log_kept(&ended, "too many submissions wait to be told");
        }
    }

    /// A broker is not told of it any more.
    fn log_kept(&self, ended: &Ended, reason: &str) {
        let (begin, uid) = (ended.handle.get(..8).unwrap_or_default(), ended.uid);
        let text = format!("submission {begin} uid {uid}: a broker keeps its credential until it expires: {reason}");
        self.log.line_of(uid, Level::Warning, &text);
    }

    /// Tells the brokers until [`Forgetting::stop`]. It has a thread of its own: a broker that hangs holds up no job.
    pub(super) fn run_forgetting(&self) {
        while let Some(ended) = self.forgetting.next(&|| self.clock.elapsed()) {
            let configured = self.configured();
            let tell = || configured.service.forget(ended.uid, &ended.handle, Deadline::after(PATIENCE));
            // A panic must not end the thread: all other submissions need it.
            let told = catch_unwind(AssertUnwindSafe(tell)).unwrap_or_else(|_| Err("an internal error".to_owned()));
            let Err(reason) = told else { continue };
            let tries = ended.tries.saturating_add(1);
            if tries < MOST_TRIES {
                let due = self.clock.elapsed().saturating_add(FIRST_PAUSE.saturating_mul(1 << ended.tries.min(16)));
                self.tell_later(Ended { due, tries, ..ended });
            } else {
                self.log_kept(&ended, &reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_is_told() {
        let forgetting = Forgetting::default();
        let ended = |number: usize| Ended { due: Duration::ZERO, uid: 7, handle: number.to_string(), tries: 0 };
        assert!((0..MOST).all(|number| forgetting.add(ended(number)).is_ok()));
        assert_eq!(forgetting.add(ended(MOST)), Err(ended(MOST)));
        assert!(forgetting.next(&|| Duration::ZERO).is_some());
        assert_eq!(forgetting.add(ended(MOST)), Ok(()));
    }
}
