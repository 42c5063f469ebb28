// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program, with limits for its time and its output: a daemon must not hang because a program hangs.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use mytoken::Deadline;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramOutcome {
    /// Whether its exit status is 0.
    pub success: bool,
    /// Its exit status. `None`: a signal killed it.
    pub status: Option<i32>,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

impl ProgramOutcome {
    /// The first line of the error output.
    #[must_use]
    pub fn first_error(&self) -> &str {
        self.errors.lines().next().unwrap_or("no error output")
    }

    /// Why it failed: its error output, or else the signal that killed it.
    #[must_use]
    pub fn reason(&self) -> String {
        match (self.errors.trim(), self.signal) {
            ("", Some(number)) => {
                let name = Signal::try_from(number).map_or_else(|_| number.to_string(), |name| name.to_string());
                format!("it was killed by signal {name}")
            }
            ("", None) => "it gave no reason".to_owned(),
            (errors, _) => errors.to_owned(),
        }
    }
}

/// Why a program has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot be run: {0}")]
    Start(io::Error),
    /// Its output could not be read.
    #[error("failed: its output cannot be read: {0}")]
    Output(io::Error),
    /// Its output is too long.
    #[error("failed: its output is longer than {0} bytes")]
    TooLong(usize),
    /// It took too long, and was killed.
    #[error("did not answer in time")]
    Timeout,
    /// It took too long, and did not end when it was killed. The kernel waits for a file system or a device.
    #[error(
        "did not answer in time, and cannot be killed: see its state in ps(1), D waits for a file system or a device"
    )]
    Stuck,
}

/// Longest output in bytes. squeue prints one line for each task of an array.
const OUTPUT_LIMIT: usize = 4 * 1024 * 1024;

/// A pipe that is ready for writing takes this many bytes at least (`PIPE_BUF`).
const PIPE: usize = 4096;

/// Between two looks at a program that has closed its output. Most have ended by then.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a killed program may take to end.
const KILLED: Duration = Duration::from_secs(1);

/// Runs `command` until it ends or `deadline` passes. It has no standard input, and a clean environment except for the variables that
/// `command` sets and for `SLURM_CONF`: a service may name a slurm.conf outside the default path.
///
/// # Errors
/// [`ProgramError`].
pub fn run(command: &mut Command, deadline: Deadline) -> Result<ProgramOutcome, ProgramError> {
    run_limited(command, deadline, OUTPUT_LIMIT)
}

/// As [`run`], with a limit in bytes for each of the two outputs.
///
/// # Errors
/// [`ProgramError`].
pub fn run_limited(command: &mut Command, deadline: Deadline, limit: usize) -> Result<ProgramOutcome, ProgramError> {
    exchange(command, None, deadline, limit)
}

/// As [`run_limited`], with `input` as standard input. A program may end or close it before it has read all of it.
///
/// # Errors
/// [`ProgramError`].
pub fn run_with_input(
    command: &mut Command,
    input: &[u8],
    deadline: Deadline,
    limit: usize,
) -> Result<ProgramOutcome, ProgramError> {
    exchange(command, Some(input), deadline, limit)
}

fn exchange(
    command: &mut Command,
    input: Option<&[u8]>,
    deadline: Deadline,
    limit: usize,
) -> Result<ProgramOutcome, ProgramError> {
    let own = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let own: Vec<(OsString, OsString)> = own.collect();
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").envs(own);
    if let Some(file) = std::env::var_os("SLURM_CONF") {
        command.env("SLURM_CONF", file);
    }
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
    let mut child = command.spawn().map_err(ProgramError::Start)?;
    let result = move_texts(&mut child, input.unwrap_or_default(), deadline, limit)
        .and_then(|texts| Ok((texts, wait_for_end(|| child.try_wait(), deadline)?)));
    let ((output, errors), status) = match result {
        Ok(done) => done,
        Err(error) => {
            let _ = child.kill();
            return Err(match wait_for_end(|| child.try_wait(), Deadline::after(KILLED)) {
                Err(ProgramError::Timeout) => {
                    // No thread of the caller waits for it. A daemon must reap it if it ends later.
                    std::thread::spawn(move || child.wait());
                    ProgramError::Stuck
                }
                _ => error,
            });
        }
    };
    Ok(ProgramOutcome { success: status.success(), status: status.code(), output, errors, signal: status.signal() })
}

/// Waits until a program has ended, at most until `deadline`: one that has closed its output may go on running, and one that was killed
/// may wait in the kernel for a file system that hangs.
fn wait_for_end(
    mut end: impl FnMut() -> io::Result<Option<ExitStatus>>,
    deadline: Deadline,
) -> Result<ExitStatus, ProgramError> {
    loop {
        if let Some(status) = end().map_err(ProgramError::Output)? {
            return Ok(status);
        }
        let left = deadline.remaining().ok_or(ProgramError::Timeout)?;
        std::thread::sleep(left.min(PAUSE));
    }
}

