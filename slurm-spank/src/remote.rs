// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmstepd: the start of a step and of its tasks on a node.
//!
//! The job's environment alone decides whether a step gets a token: the option's callback does not run in all batch steps (SLURM-14).

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken_wire::Deadline;
use mytoken_wire::agent::JobStart;
use mytoken_wire::clock::uptime_millis;
use mytoken_wire::{Handle, JobName, sealed, tools};

use crate::agent_answer::ask_agent;
use crate::credential_option::{self, CredentialOption};
use crate::ffi::{Item, JobEnv, Spank, error, info};
use crate::hook::{HookCall, Verdict};
use crate::job_env::{
    FILES, HANDLE_STEP, OPTION, REASON, REASON_LIMIT, RESTARTS, SEALED, TOKEN, TOKEN_DIR, TOKEN_FILE, TOOLS, WANTED,
    component,
};
use crate::state::{self, HookState, StepToken, TokenState};

/// `SLURM_EXTERN_CONT`: the step for processes that Slurm did not start (`pam_slurm_adopt`). Its environment is empty (SLURM-20).
const EXTERN_STEP: u32 = 0xffff_fffc;

/// `SLURM_BATCH_SCRIPT`: the step that runs the script.
const BATCH_STEP: u32 = 0xffff_fffb;

/// `SLURM_INTERACTIVE_STEP`: the shell of salloc on the job's first node.
const INTERACTIVE_STEP: u32 = 0xffff_fffa;

/// The steps with which jobs begin. In these, and in the first one on a further node, the user is told that there is no token: a loop of
/// steps must not say it each time.
const FIRST_STEPS: [u32; 3] = [0, BATCH_STEP, INTERACTIVE_STEP];

/// `S_JOB_ARRAY_TASK_ID` of a job outside an array (`NO_VAL`). Its `S_JOB_ARRAY_ID` may be the job's own id (SLURM-21).
const NO_TASK: u32 = 0xffff_fffe;

/// How long a task waits for the file when its job requires it.
const PENDING_TIME: Duration = Duration::from_secs(5);

/// Registers the option. Slurm logs an error for options that no plugin registered (SLURM-15).
pub fn init(call: &HookCall) {
    call.register_option();
}

/// Starts a step, as root, before slurmstepd changes to the user. A job without credential costs two look-ups and one `stat`.
pub fn start(call: &HookCall) {
    if call.spank.item(Item::Step).is_none_or(|step| step == EXTERN_STEP) {
        return;
    }
    let sealed = call.spank.job_env(SEALED, u16::try_from(sealed::LIMIT).unwrap_or(u16::MAX));
    let handle = call.spank.job_env(HANDLE_STEP, 64);
    let is_attached = sealed == JobEnv::Absent && handle == JobEnv::Absent;
    if is_attached && !has_directory(call) {
        if let JobEnv::Text(reason) = call.spank.job_env(REASON, REASON_LIMIT) {
            explain(call, &reason);
        } else if call.spank.job_env(WANTED, 8) != JobEnv::Absent {
            refuse_unknown(call);
        }
        return;
    }
    for problem in &call.settings.problems {
        info(format_args!("{problem}"));
    }
    let Some(request) = request(call, sealed, handle) else {
        info(format_args!("no access token: Slurm gives no job id or user"));
        return;
    };
    let is_first = FIRST_STEPS.contains(&request.step);
    let answered = ask_agent(&call.settings, &request, is_required(call.spank));
    let state = explain_requeue(call, answered.state);
    let announces = is_first || is_attached || answered.announces;
    let step = StepToken { announces, state, ..answered };
    if !call.spank.set_job_env(TOKEN_FILE, &step.file.to_string_lossy()) {
        info(format_args!("Slurm refused to set BEARER_TOKEN_FILE"));
    }
    call.spank.unset_job_env(TOKEN);
    name_file_to_tools(call, &step.file);
    if step.several || call.spank.job_env(FILES, 8) != JobEnv::Absent {
        name_directory(call, &step.file);
    }
    state::change(|state| state.step = Some(step));
}

