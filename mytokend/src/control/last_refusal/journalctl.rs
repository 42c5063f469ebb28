// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs journalctl, and tells what it says about its own work: a journal that it could not read was not searched.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mytoken_wire::printable;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// How long a killed journalctl is waited for. One that waits for a disk does not end before the disk answers.
const GRACE: Duration = Duration::from_secs(1);

/// The output of journalctl, until a moment. A read after it fails with `TimedOut`, also if nothing comes.
pub(super) struct Output {
    pipe: ChildStdout,
    end: Instant,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Less than a millisecond is one, so that the loop does not spin.
            let left = PollTimeout::try_from(left.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.pipe.read(buffer),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What was read from journalctl.
pub(super) struct Reading<T> {
    pub value: T,
    /// Whether it was read to its end.
    pub whole: bool,
}

/// Runs journalctl until `end`, and reads its output with `read`. Also returns what it says on standard error: journal files that it
/// passes over.
///
/// # Errors
/// A sentence: it cannot be run, `read` failed, its output was whole but journalctl says that it failed, or it was not done in time.
pub(super) fn run<T>(
    mut command: Command,
    end: Instant,
    read: impl FnOnce(BufReader<Output>) -> io::Result<Reading<T>>,
) -> Result<(T, Option<String>), String> {
    let trouble = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "this host has no journalctl".to_owned(),
        _ => format!("journalctl cannot be run: {error}"),
    };
    // No pipe: journalctl must not wait for a reader of its warnings.
    let said = memfd_create("journalctl", MFdFlags::MFD_CLOEXEC).map_err(|errno| trouble(errno.into()))?;
    let said = File::from(said);
    let errors = said.try_clone().map_err(trouble)?;
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(errors));
    let mut child = command.spawn().map_err(trouble)?;
    let reading = match child.stdout.take() {
        Some(pipe) => read(BufReader::new(Output { pipe, end })),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    let mut status = None;
    if reading.as_ref().is_ok_and(|reading| reading.whole) {
        status = wait_until(&mut child, end).map_err(trouble)?;
    }
    if status.is_none() {
        // It may have more to tell than was read, or hang.
        let _ = child.kill();
        let _ = wait_until(&mut child, Instant::now() + GRACE);
    }
    let late = || "not read to its end in time".to_owned();
    let Reading { value, whole } = reading.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => late(),
        _ => error.to_string(),
    })?;
    let warning = first_line(&said);
    match status {
        None if whole => Err(late()),
        Some(status) if !status.success() => Err(failure(status, warning)),
        _ => Ok((value, warning)),
    }
}

/// Waits for the end of journalctl. `None`: it has not ended.
fn wait_until(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        let left = end.saturating_duration_since(Instant::now());
        if status.is_some() || left.is_zero() {
            return Ok(status);
        }
        sleep(left.min(Duration::from_millis(5)));
    }
}

fn failure(status: ExitStatus, warning: Option<String>) -> String {
    format!("journalctl failed: {}", warning.unwrap_or_else(|| status.to_string()))
}

/// The first line of what it said, without control characters.
fn first_line(said: &File) -> Option<String> {
    let mut bytes = [0; 400];
    let length = said.read_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
    text.lines().find(|line| !line.trim().is_empty()).map(|line| printable(line.trim(), 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_by(script: &str, whole: bool) -> Result<(String, Option<String>), String> {
        said_within(Duration::from_secs(60), script, whole)
    }

    fn said_within(time: Duration, script: &str, whole: bool) -> Result<(String, Option<String>), String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, Instant::now() + time, |mut output| {
            let mut value = String::new();
            let mut some = [0; 2];
            let read = if whole {
                output.read_to_string(&mut value)
            } else {
                output.read(&mut some).inspect(|length| value.push_str(&String::from_utf8_lossy(&some[..*length])))
            };
            read?;
            Ok(Reading { value, whole })
        })
    }

    #[test]
    fn its_status_and_what_it_says_are_known() {
        assert_eq!(said_by("echo a", true).unwrap(), ("a\n".to_owned(), None));
        assert_eq!(said_by("echo a; exit 3", true).unwrap_err(), "journalctl failed: exit status: 3");
        let failed = said_by("echo a; echo 'Failed to open\u{1b} files' >&2; echo b >&2; exit 1", true).unwrap_err();
        assert_eq!(failed, "journalctl failed: Failed to open? files");
        let warned = said_by("echo a; echo; echo >&2; echo 'Journal file x is truncated' >&2", true).unwrap();
        assert_eq!(warned, ("a\n\n".to_owned(), Some("Journal file x is truncated".to_owned())));
        // More than a pipe holds.
        let warned =
            said_by("i=0; while [ $i -lt 3000 ]; do echo 'a warning that is long enough' >&2; i=$((i+1)); done", true);
        assert_eq!(warned.unwrap().1.as_deref(), Some("a warning that is long enough"));
    }

    #[test]
    fn it_is_ended_once_enough_was_read() {
        assert_eq!(said_by("echo ab; exec sleep 600", false).unwrap(), ("ab".to_owned(), None));
    }

    #[test]
    fn a_host_without_it_is_told() {
        let none = Command::new("/nowhere/journalctl");
        let read = run(none, Instant::now() + Duration::from_secs(60), |_| Ok(Reading { value: (), whole: true }));
        assert_eq!(read.unwrap_err(), "this host has no journalctl");
    }

    #[test]
    fn a_silent_one_is_ended_in_time() {
        for script in ["exec sleep 600", "echo a; exec sleep 600", "exec sleep 600 >&-"] {
            let began = Instant::now();
            let late = said_within(Duration::from_secs(2), script, true).unwrap_err();
            assert_eq!(late, "not read to its end in time", "{script}");
            assert!((2..60).contains(&began.elapsed().as_secs()), "{script}: {:?}", began.elapsed());
        }
    }
}
