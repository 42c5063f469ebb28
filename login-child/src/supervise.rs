// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side: starts a supervisor, reads from its worker until the deadline, and waits for the supervisor.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use libc::pid_t;
use mytoken_wire::clock::Deadline;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::pipe2;

use crate::message::{LENGTH, Message};
use crate::raw;
use crate::supervisor::{self, Ends};
use crate::worker::Work;

/// Longest error output that is kept. What follows is read and forgotten, so that the worker does not wait.
const ERRORS_LIMIT: usize = 1024;

/// How long a supervisor may take to start its worker. Who is later was stopped, or this machine is too slow for a statement about a
/// worker.
const BEGIN_LIMIT: Duration = Duration::from_secs(1);

/// How long the host waits for a supervisor that has nothing left to do but to say so. Then it kills it.
const SUPERVISOR_LIMIT: Duration = Duration::from_millis(500);

/// What a worker said and wrote.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) messages: Vec<Message>,
    pub(crate) output: Vec<u8>,
    pub(crate) errors: Vec<u8>,
    /// It wrote more than the limit.
    pub(crate) too_much: bool,
    /// Whether the worker was started at once.
    pub(crate) in_time: bool,
}

impl Collected {
    /// Whether the worker was ended because its time was up, and was not kept from its begin.
    pub(crate) fn had_its_time(&self) -> bool {
        self.in_time && self.messages.contains(&Message::TimedOut)
    }

    /// Whether the supervisor has said how the worker ended.
    fn is_whole(&self) -> bool {
        self.messages.iter().any(|message| matches!(message, Message::Ended(_) | Message::TimedOut))
    }
}

/// A supervisor that has not been waited for.
struct Supervisor {
    pid: pid_t,
    /// How long it is waited for.
    limit: Duration,
}

/// Runs `work` in a worker. Returns at the deadline at the latest, and half a second later if the machine is that slow or the supervisor is
/// stopped. `limit`: longest output.
pub(crate) fn supervise(
    work: &dyn Work,
    input: Option<OwnedFd>,
    limit: usize,
    deadline: Deadline,
) -> Result<Collected, Errno> {
    let (output, output_end) = pipe()?;
    let (errors, errors_end) = pipe()?;
    let (messages, messages_end) = pipe()?;
    let ends = Ends {
        input: input.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        output: output_end.as_raw_fd(),
        errors: errors_end.as_raw_fd(),
        messages: messages_end.as_raw_fd(),
    };
    let begin = Deadline::after(BEGIN_LIMIT.min(deadline.remaining().unwrap_or_default() / 4 * 3));
    let mut supervisor = start(work, ends, deadline)?;
    drop((input, output_end, errors_end, messages_end));
    let mut streams = Streams { output, errors, messages, said: Vec::new(), collected: Collected::default(), begin };
    streams.collect(limit, deadline);
    let collected = std::mem::take(&mut streams.collected);
    if !collected.is_whole() && !collected.too_much {
        // It has had its time.
        supervisor.limit = Duration::ZERO;
    }
    // Closes the pipes: a supervisor that is still at work sees that, and ends its worker.
    drop(streams);
    drop(supervisor);
    Ok(collected)
}

/// A pipe: the end of the host, which does not block, and that of the worker.
fn pipe() -> Result<(File, OwnedFd), Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((File::from(read), write))
}

