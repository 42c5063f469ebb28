// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker of `mytoken-submit` and of `mytokenctl attach` ([`relay`]): makes the credential, and revokes it if nobody takes it.

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mytoken::time_format::TimeFormat;
use mytoken::{Clock, Deadline, SystemClock};
use mytoken_wire::submission::SubmitAnswer;

use super::arguments::SubmitArguments;
use super::choice::Choice;
use super::patience::{LATE_ANSWER, Patience};
use super::{
    Follower, RequestThreads, SubmitConfig, SubmitError, SubmitRequest, SubmittedCredential, Unrevoked,
    UserEnvironment, relay, submit,
};
use crate::log::{Level, Log};

/// Requests end this long before the process, so that their result can still be printed.
const MARGIN: Duration = Duration::from_millis(300);

/// Makes the credential for a submission with these arguments, which began at `begin`. The process is for this alone.
#[must_use]
pub fn work(arguments: SubmitArguments, begin: Instant) -> ExitCode {
    relay::leave_submission();
    // The local time zone can only be determined while the process has a single thread.
    let times = TimeFormat::local(SystemClock.now());
    let config = match SubmitConfig::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string()),
    };
    let total = config.jobs.submit.deadline.get();
    let (send, receive) = mpsc::channel();
    let chosen = Arc::new(Mutex::new(Choice::of_site(&arguments, &config.jobs)));
    let worker_chosen = Arc::clone(&chosen);
    let threads = Arc::new(RequestThreads::default());
    let worker_threads = Arc::clone(&threads);
    // Name resolution has no deadline, and a home directory neither, so another thread does the work. This thread answers at the deadline.
    let worker = std::thread::Builder::new().spawn(move || {
        let deadline = Deadline::after(total.saturating_sub(begin.elapsed()).saturating_sub(MARGIN));
        let patience = Patience { deadline, waits: &relay::caller_waits, threads: Some(&worker_threads) };
        let environment = UserEnvironment::current();
        let choice = match Choice::of(&arguments, &config.jobs, &environment) {
            Ok(Some(choice)) => choice,
            without => {
                let _ = send.send(without.map(|_| None));
                return;
            }
        };
        *worker_chosen.lock().unwrap_or_else(PoisonError::into_inner) = choice.by_defaults;
        let request = SubmitRequest {
            profile: choice.profile,
            required: choice.required,
            clusters: arguments.clusters,
            command: arguments.context.name().to_owned(),
            job: arguments.context.job_time(),
            export_file: arguments.export_file,
            command_pid: arguments.command_pid,
            times,
        };
        let _ = send.send(submit(&config, &request, &environment, &SystemClock, &patience).map(Some));
    });
    if worker.is_err() {
        return fail("the system cannot start a thread");
    }
    let result = receive.recv_timeout(total.saturating_sub(begin.elapsed()));
    let answer =
        |answer: SubmitAnswer| answer.with_choice(chosen.lock().unwrap_or_else(PoisonError::into_inner).as_ref());
    let fail = |sentence: String| {
        let _ = relay::answer(&answer(SubmitAnswer::failed(sentence)));
        ExitCode::FAILURE
    };
    let status = match result {
        Ok(Ok(Some(credential))) => give(credential, answer),
        Ok(Ok(None)) => {
            let _ = relay::answer(&SubmitAnswer::off());
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => fail(error.to_string()),
        Err(RecvTimeoutError::Timeout) => {
            let status = fail(format!(
                "the mytoken server or your home directory did not answer within {} s; try again later",
                total.as_secs()
            ));
            revoke_late(receive.recv_timeout(LATE_ANSWER + MARGIN));
            status
        }
        Err(RecvTimeoutError::Disconnected) => fail("an internal error of mytoken-submit; please report it".to_owned()),
    };
    // The submission has its answer. Another request of it may still bring a sub-token.
    for Unrevoked { name, error } in threads.wait() {
        let line = format!("the sub-token {name} came too late and could not be revoked: {error}");
        Log::open("mytoken-submit").line(Level::Warning, &line);
    }
    status
}

/// Gives the credential to the submission.
fn give(credential: SubmittedCredential, answer: impl FnOnce(SubmitAnswer) -> SubmitAnswer) -> ExitCode {
    let submission = &credential.submission;
    let made = if credential.registered {
        SubmitAnswer::registered(submission.handle.clone())
    } else {
        SubmitAnswer::made(submission.sealed.clone(), submission.handle.clone())
    };
    let made = made.with_notes(credential.notes.clone()).with_tools(&credential.tools);
    if relay::answer(&answer(SubmitAnswer { several_files: credential.several_files, ..made })) {
        let handle = submission.handle.clone();
        if let Some(agent) = credential.taken() {
            follow_later(&handle, &agent);
        }
        return ExitCode::SUCCESS;
    }
    // Nobody reads any more (sbatch was interrupted), so no job will use it.
    revoke(credential);
    ExitCode::FAILURE
}

/// Asks the agent of this host, which was away when the credential was made, to follow it. The submission goes on meanwhile.
fn follow_later(handle: &str, agent: &Follower) {
    if let Err(error) = agent.begin_later() {
        let line = format!(
            "no agent of this host follows the submission {handle}: {error}; if no node revokes its sub-token, it ends when it expires"
        );
        Log::open("mytoken-submit").line(Level::Warning, &line);
    }
}

/// Revokes what was granted after the caller had given up.
fn revoke_late(result: Result<Result<Option<SubmittedCredential>, SubmitError>, RecvTimeoutError>) {
    if let Ok(Ok(Some(credential))) = result {
        revoke(credential);
    }
}

fn revoke(credential: SubmittedCredential) {
    let handle = credential.submission.handle.clone();
    if let Err(error) = credential.revoke() {
        let line = format!("the credential {handle} has no job and could not be revoked: {error}");
        Log::open("mytoken-submit").line(Level::Warning, &line);
    }
}

fn fail(sentence: &str) -> ExitCode {
    let _ = relay::answer(&SubmitAnswer::failed(sentence.to_owned()));
    ExitCode::FAILURE
}