/// Writes standard input, and reads standard output and standard error to their end.
fn move_texts(
    child: &mut Child,
    mut input: &[u8],
    deadline: Deadline,
    limit: usize,
) -> Result<(String, String), ProgramError> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(ProgramError::Output(io::ErrorKind::BrokenPipe.into()));
    };
    // Closed as soon as all is written: the program waits for the end.
    let mut stdin = child.stdin.take().filter(|_| !input.is_empty());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let left = deadline.remaining().ok_or(ProgramError::Timeout)?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let events = |open| if open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(out.as_fd(), events(out_open)), PollFd::new(err.as_fd(), events(err_open))];
        fds.extend(stdin.as_ref().map(|stdin| PollFd::new(stdin.as_fd(), PollFlags::POLLOUT)));
        poll(&mut fds, timeout).map_err(|errno| ProgramError::Output(errno.into()))?;
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<_>>().into_iter();
        let mut next = || ready.next().unwrap_or(false);
        let (ready_out, ready_err, ready_in) = (next(), next(), next());
        if out_open && ready_out {
            out_open = read_once(&mut out, &mut output, limit)?;
        }
        if err_open && ready_err {
            err_open = read_once(&mut err, &mut errors, limit)?;
        }
        if ready_in {
            stdin = stdin.and_then(|stdin| write_once(stdin, &mut input));
        }
    }
    Ok((String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&errors).into_owned()))
}

/// Writes once. `None` if all is written, or if the program has closed its standard input.
fn write_once(mut into: ChildStdin, from: &mut &[u8]) -> Option<ChildStdin> {
    let count = into.write(from.get(..PIPE).unwrap_or(from)).ok()?;
    *from = from.get(count..).unwrap_or_default();
    (!from.is_empty()).then_some(into)
}

/// Reads once and returns whether there may be more.
fn read_once(from: &mut impl Read, into: &mut Vec<u8>, limit: usize) -> Result<bool, ProgramError> {
    let mut chunk = [0_u8; 8192];
    let count = from.read(&mut chunk).map_err(ProgramError::Output)?;
    into.extend_from_slice(chunk.get(..count).unwrap_or_default());
    if into.len() > limit { Err(ProgramError::TooLong(limit)) } else { Ok(count > 0) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Result<ProgramOutcome, ProgramError> {
        run(Command::new("/bin/sh").arg("-c").arg(script), Deadline::after(Duration::from_millis(800)))
    }

    #[test]
    fn status_and_both_outputs_are_returned() {
        let outcome = shell("echo good; echo bad >&2; echo worse >&2; exit 3").unwrap();
        assert_eq!((outcome.success, outcome.output.as_str(), outcome.first_error()), (false, "good\n", "bad"));
        assert!(shell("test -z \"$HOME\"").unwrap().success, "the environment is clean");
    }

    #[test]
    fn a_hanging_program_is_killed() {
        let begin = Instant::now();
        assert!(matches!(shell("exec sleep 30"), Err(ProgramError::Timeout)));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_program_that_hangs_with_closed_output_is_killed() {
        let begin = Instant::now();
        assert!(matches!(shell("exec sleep 30 >&- 2>&-"), Err(ProgramError::Timeout)));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    /// A process in state D needs a file system that hangs; the waiting is tested instead.
    #[test]
    fn the_wait_for_a_program_that_never_ends_is_bounded() {
        let begin = Instant::now();
        let waited = wait_for_end(|| Ok(None), Deadline::after(Duration::from_millis(50)));
        assert!(matches!(waited, Err(ProgramError::Timeout)));
        assert!(begin.elapsed() >= Duration::from_millis(50) && begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_program_without_words_has_its_signal_as_the_reason() {
        assert_eq!(shell("kill -KILL $$").unwrap().reason(), "it was killed by signal SIGKILL");
        assert_eq!(shell("exit 3").unwrap().reason(), "it gave no reason");
        assert_eq!(shell("echo ' bad ' >&2; kill -KILL $$").unwrap().reason(), "bad");
    }

    #[test]
    fn long_output_on_both_pipes_does_not_block() {
        let outcome = shell("head -c 200000 /dev/zero | tr '\\0' 'x'; head -c 200000 /dev/zero >&2").unwrap();
        assert_eq!((outcome.output.len(), outcome.errors.len()), (200_000, 200_000));
    }

    fn shell_with(script: &str, input: &[u8]) -> Result<ProgramOutcome, ProgramError> {
        let mut command = Command::new("/bin/sh");
        run_with_input(command.args(["-c", script]), input, Deadline::after(Duration::from_millis(800)), 300_000)
    }

    #[test]
    fn standard_input_arrives_whole_however_long_it_is() {
        for length in [0, 1, 4095, 4096, 4097, 200_000] {
            let text = "x".repeat(length);
            let outcome = shell_with("exec cat", text.as_bytes()).unwrap();
            assert!(outcome.success && outcome.output == text, "{length}");
        }
    }

    #[test]
    fn a_program_that_does_not_read_its_input_is_waited_for_no_longer() {
        let long = vec![b'x'; 200_000];
        assert_eq!(shell_with("echo done", &long).unwrap().output, "done\n");
        assert_eq!(shell_with("exec <&-; sleep 0.1; echo closed", &long).unwrap().output, "closed\n");
        assert!(matches!(shell_with("exec sleep 30", &long), Err(ProgramError::Timeout)));
        assert_eq!(shell("cat; echo end").unwrap().output, "end\n", "without input there is none");
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        for script in ["head -c 3000 /dev/zero", "head -c 3000 /dev/zero >&2", "exec cat /dev/zero"] {
            let mut command = Command::new("/bin/sh");
            let ended = run_limited(command.args(["-c", script]), Deadline::after(Duration::from_secs(20)), 2000);
            assert!(matches!(ended, Err(ProgramError::TooLong(2000))), "{ended:?}");
        }
    }

    #[test]
    fn a_program_that_is_missing_says_so() {
        let missing = run(&mut Command::new("/nonexistent/squeue"), Deadline::after(Duration::ZERO)).unwrap_err();
        assert!(missing.to_string().starts_with("cannot be run: No such file"), "{missing}");
    }
}