/// Starts the supervisor. Signals are blocked meanwhile: the host's handlers must not run in its copy.
fn start(work: &dyn Work, ends: Ends, deadline: Deadline) -> Result<Supervisor, Errno> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the child calls only `supervisor::run`, which uses only functions of `raw` and does not return.
    let forked = unsafe { raw::fork(0) };
    if forked == Ok(0) {
        supervisor::run(work, ends, deadline)
    }
    before.thread_set_mask()?;
    forked.map(|pid| Supervisor { pid, limit: SUPERVISOR_LIMIT })
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let end = Deadline::after(self.limit);
        while let Ok(None) = raw::reap(self.pid, false) {
            if end.remaining().is_none() {
                raw::kill(self.pid);
                let _ = raw::reap(self.pid, true);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Streams {
    output: File,
    errors: File,
    messages: File,
    said: Vec<u8>,
    collected: Collected,
    /// Until when the worker must have been started.
    begin: Deadline,
}

impl Streams {
    /// Reads until the supervisor has said how the worker ended, the output is too long, or the supervisor has not even said after the
    /// deadline that this has passed.
    fn collect(&mut self, limit: usize, deadline: Deadline) {
        let end = Deadline::after(deadline.remaining().unwrap_or_default().saturating_add(SUPERVISOR_LIMIT));
        let mut open = [true; 3];
        loop {
            // The messages first: when the supervisor says that the worker has ended, all that it wrote is in the pipes.
            let ended = self.take_messages(&mut open);
            self.take_output(limit, &mut open);
            if ended || self.collected.too_much || !open[2] {
                return;
            }
            let Some(left) = end.remaining() else { return };
            let all = [self.output.as_fd(), self.errors.as_fd(), self.messages.as_fd()];
            let mut polled: Vec<PollFd<'_>> = all
                .iter()
                .zip(open)
                .filter(|(_, open)| *open)
                .map(|(fd, _)| PollFd::new(*fd, PollFlags::POLLIN))
                .collect();
            let left = left.saturating_add(Duration::from_millis(1));
            let _ = poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }

    /// Returns whether the supervisor has said how the worker ended.
    fn take_messages(&mut self, open: &mut [bool; 3]) -> bool {
        open[2] &= take(&mut self.messages, &mut self.said, usize::MAX);
        let messages = self.said.chunks_exact(LENGTH).filter_map(Message::parse);
        let (begun, messages): (Vec<_>, Vec<_>) = messages.partition(|message| *message == Message::Begun);
        self.collected.in_time |= !begun.is_empty() && self.begin.remaining().is_some();
        self.collected.messages = messages;
        self.collected.is_whole()
    }

    fn take_output(&mut self, limit: usize, open: &mut [bool; 3]) {
        open[0] &= take(&mut self.output, &mut self.collected.output, limit.saturating_add(1));
        open[1] &= take(&mut self.errors, &mut self.collected.errors, ERRORS_LIMIT);
        self.collected.too_much = self.collected.output.len() > limit;
    }
}

/// Reads what is there, and keeps it until `kept` is as long as `limit`. Returns whether more may come.
fn take(pipe: &mut File, kept: &mut Vec<u8>, limit: usize) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                let room = limit.saturating_sub(kept.len()).min(length);
                kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
                // A worker that writes without end must not keep the host here.
                if kept.len() >= limit {
                    return true;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::worker;

    /// A worker that hangs, as in a home directory whose file server is dead.
    struct Hanging;

    impl Work for Hanging {
        fn perform(&self, ends: Ends) -> ! {
            let _ = worker::begin(None);
            let _ = raw::write_all(ends.output, b"begun");
            loop {
                raw::wait_for_child(-1, Duration::from_secs(60));
            }
        }
    }

    /// A worker that says that it has failed.
    struct Failing;

    impl Work for Failing {
        fn perform(&self, ends: Ends) -> ! {
            let _ = raw::write_all(ends.messages, &Message::Failed(Errno::EIO).bytes());
            raw::exit(7)
        }
    }

    #[test]
    fn a_worker_that_hangs_is_killed_at_the_deadline() {
        let began = Instant::now();
        let collected = supervise(&Hanging, None, 100, Deadline::after(Duration::from_millis(300))).unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(collected.output, b"begun");
        assert!(!collected.messages.iter().any(|message| matches!(message, Message::Ended(_))), "{collected:?}");
    }

    #[test]
    fn a_worker_that_was_started_late_has_not_had_its_time() {
        let said = |begin: Duration| {
            let (output, errors) = (pipe().unwrap().0, pipe().unwrap().0);
            let (messages, end) = pipe().unwrap();
            for message in [Message::Begun, Message::TimedOut] {
                raw::write_all(end.as_raw_fd(), &message.bytes()).unwrap();
            }
            let begin = Deadline::after(begin);
            let collected = Collected::default();
            let mut streams = Streams { output, errors, messages, said: Vec::new(), collected, begin };
            streams.collect(100, Deadline::after(Duration::ZERO));
            streams.collected
        };
        assert!(said(Duration::from_secs(60)).had_its_time());
        let late = said(Duration::ZERO);
        assert!(!late.had_its_time() && late.is_whole(), "{late:?}");
    }

    #[test]
    fn what_a_worker_says_comes_before_its_end() {
        let collected = supervise(&Failing, None, 100, Deadline::after(Duration::from_secs(20))).unwrap();
        let said = [Message::Failed(Errno::EIO), Message::Ended(raw::End::Exited(7))];
        assert_eq!(collected.messages, said);
    }

    #[test]
    fn a_worker_is_ended_at_once_if_the_deadline_has_passed() {
        let began = Instant::now();
        let collected = supervise(&Hanging, None, 100, Deadline::after(Duration::ZERO)).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!collected.messages.iter().any(|message| matches!(message, Message::Ended(_))), "{collected:?}");
    }
}
