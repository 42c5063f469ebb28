// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmstepd: the start of a step on a node, and of its tasks.
//!
//! What a step gets depends on the carriers in its environment alone: the option's callback does not fire in all batch steps
//! (SLURM-14).

use std::path::PathBuf;
use std::time::Duration;

use mytoken_wire::Deadline;
use mytoken_wire::agent::{AgentError, Answer, JobStart, JobState, Request, Started, ask_without_status};

use crate::allocator;
use crate::carriers::{self, HANDLE_STEP, OPTION, SEALED, SEALED_LIMIT, TOKEN, TOKEN_FILE};
use crate::dispatch::{Call, Verdict};
use crate::ffi::{Item, JobEnv, error, info};
use crate::settings::Settings;
use crate::state::{self, Outlook, Step};
use crate::wish::{self, Wish};

/// `SLURM_EXTERN_CONT`: the step that adopts what does not come from Slurm. Its environment is empty (SLURM-20).
const EXTERN_STEP: u32 = 0xffff_fffc;

/// `SLURM_BATCH_SCRIPT`: the step that runs the script.
const BATCH_STEP: u32 = 0xffff_fffb;

/// What `S_JOB_ARRAY_TASK_ID` says of a job that is in no array (`NO_VAL`); `S_JOB_ARRAY_ID` may be the job's own id then (SLURM-21).
const NO_TASK: u32 = 0xffff_fffe;

/// An agent is back after this when it is restarted.
const RESTART: Duration = Duration::from_millis(1500);

/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a task waits for the file when its job demands it.
const PENDING_TIME: Duration = Duration::from_secs(5);

/// Announces the option; Slurm complains in slurmd's log about a job's option that is not (SLURM-15).
pub fn init(call: &Call) {
    allocator::register_option(call);
}

/// The step's start, as root, before the user's side is set up. Costs a job without credential two look-ups.
pub fn start(call: &Call) {
    if call.spank.item(Item::Step).is_none_or(|step| step == EXTERN_STEP) {
        return;
    }
    let sealed = call.spank.job_env(SEALED, SEALED_LIMIT);
    let handle = call.spank.job_env(HANDLE_STEP, 64);
    if sealed == JobEnv::Absent && handle == JobEnv::Absent {
        return;
    }
    for problem in &call.settings.problems {
        info(problem);
    }
    let Some(request) = describe(call, sealed, handle) else {
        info("Slurm does not tell the job's id or user; no access token");
        return;
    };
    let step = enquire(&call.settings, request, demanded(call));
    if !call.spank.set_job_env(TOKEN_FILE, &step.file.to_string_lossy()) {
        info("Slurm did not take BEARER_TOKEN_FILE");
    }
    call.spank.unset_job_env(TOKEN);
    state::change(|state| state.step = Some(step));
}

/// What the agent needs to know. Ids come from Slurm, never from the environment, which is the user's.
fn describe(call: &Call, sealed: JobEnv, handle: JobEnv) -> Option<JobStart> {
    let item = |item| call.spank.item(item);
    let well_formed = |value, check: fn(&str) -> bool| match value {
        JobEnv::Text(text) if check(&text) => Some(text),
        JobEnv::Absent => None,
        // The agent, told of neither, notes for the user that the credential did not arrive whole.
        JobEnv::Text(_) | JobEnv::Unusable => {
            info("the job's environment holds a credential that is none");
            None
        }
    };
    let in_array = item(Item::ArrayTask).is_some_and(|task| task != NO_TASK);
    Some(JobStart {
        job: item(Item::Job)?,
        step: item(Item::Step)?,
        uid: item(Item::Uid)?,
        gid: item(Item::Gid)?,
        array_job: item(Item::ArrayJob).filter(|id| in_array && *id != 0),
        sealed: well_formed(sealed, carriers::is_sealed),
        handle: well_formed(handle, carriers::is_handle),
    })
}