/// After a panic in [`start`]. Whether the job has an access token is unknown, so its tasks are told that there is none. What the agent
/// does is not known here, but the job's environment says whether the job has a credential, and whether it requires one.
pub fn start_panicked(spank: &Spank) {
    let has = |name| spank.job_env(name, 8) != JobEnv::Absent;
    if !(has(SEALED) || has(HANDLE_STEP) || has(WANTED)) {
        return;
    }
    let state = TokenState::Failed("internal error of the Slurm plugin; please tell the administrator".to_owned());
    let step = StepToken { announces: true, ..StepToken::new(PathBuf::new(), state, is_required(spank)) };
    state::change(|state| state.step = state.step.take().or(Some(step)));
}

/// A requeued job brings the credential of its submission (SLURM-28), also if that one was replaced while the job ran. Only the agents of
/// the nodes where it ran know the new one.
fn explain_requeue(call: &HookCall, state: TokenState) -> TokenState {
    match state {
        TokenState::Failed(reason) if call.spank.job_env(RESTARTS, 16) != JobEnv::Absent => {
            TokenState::Failed(format!(
                "{reason}; this job was requeued: if mytokenctl replace gave it a new credential, only the nodes where it ran \
             then know that one, so submit the job again"
            ))
        }
        state => state,
    }
}

/// Sets the variables of the profile's tools. They name the file, which is at its path for the whole job, whether it has a token now or not.
/// The user can choose the tools; each of them only refers to the job's own file.
fn name_file_to_tools(call: &HookCall, file: &Path) {
    let JobEnv::Text(names) = call.spank.job_env(TOOLS, 256) else { return };
    for tool in tools::split(&names) {
        let set = |value: String| call.spank.set_job_env(tool.variable(), &value);
        if !file.to_str().and_then(|file| tool.value(file)).is_some_and(set) {
            info(format_args!("the variable of {} could not be set", tool.name()));
        }
    }
}

/// Sets the variable with the directory of the job's files. Without an answer of the agent the submission says that there are several.
fn name_directory(call: &HookCall, file: &Path) {
    let set = |directory: &Path| call.spank.set_job_env(TOKEN_DIR, &directory.to_string_lossy());
    if !file.parent().is_some_and(set) {
        info(format_args!("Slurm refused to set MYTOKEN_TOKEN_DIR"));
    }
}

/// Whether the agent knows a credential of this job. A step that comes from outside the job (`srun --jobid` in another session) does not
/// have the job's environment; the agent made the job's directory when an earlier step brought the credential.
fn has_directory(call: &HookCall) -> bool {
    let directory = call.spank.item(Item::Job).map(|job| call.settings.jobs().join(job.to_string()));
    directory.is_some_and(|directory| std::fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()))
}

/// For a step from outside the job whose user typed `--mytoken`: no step of the job has brought a credential to this node.
fn refuse_unknown(call: &HookCall) {
    let reason = "no step from inside the job has brought its credential to this node; start the step inside the job";
    info(format_args!("no access token: {reason}"));
    let state = TokenState::Failed(reason.to_owned());
    let step = StepToken { announces: true, ..StepToken::new(PathBuf::new(), state, is_required(call.spank)) };
    state::change(|state| state.step = Some(step));
}

/// For a job that was submitted without the credential that its user wanted: the submission has sent the reason.
fn explain(call: &HookCall, reason: &str) {
    call.spank.unset_job_env(REASON);
    let is_first = call.spank.item(Item::Step).is_some_and(|step| step == BATCH_STEP);
    let state = TokenState::Failed(mytoken_wire::printable(reason, usize::from(REASON_LIMIT)));
    let step = StepToken { announces: is_first, ..StepToken::new(PathBuf::new(), state, false) };
    state::change(|state| state.step = Some(step));
}

