// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a child process that inherits only the environment, and reads one line from it.
//!
//! By `posix_spawn`, because srun and salloc have threads since 26.05 (SLURM-23): between fork and exec no code of this plugin may run.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use mytoken_wire::Deadline;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, read};

/// Longest output in bytes.
const OUTPUT_LIMIT: usize = 32 * 1024;

/// How the child ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it printed, up to the first newline.
    pub output: Vec<u8>,
    /// Its status. `None` when somebody else has reaped it: the host may ignore `SIGCHLD` or wait for any child.
    pub status: Option<i32>,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// It was not started.
    NotStarted(std::io::Error),
    /// It was killed at the deadline.
    Late,
    /// It was killed because it printed too much.
    TooLong,
}

/// Runs `program` until it has ended or the deadline has passed; then nothing of it is left.
pub fn run(program: &CString, arguments: &[CString], deadline: Deadline) -> Result<Ended, Failure> {
    let (child, output) = start(program, arguments).map_err(|errno| Failure::NotStarted(errno.into()))?;
    let output = match read_line(&output, deadline) {
        Ok(output) => output,
        Err(failure) => {
            stop(child);
            return Err(failure);
        }
    };
    match reap(child, deadline) {
        Some(WaitStatus::Exited(_, status)) => Ok(Ended { output, status: Some(status), signal: None }),
        Some(WaitStatus::Signaled(_, signal, _)) => Ok(Ended { output, status: None, signal: Some(signal as i32) }),
        Some(_) => Ok(Ended { output, status: None, signal: None }),
        None => {
            stop(child);
            Err(Failure::Late)
        }
    }
}

/// Starts the child with its standard output on a pipe, every other descriptor closed, no signal blocked or ignored.
fn start(program: &CString, arguments: &[CString]) -> nix::Result<(Pid, OwnedFd)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    // A caller with closed standard streams (cron, daemons) would get the pipe as one of them.
    let (ours, theirs) = (above_standard(ours)?, above_standard(theirs)?);

    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_open(0, c"/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    actions.add_open(2, c"/dev/null", OFlag::O_WRONLY, Mode::empty())?;
    actions.add_dup2(theirs.as_raw_fd(), 1)?;
    for descriptor in open_descriptors() {
        actions.add_close(descriptor)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETPGROUP,
    )?;
    // A process group of its own, out of reach of Ctrl-C and hang-up. Killed after the server's answer, the child would lose the
    // successor of a rotating token and leave a sub-token behind. It ends at its deadline, or when its output has no reader.
    attributes.set_pgroup(Pid::from_raw(0))?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    let child = posix_spawn(program.as_c_str(), &actions, &attributes, arguments, &environment())?;
    Ok((child, ours))
}

/// Moves a descriptor out of the range of the standard streams.
fn above_standard(descriptor: OwnedFd) -> nix::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    // std duplicates to 3 or above.
    descriptor.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// The open descriptors above the standard streams. The caller of the command may have left some open.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return (3..256).collect();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect()
}

/// The environment as it is.
fn environment() -> Vec<CString> {
    let entry =
        |(name, value): (OsString, OsString)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok();
    std::env::vars_os().filter_map(entry).collect()
}

/// Reads up to the first newline or the end.
fn read_line(pipe: &OwnedFd, deadline: Deadline) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        wait_readable(pipe.as_fd(), deadline)?;
        let count = match read(pipe, &mut chunk) {
            Ok(count) => count,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(_) => 0,
        };
        let part = chunk.get(..count).unwrap_or_default();
        if let Some(end) = part.iter().position(|byte| *byte == b'\n') {
            output.extend_from_slice(part.get(..end).unwrap_or_default());
        } else {
            output.extend_from_slice(part);
        }
        if output.len() > OUTPUT_LIMIT {
            return Err(Failure::TooLong);
        }
        if count == 0 || part.contains(&b'\n') {
            return Ok(output);
        }
    }
}

/// Waits until there is something to read or the other end is closed.
fn wait_readable(pipe: BorrowedFd, deadline: Deadline) -> Result<(), Failure> {
    loop {
        let left = deadline.remaining().ok_or(Failure::Late)?.max(Duration::from_millis(1));
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], left) {
            Ok(0) | Err(Errno::EINTR) => {}
            _ => return Ok(()),
        }
    }
}

/// Waits for the child's end, `None` when the deadline comes first. Without `SIGCHLD`, which belongs to the host.
fn reap(child: Pid, deadline: Deadline) -> Option<WaitStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(status) => return Some(status),
            // ECHILD: reaped by somebody else. `StillAlive` stands for "over, status unknown".
            Err(_) => return Some(WaitStatus::StillAlive),
        }
        std::thread::sleep(pause.min(deadline.remaining()?));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Kills and reaps.
fn stop(child: Pid) {
    // Not when it is gone already: the number might be another's by now.
    if waitpid(child, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
        let _ = kill(child, Signal::SIGKILL);
        while waitpid(child, None) == Err(Errno::EINTR) {}
    }
}
