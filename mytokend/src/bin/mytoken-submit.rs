// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit`: spawned by the Slurm plugin at submission; one JSON line on standard output, nothing anywhere else.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use mytoken::Deadline;
use mytoken_wire::submission::SubmitAnswer;
use mytokend::privacy;
use mytokend::submit::{Made, Site, Surroundings, Wish, submit};
use nix::unistd::{User, getuid};

#[derive(Parser)]
#[command(version, about = "Makes and seals a job's credential; called by the Slurm plugin")]
struct Arguments {
    /// The profile of jobs.toml
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Without a credential the job is to fail
    #[arg(long)]
    required: bool,
    /// Which command submits
    #[arg(long, value_enum)]
    context: Context,
    /// Directory of the configuration
    #[arg(long, value_name = "DIR", default_value = mytoken::config::DIRECTORY)]
    config: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Context {
    Sbatch,
    Srun,
    Salloc,
}

impl Context {
    const fn name(self) -> &'static str {
        match self {
            Self::Sbatch => "sbatch",
            Self::Srun => "srun",
            Self::Salloc => "salloc",
        }
    }
}

/// The network gives up so much before the process does, so that what it learned is still used.
const MARGIN: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let begin = Instant::now();
    privacy::protect();
    // Standard error is the user's terminal; a panic's text could hold anything.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(_) => {
            return fail("mytoken-submit was called with arguments that it does not know; do the versions match?");
        }
    };
    let site = match Site::load(&arguments.config) {
        Ok(site) => site,
        Err(error) => return fail(&error.to_string()),
    };
    let total = site.jobs.submit.deadline.get();
    let (send, receive) = mpsc::channel();
    // Name resolution knows no deadline, so somebody else waits for it; the thread ends with the process.
    let worker = std::thread::Builder::new().spawn(move || {
        let deadline = Deadline::after(total.saturating_sub(begin.elapsed()).saturating_sub(MARGIN));
        let wish = Wish {
            profile: arguments.profile,
            required: arguments.required,
            context: arguments.context.name().to_owned(),
        };
        let result = submit(&site, &wish, &surroundings(), deadline).map(|made| (made, deadline));
        let _ = send.send(result);
    });
    if worker.is_err() {
        return fail("the system has no room for a thread");
    }
    match receive.recv_timeout(total.saturating_sub(begin.elapsed())) {
        Ok(Ok((made, deadline))) => hand_over(&made, deadline),
        Ok(Err(sentence)) => fail(&sentence),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            fail(&format!("the mytoken server did not answer within {} s; try again later", total.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            fail("mytoken-submit failed in a way that it does not know itself")
        }
    }
}

fn surroundings() -> Surroundings {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("HOME").or_else(|| Some(User::from_uid(getuid()).ok()??.dir));
    Surroundings { home, mytoken_file: absolute("MYTOKEN_FILE") }
}

fn hand_over(made: &Made, deadline: Deadline) -> ExitCode {
    let submission = &made.submission;
    let line = SubmitAnswer::made(submission.sealed.clone(), submission.handle.clone());
    if say(&line).is_ok() {
        return ExitCode::SUCCESS;
    }
    // Nobody listens any more (sbatch was interrupted): nobody will use the sub-token.
    let _ = made.take_back(deadline);
    ExitCode::FAILURE
}

fn fail(sentence: &str) -> ExitCode {
    let _ = say(&SubmitAnswer::failed(sentence.to_owned()));
    ExitCode::FAILURE
}

fn say(answer: &SubmitAnswer) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", answer.line())?;
    out.flush()
}
