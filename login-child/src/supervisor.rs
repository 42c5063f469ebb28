// SPDX-License-Identifier: MIT OR Apache-2.0
//! The supervisor: a child that waits for the worker and for the deadline, and for nothing else.

use std::os::fd::RawFd;
use std::time::Duration;

use libc::pid_t;
use mytoken_wire::clock::Deadline;

use crate::message::Message;
use crate::raw::{self, Woken};
use crate::worker::Work;

/// How long the supervisor waits for a worker that it has killed.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// The ends of the pipes that supervisor and worker use. -1: there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) input: RawFd,
    pub(crate) output: RawFd,
    pub(crate) errors: RawFd,
    pub(crate) messages: RawFd,
}

/// Runs in the child, whose signals are all blocked.
pub(crate) fn run(work: &dyn Work, ends: Ends, deadline: Deadline) -> ! {
    let mut kept = [ends.input, ends.output, ends.errors, ends.messages];
    kept.sort_unstable();
    // Among others the connection of the host, which must end with the host.
    raw::close_others(&kept);
    raw::be_wholly_root();
    // From here on only root can stop or kill it.
    let _ = raw::write_all(ends.messages, &Message::Begun.bytes());
    // SAFETY: the child calls only functions of `raw`, and ends in `perform`.
    let forked = raw::notice_children().and_then(|()| unsafe { raw::fork(libc::SIGCHLD) });
    let last = match forked {
        Ok(0) => work.perform(ends),
        Ok(worker) => {
            for fd in [ends.input, ends.output, ends.errors] {
                raw::close(fd);
            }
            watch(worker, ends.messages, deadline)
        }
        Err(errno) => Message::Failed(errno),
    };
    let _ = raw::write_all(ends.messages, &last.bytes());
    raw::exit(0)
}

/// Waits until the worker has ended, the deadline has passed, or the host has ended. Nothing of the worker's process group is left then.
fn watch(worker: pid_t, messages: RawFd, deadline: Deadline) -> Message {
    loop {
        if raw::has_ended(worker) {
            // It has not been reaped, so its number is still its group's.
            raw::kill(-worker);
            return match raw::reap(worker, true) {
                Ok(Some(end)) => Message::Ended(end),
                Ok(None) | Err(_) => Message::TimedOut,
            };
        }
        let Some(left) = deadline.remaining() else { break };
        if raw::wait_for_child(messages, left) == Woken::Unread {
            break;
        }
    }
    // First the process, which makes no further children then.
    raw::kill(worker);
    raw::kill(-worker);
    let end = Deadline::after(LAST_WAIT);
    while let (Ok(None), Some(left)) = (raw::reap(worker, false), end.remaining()) {
        raw::wait_for_child(-1, left);
    }
    Message::TimedOut
}
