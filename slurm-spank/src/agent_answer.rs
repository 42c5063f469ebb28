// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the agent for a step's access token, and decides what the step gets without an answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken_wire::agent::{AgentError, JobStart, JobState, Started, ask};
use mytoken_wire::clock::uptime;
use mytoken_wire::paths::bearer_token_file;
use mytoken_wire::{Clock as _, Deadline, MOST_FILES, SystemClock, token_file};

use crate::ffi::info;
use crate::missed::{MissedFile, Recorded};
use crate::state::{StepToken, TokenState};
use mytoken_wire::PluginSettings;

/// Longest restart of an agent.
const RESTART: Duration = Duration::from_millis(1500);

/// Pause between two requests while no agent listens.
const PAUSE: Duration = Duration::from_millis(100);

/// Time for the answer when waiting longer is useless: the file has a token, or an earlier step of the job has waited already.
const PROBE: Duration = Duration::from_millis(100);

/// Time for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience {
    /// For the answer.
    answer: Duration,
    /// For an agent that does not listen.
    listener: Duration,
}

/// Asks the agent. A step gets a path even without an answer, because the file may appear later.
pub fn ask_agent(settings: &PluginSettings, request: &JobStart, required: bool) -> StepToken {
    let job = request.job;
    let file = settings.jobs().join(job.to_string()).join(bearer_token_file(request.uid));
    let (missed, now) = (MissedFile::of(settings, job), uptime());
    // Before the agent hears of this start. The end and what is recorded of a start are then those of an earlier run.
    let is_new_run = missed.remove_end();
    let recorded = missed.read();
    let is_valid = token_file::is_valid(&file, SystemClock.now());
    let recorded_nothing = recorded == Recorded::Nothing;
    let has_waited = !is_new_run && matches!(&recorded, Recorded::Start(record) if record.is_recent(now));
    let step = match ask_with_retries(&settings.socket, request, patience(settings, required, is_valid || has_waited)) {
        Ok(started) => {
            // A step from another session does not bring the credential that is recorded.
            if !recorded_nothing && request.sealed.is_some() {
                missed.remove();
            }
            answered(started, file, required)
        }
        Err(error) => {
            if let Some(start) = to_record(request, recorded, is_new_run, has_waited) {
                if let Err(error) = missed.write(start, now) {
                    info(format_args!("job {job}: its start could not be recorded for the agent: {error}"));
                }
            }
            let announces = is_new_run || recorded_nothing;
            StepToken { announces, ..unanswered(&error, file, required, is_valid) }
        }
    };
    match &step.state {
        TokenState::Ready => {}
        TokenState::Pending(reason) => info(format_args!("job {job}: no access token yet: {reason}")),
        TokenState::Failed(reason) => info(format_args!("job {job}: no access token: {reason}")),
    }
    step
}

/// The start to record for the agent. A step from another session does not bring the job's credential, and must not replace what does.
fn to_record(request: &JobStart, recorded: Recorded, is_new_run: bool, has_waited: bool) -> Option<JobStart> {
    let brings = request.sealed.is_some();
    match recorded {
        Recorded::Start(earlier) if earlier.start.sealed.is_some() => {
            let start = if is_new_run && brings { request.clone() } else { earlier.start };
            (!has_waited).then_some(JobStart { at: request.at, ..start })
        }
        Recorded::Unreadable if !brings => None,
        Recorded::Nothing | Recorded::Start(_) | Recorded::Unreadable => Some(request.clone()),
    }
}

/// Without `required` a job waits only as long as a restart of the agent takes: a job with a single step would otherwise have no token if
/// the agent restarted at that moment.
fn patience(settings: &PluginSettings, required: bool, is_waiting_useless: bool) -> Patience {
    let answer = settings.agent_time;
    match (is_waiting_useless, required) {
        (true, _) => Patience { answer: answer.min(PROBE), listener: Duration::ZERO },
        (false, true) => Patience { answer, listener: answer },
        (false, false) => Patience { answer, listener: answer.min(RESTART) },
    }
}