/// Asks the agent. Whatever comes of it, the path is known: the file may appear later.
fn enquire(settings: &Settings, request: JobStart, demanded: bool) -> Step {
    let job = request.job;
    let file = settings.jobs().join(job.to_string()).join(format!("bt_u{}", request.uid));
    let answer = persist(settings, &Request::JobStart(request), demanded);
    let step = match answer {
        Ok(Answer::Started(Started { path, state, reason, required })) => Step {
            file: if is_plain(&path) { PathBuf::from(path) } else { file },
            outlook: match state {
                JobState::Ready => Outlook::Ready,
                JobState::Pending => Outlook::Pending,
                JobState::Failed => Outlook::Failed(reason.unwrap_or_else(|| "the agent gives no reason".to_owned())),
            },
            required: required || demanded,
        },
        Ok(_) => {
            Step { file, outlook: Outlook::Failed("the agent's answer makes no sense".to_owned()), required: demanded }
        }
        Err(error) => Step { file, outlook: Outlook::Failed(error.to_string()), required: demanded },
    };
    match &step.outlook {
        Outlook::Ready => {}
        Outlook::Pending => info(&format!("job {job}: the access token is not there yet")),
        Outlook::Failed(reason) => info(&format!("job {job}: no access token: {reason}")),
    }
    step
}

/// Asks until somebody answers: an agent that is being restarted would otherwise cost a job its token for good, for there may be no
/// second step. Only a job that demands its credential waits for all of the agent's time.
fn persist(settings: &Settings, request: &Request, demanded: bool) -> Result<Answer, AgentError> {
    let deadline = Deadline::after(settings.agent_time);
    let patience = Deadline::after(if demanded { settings.agent_time } else { settings.agent_time.min(RESTART) });
    loop {
        match ask_without_status(&settings.socket, request, deadline) {
            Err(error @ AgentError::Unreachable { .. }) => {
                let Some(left) = patience.remaining() else { return Err(error) };
                std::thread::sleep(left.min(PAUSE));
            }
            answer => return answer,
        }
    }
}

/// Whether `path` may go into an environment.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.len() < 4096 && !path.chars().any(char::is_control)
}

/// Whether the user said `required`. The sealed text says so too, but only to an agent that answers. Not a matter of security:
/// users who forge it decide about their own job.
fn demanded(call: &Call) -> bool {
    let required = |wish: &Wish| matches!(wish, Wish::On { required: true, .. });
    let sent = state::change(|state| state.wish.as_ref().is_some_and(required)).unwrap_or(false);
    let inherited = match call.spank.job_env(OPTION, 128) {
        JobEnv::Text(text) => wish::parse(Some(&text)).is_ok_and(|wish| required(&wish)),
        JobEnv::Absent | JobEnv::Unusable => false,
    };
    sent || inherited
}

/// A task's start, in its own process, as the user. A job that demands its access token ends here without it: this is the one hook
/// whose failure hurts that job and nothing else (SLURM-07).
pub fn task(call: &Call) -> Verdict {
    let Some(Some(step)) = state::change(|state| state.step.clone()) else {
        return Verdict::Proceed;
    };
    let reason = match (&step.outlook, step.required) {
        (Outlook::Failed(reason), false) => {
            // SLURM-22: only now, what the hooks before say reaches slurmd's log alone.
            if speaks(call) && call.spank.item(Item::Step).is_some_and(|step| step == 0 || step == BATCH_STEP) {
                error(&format!("no access token: {reason}"));
            }
            return Verdict::Proceed;
        }
        (Outlook::Pending, false) | (Outlook::Ready, _) => return Verdict::Proceed,
        (Outlook::Failed(reason), true) => reason.clone(),
        (Outlook::Pending, true) if appears(&step.file) => return Verdict::Proceed,
        (Outlook::Pending, true) => format!("the agent got none within {} s", PENDING_TIME.as_secs()),
    };
    if speaks(call) {
        error(&format!("this job demands an access token and is not started without: {reason}"));
    }
    Verdict::Refuse
}

/// Once per node, not once per task.
fn speaks(call: &Call) -> bool {
    call.spank.item(Item::Task).is_none_or(|task| task == 0)
}

/// Waits for the file.
fn appears(file: &std::path::Path) -> bool {
    let deadline = Deadline::after(PENDING_TIME);
    loop {
        if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
            return true;
        }
        let Some(left) = deadline.remaining() else { return false };
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
