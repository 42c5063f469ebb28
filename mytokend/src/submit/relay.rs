// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two processes of `mytoken-submit`, and of `mytokenctl attach`.
//!
//! The plugin starts the *front*, and kills it when it gives up. A person starts that of `mytokenctl attach`, and can interrupt it. The front
//! starts the *worker*, the same program in a session of its own, and passes the worker's answer on. A request that was sent can still make a
//! sub-token after everybody has given up, so the worker lives until each request has its answer and a sub-token that came too late is
//! revoked, or the agent of this host follows the submission. It holds no descriptor of the submission, so nobody waits for it.
//!
//! The worker's standard output and standard input are pipes to the front: one line from the worker, then one byte from the front when it
//! has passed the line on. If the front ends before that, the submission has no credential.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use mytoken_wire::submission::SubmitAnswer;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The argument of the worker.
pub const WORKER: &str = "--worker";

/// The argument of the worker with the front's parent.
const COMMAND_PID: &str = "--command-pid";

/// The front ends after this time at the latest. The longest time that the plugin waits is 120 s.
const LONGEST: Duration = Duration::from_secs(150);

/// How long the worker waits for the front's byte.
const RECEIPT: Duration = Duration::from_secs(10);

/// Longest answer in bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;

const PASSED_ON: &[u8] = b"\n";

/// The front of `mytoken-submit`: starts the worker and passes its answer on to standard output.
#[must_use]
pub fn front() -> ExitCode {
    // sbatch, srun or salloc.
    let parent = format!("{COMMAND_PID}={}", std::os::unix::process::parent_id());
    pass_on(std::env::args_os().skip(1).chain([WORKER.into(), parent.into()]), print)
}

/// The front: starts this program as the worker, with these arguments, and gives the worker's answer to `print`. What was printed without
/// an error is taken; if this process ends before that, the worker revokes the credential.
pub fn pass_on(
    arguments: impl IntoIterator<Item = OsString>,
    print: impl Fn(&SubmitAnswer) -> std::io::Result<()>,
) -> ExitCode {
    let fail = |sentence: &str| {
        let _ = print(&SubmitAnswer::failed(sentence.to_owned()));
        ExitCode::FAILURE
    };
    let (mut receipts, answers) = match start_worker(arguments) {
        Ok(pipes) => pipes,
        Err(error) => return fail(&format!("the process that makes the credential cannot be started: {error}")),
    };
    match wait_for_answer(&answers) {
        Wait::Answer => {}
        Wait::CallerGone | Wait::TooLong => return ExitCode::FAILURE,
    }
    let mut line = Vec::new();
    let read = BufReader::new(answers).take(ANSWER_LIMIT).read_until(b'\n', &mut line);
    let Some(answer) = read.ok().and_then(|_| SubmitAnswer::parse(&line)) else {
        return fail("internal error in the process that makes the credential; please report it");
    };
    if print(&answer).is_err() {
        return ExitCode::FAILURE;
    }
    let _ = receipts.write_all(PASSED_ON);
    if answer.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the answer of a process that has no worker.
#[must_use]
pub fn fail(sentence: &str) -> ExitCode {
    let _ = print(&SubmitAnswer::failed(sentence.to_owned()));
    ExitCode::FAILURE
}

fn start_worker(arguments: impl IntoIterator<Item = OsString>) -> std::io::Result<(ChildStdin, ChildStdout)> {
    // This file, even if an upgrade has replaced the program in the meantime.
    let mut worker = Command::new("/proc/self/exe")
        .arg0("mytoken-submit")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    match (worker.stdin.take(), worker.stdout.take()) {
        (Some(receipts), Some(answers)) => Ok((receipts, answers)),
        _ => Err(std::io::Error::other("it has no pipes")),
    }
}

enum Wait {
    Answer,
    CallerGone,
    TooLong,
}

/// Waits for the worker's answer, or until nobody reads standard output any more.
fn wait_for_answer(answers: &ChildStdout) -> Wait {
    let deadline = mytoken::Deadline::after(LONGEST);
    let out = std::io::stdout();
    loop {
        let Some(left) = deadline.remaining() else { return Wait::TooLong };
        let mut watched =
            [PollFd::new(answers.as_fd(), PollFlags::POLLIN), PollFd::new(out.as_fd(), PollFlags::empty())];
        match poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Err(_) => return Wait::TooLong,
            Ok(_) => {}
        }
        let [answer, caller] = watched.map(|descriptor| descriptor.any().unwrap_or(true));
        if caller {
            return Wait::CallerGone;
        }
        if answer {
            return Wait::Answer;
        }
    }
}

fn print(answer: &SubmitAnswer) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", answer.line())?;
    out.flush()
}

/// The worker leaves the submission's session, directory and descriptors. First of all in the worker.
pub fn leave_submission() {
    // It is no leader of a process group, so this succeeds.
    let _ = nix::unistd::setsid();
    // A file system must not be busy because of it.
    let _ = std::env::set_current_dir("/");
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    for descriptor in open.into_iter().filter(|number| *number > 2) {
        let _ = nix::unistd::close(descriptor);
    }
}

/// Whether the front still waits for the worker's answer.
#[must_use]
pub fn caller_waits() -> bool {
    let receipts = std::io::stdin();
    let mut watched = [PollFd::new(receipts.as_fd(), PollFlags::empty())];
    matches!(poll(&mut watched, PollTimeout::ZERO), Ok(0) | Err(Errno::EINTR))
}

/// Gives the front the answer of the worker. Returns whether it was passed on to the plugin.
#[must_use]
pub fn answer(answer: &SubmitAnswer) -> bool {
    if print(answer).is_err() {
        return false;
    }
    let mut receipts = std::io::stdin().lock();
    let wait = PollTimeout::try_from(RECEIPT).unwrap_or(PollTimeout::MAX);
    let ready = loop {
        match poll(&mut [PollFd::new(receipts.as_fd(), PollFlags::POLLIN)], wait) {
            Err(Errno::EINTR) => {}
            result => break result.is_ok_and(|count| count > 0),
        }
    };
    ready && receipts.read_exact(&mut [0; 1]).is_ok()
}