/// Repeats the request while no agent listens.
fn ask_with_retries(socket: &Path, request: &JobStart, patience: Patience) -> Result<Started, AgentError> {
    let (deadline, retries) = (Deadline::after(patience.answer), Deadline::after(patience.listener));
    loop {
        match ask(socket, request, deadline) {
            Err(error @ AgentError::Unreachable { .. }) => {
                let Some(left) = retries.remaining() else { return Err(error) };
                std::thread::sleep(left.min(PAUSE));
            }
            answer => return answer,
        }
    }
}

/// The step of an answer. `file` is used if the agent names none that can be the value of a variable.
fn answered(started: Started, file: PathBuf, required: bool) -> StepToken {
    let Started { path, state, reason, required: required_by_credential, files, is_first } = started;
    let reason = reason.unwrap_or_else(|| "the agent gives no reason".to_owned());
    let state = match state {
        JobState::Ready => TokenState::Ready,
        JobState::Pending => TokenState::Pending(reason),
        JobState::Failed => TokenState::Failed(reason),
    };
    let file = if is_plain(&path) { PathBuf::from(path) } else { file };
    let several = !files.is_empty();
    let missing = files.into_iter().filter_map(|file| Some((file.name, file.reason?))).take(MOST_FILES).collect();
    StepToken {
        missing,
        several,
        announces: is_first,
        ..StepToken::new(file, state, required_by_credential || required)
    }
}

/// The step without an answer. A token in the file is still good: the agent removes it at its expiry, and the agent's absence alone must not
/// fail a job that requires it.
fn unanswered(error: &AgentError, file: PathBuf, required: bool, is_valid: bool) -> StepToken {
    let state = if is_valid {
        info(format_args!("{error} The access token in {} is still valid.", file.to_string_lossy()));
        TokenState::Ready
    } else {
        TokenState::Failed(error.to_string())
    };
    StepToken::new(file, state, required)
}

/// Whether `path` can be the value of a variable.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.len() < 4096 && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use mytoken_wire::agent::MissedStart;

    use super::*;

    fn request(sealed: Option<&str>, at: u64) -> JobStart {
        JobStart { job: 7, sealed: sealed.map(str::to_owned), at: Some(at), ..JobStart::default() }
    }

    #[test]
    fn what_is_recorded_has_the_credential_of_the_job_and_the_time_of_its_run() {
        let recorded = |sealed| Recorded::Start(MissedStart::new(request(sealed, 1), 0));
        let (own, outside) = (request(Some("own"), 2), request(None, 2));
        let at_2 = |sealed| Some(request(Some(sealed), 2));
        for (recorded, is_new_run, has_waited, of_own, of_outside) in [
            (Recorded::Nothing, false, false, at_2("own"), Some(outside.clone())),
            (Recorded::Unreadable, false, false, at_2("own"), None),
            (Recorded::Unreadable, true, false, at_2("own"), None),
            (recorded(None), false, true, at_2("own"), Some(outside.clone())),
            (recorded(Some("first")), false, true, None, None),
            (recorded(Some("first")), false, false, at_2("first"), at_2("first")),
            (recorded(Some("first")), true, false, at_2("own"), at_2("first")),
        ] {
            let record = |request| to_record(request, recorded.clone(), is_new_run, has_waited);
            assert_eq!((record(&own), record(&outside)), (of_own, of_outside), "{recorded:?} {is_new_run}");
        }
    }

    #[test]
    fn a_step_waits_for_the_agent_as_long_as_waiting_helps() {
        let settings = PluginSettings::default();
        let times = |required, is_waiting_useless| {
            let Patience { answer, listener } = patience(&settings, required, is_waiting_useless);
            [answer, listener].map(|time| time.as_millis())
        };
        assert_eq!(times(false, false), [3000, 1500]);
        assert_eq!(times(true, false), [3000, 3000]);
        assert_eq!([times(false, true), times(true, true)], [[100, 0]; 2]);
    }
}