/// The request to the agent. The ids come from Slurm, never from the environment, which the user controls.
fn request(call: &HookCall, sealed: JobEnv, handle: JobEnv) -> Option<JobStart> {
    let item = |item| call.spank.item(item);
    let well_formed = |value, check: fn(&str) -> bool| match value {
        JobEnv::Text(text) if check(&text) => Some(text),
        JobEnv::Absent => None,
        // If both are missing, the agent answers that the job has no credential.
        JobEnv::Text(_) | JobEnv::Unusable => {
            info(format_args!("the job's environment holds a malformed credential"));
            None
        }
    };
    let task = item(Item::ArrayTask).filter(|task| *task != NO_TASK);
    let array_job = item(Item::ArrayJob).filter(|id| task.is_some() && *id != 0);
    let job = item(Item::Job)?;
    let of_array = array_job.zip(task).map(|(array, task)| JobName::Task { array, task });
    Some(JobStart {
        job,
        step: item(Item::Step)?,
        uid: item(Item::Uid)?,
        gid: item(Item::Gid)?,
        array_job,
        name: of_array.or_else(|| component(call.spank, job)),
        sealed: well_formed(sealed, |text| sealed::parse(text).is_ok()),
        handle: well_formed(handle, |text| Handle::parse(text).is_some()),
        at: Some(uptime_millis()),
    })
}

/// Whether the user's option says `required`. The sealed credential says it too, but only an agent can open it. A forged option harms
/// only the user's own job.
fn is_required(spank: &Spank) -> bool {
    let required = |option: &CredentialOption| matches!(option, CredentialOption::On { required: true, .. });
    let sent = state::change(|state| state.option.as_ref().is_some_and(required)).unwrap_or(false);
    let inherited = match spank.job_env(OPTION, 128) {
        JobEnv::Text(text) => credential_option::parse(Some(&text)).is_ok_and(|option| required(&option)),
        JobEnv::Absent | JobEnv::Unusable => false,
    };
    sent || inherited
}

/// Starts a task, in its own process, as the user. A task that requires an access token and has none ends here: a failure of any other
/// hook would harm other jobs (SLURM-07).
pub fn task(call: &HookCall) -> Verdict {
    // Nothing else of this process runs any more that could want the state.
    let of_step = |state: &mut HookState| state.step.as_ref().map_or(Verdict::Proceed, |step| start_task(call, step));
    state::change(of_step).unwrap_or(Verdict::Proceed)
}

fn start_task(call: &HookCall, step: &StepToken) -> Verdict {
    if is_first_task(call) && step.announces {
        for (name, reason) in &step.missing {
            error(format_args!("no access token in the file \"{name}\": {reason}"));
        }
    }
    let reason = match (&step.state, step.required) {
        (TokenState::Failed(reason) | TokenState::Pending(reason), false) => {
            let yet = if matches!(step.state, TokenState::Pending(_)) { " yet" } else { "" };
            // SLURM-22: messages of earlier hooks go to slurmd's log, not to the job's output.
            if is_first_task(call) && step.announces {
                error(format_args!("no access token{yet}: {reason}"));
            }
            return Verdict::Proceed;
        }
        (TokenState::Ready, _) => return Verdict::Proceed,
        (TokenState::Failed(reason), true) => reason.clone(),
        (TokenState::Pending(_), true) if wait_for_file(&step.file) => return Verdict::Proceed,
        (TokenState::Pending(reason), true) => {
            format!("the agent got no token within {} s: {reason}", PENDING_TIME.as_secs())
        }
    };
    if is_first_task(call) {
        error(format_args!("this job requires an access token and does not start without it: {reason}"));
    }
    Verdict::Refuse
}

/// Whether this is the step's first task on this node. Only this one prints messages.
fn is_first_task(call: &HookCall) -> bool {
    call.spank.item(Item::Task).is_none_or(|task| task == 0)
}

/// Waits until `file` has content, at most [`PENDING_TIME`].
fn wait_for_file(file: &std::path::Path) -> bool {
    let deadline = Deadline::after(PENDING_TIME);
    loop {
        if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
            return true;
        }
        let Some(left) = deadline.remaining() else { return false };
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
