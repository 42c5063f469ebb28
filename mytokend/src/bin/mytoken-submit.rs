// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit`: the Slurm plugin starts it at submission. It prints one JSON line to standard output and nothing else.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Parser;
use mytoken::{Deadline, SystemClock};
use mytoken_wire::submission::SubmitAnswer;
use mytokend::privacy;
use mytokend::submit::arguments::SubmitArguments;
use mytokend::submit::{CreatedCredential, SubmitConfig, SubmitRequest, UserEnvironment, submit};
use nix::unistd::{User, getuid};

/// Requests end this long before the process, so that their result can still be printed.
const MARGIN: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let begin = Instant::now();
    privacy::protect();
    // Standard error is the user's terminal, and the message of a panic could contain a secret.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = match SubmitArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(_) => {
            return fail(
                "mytoken-submit got unknown arguments; are the plugin and mytoken-submit of the same version?",
            );
        }
    };
    let config = match SubmitConfig::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string()),
    };
    let total = config.jobs.submit.deadline.get();
    let (send, receive) = mpsc::channel();
    // Name resolution has no deadline, so another thread does the work. This thread stops waiting at the deadline.
    let worker = std::thread::Builder::new().spawn(move || {
        let deadline = Deadline::after(total.saturating_sub(begin.elapsed()).saturating_sub(MARGIN));
        let request = SubmitRequest {
            profile: arguments.profile,
            required: arguments.required,
            command: arguments.context.name().to_owned(),
        };
        let result =
            submit(&config, &request, &user_environment(), &SystemClock, deadline).map(|created| (created, deadline));
        let _ = send.send(result);
    });
    if worker.is_err() {
        return fail("the system cannot start a thread");
    }
    match receive.recv_timeout(total.saturating_sub(begin.elapsed())) {
        Ok(Ok((created, deadline))) => print_credential(&created, deadline),
        Ok(Err(error)) => fail(&error.to_string()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            fail(&format!("the mytoken server did not answer within {} s; try again later", total.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => fail("an internal error of mytoken-submit; please report it"),
    }
}

fn user_environment() -> UserEnvironment {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("HOME").or_else(|| Some(User::from_uid(getuid()).ok()??.dir));
    UserEnvironment { home, mytoken_file: absolute("MYTOKEN_FILE") }
}

fn print_credential(created: &CreatedCredential, deadline: Deadline) -> ExitCode {
    let submission = &created.submission;
    let line = SubmitAnswer::made(submission.sealed.clone(), submission.handle.clone());
    if print(&line).is_ok() {
        return ExitCode::SUCCESS;
    }
    // The plugin does not read any more (sbatch was interrupted), so no job will use the sub-token.
    let _ = created.revoke(deadline);
    ExitCode::FAILURE
}

fn fail(sentence: &str) -> ExitCode {
    let _ = print(&SubmitAnswer::failed(sentence.to_owned()));
    ExitCode::FAILURE
}

fn print(answer: &SubmitAnswer) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", answer.line())?;
    out.flush()
}
