// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a child process that inherits only the environment, and reads one line from it.
//!
//! By `posix_spawn`, because srun and salloc have threads since 26.05 (SLURM-23): between fork and exec no code of this plugin may run.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use mytoken_wire::Deadline;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, read};

use crate::ffi::environment;

/// Longest output in bytes.
const OUTPUT_LIMIT: usize = 32 * 1024;

/// The output and the end of a child.
#[derive(Debug, PartialEq, Eq)]
pub struct ChildOutput {
    /// What it printed, up to the first newline.
    pub line: Vec<u8>,
    /// How it ended.
    pub status: ChildStatus,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildStatus {
    /// With this exit status.
    Exited(i32),
    /// By the signal of this number.
    Killed(i32),
    /// The host ignores `SIGCHLD` or has reaped the child.
    Unknown,
}

/// Why there is no output.
#[derive(Debug)]
pub enum SpawnError {
    /// The child could not be started.
    NotStarted(std::io::Error),
    /// The child was killed at the deadline.
    Timeout,
    /// The child was killed because it printed more than [`OUTPUT_LIMIT`].
    OutputTooLong,
}

/// Runs `program` until it ends, or kills it at the deadline. In both cases the child is reaped.
pub fn run(program: &CString, arguments: &[CString], deadline: Deadline) -> Result<ChildOutput, SpawnError> {
    let (child, output) = start(program, arguments).map_err(|errno| SpawnError::NotStarted(errno.into()))?;
    let finished = read_line(&output, deadline)
        .and_then(|line| Ok(ChildOutput { line, status: reap(child, deadline).ok_or(SpawnError::Timeout)? }));
    if finished.is_err() {
        stop(child);
    }
    finished
}

/// Starts the child with its standard output on a pipe, every other descriptor closed, no signal blocked or ignored.
fn start(program: &CString, arguments: &[CString]) -> nix::Result<(Pid, OwnedFd)> {
    let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
    // If the host has closed its standard streams (cron, daemons), the pipe takes their numbers.
    let (read_end, write_end) = (above_standard(read_end)?, above_standard(write_end)?);

    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_open(0, c"/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    actions.add_open(2, c"/dev/null", OFlag::O_WRONLY, Mode::empty())?;
    actions.add_dup2(write_end.as_raw_fd(), 1)?;
    for descriptor in open_descriptors() {
        match actions.add_close(descriptor) {
            // The limit (`ulimit -n`) was lowered when it was open already. The worker of mytoken-submit closes it.
            Err(Errno::EBADF) => {}
            added => added?,
        }
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETPGROUP,
    )?;
    // Its own process group, so that Ctrl-C and hang-up do not reach it. If they killed the child after the server's answer, the
    // successor of a rotating token would be lost and a sub-token left behind. It ends at its deadline, or when its output has no reader.
    attributes.set_pgroup(Pid::from_raw(0))?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    let child = posix_spawn(program.as_c_str(), &actions, &attributes, arguments, &environment())?;
    Ok((child, read_end))
}

/// Moves a descriptor out of the range of the standard streams.
fn above_standard(descriptor: OwnedFd) -> nix::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    // std duplicates to 3 or above.
    descriptor.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// The open descriptors above the standard streams. The host may have inherited some.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(mut directory) = Dir::open(c"/proc/self/fd", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return (3..256).collect();
    };
    directory
        .iter()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
        .filter(|number| *number > 2)
        .collect()
}

/// Reads up to the first newline or the end.
fn read_line(pipe: &OwnedFd, deadline: Deadline) -> Result<Vec<u8>, SpawnError> {
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
            return Err(SpawnError::OutputTooLong);
        }
        if count == 0 || part.contains(&b'\n') {
            return Ok(output);
        }
    }
}

/// Waits until there is something to read or the other end is closed.
fn wait_readable(pipe: BorrowedFd, deadline: Deadline) -> Result<(), SpawnError> {
    loop {
        let left = deadline.remaining().ok_or(SpawnError::Timeout)?.max(Duration::from_millis(1));
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], left) {
            Ok(0) | Err(Errno::EINTR) => {}
            _ => return Ok(()),
        }
    }
}

/// Waits until the child ends. `None` when the deadline comes first. It polls, because `SIGCHLD` belongs to the host.
fn reap(child: Pid, deadline: Deadline) -> Option<ChildStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, status)) => return Some(ChildStatus::Exited(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(ChildStatus::Killed(signal as i32)),
            // ECHILD: the host has reaped the child.
            Ok(_) | Err(_) => return Some(ChildStatus::Unknown),
        }
        std::thread::sleep(pause.min(deadline.remaining()?));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Kills the child and reaps it.
fn stop(child: Pid) {
    // Only while it runs: the id of an ended child may belong to another process.
    if waitpid(child, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
        let _ = kill(child, Signal::SIGKILL);
        while waitpid(child, None) == Err(Errno::EINTR) {}
    }
}
