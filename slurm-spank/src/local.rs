// SPDX-License-Identifier: MIT OR Apache-2.0
//! srun. Outside a job it allocates like salloc; inside it, or with `--jobid`, it only starts a step, whose credential is the job's.

use std::ffi::CStr;

use mytoken_wire::ProfileName;

use crate::credential_option::{self, CredentialOption};
use crate::ffi::{command_options, env, error, set_env, unset_env};
use crate::hook::{HookCall, Verdict};
use crate::job_env::{self, HANDLE_STEP, OPTION, SEALED, WANTED};
use crate::{allocator, state};

/// Registers the option. Inside a job, hides the job's own option from Slurm until the submission hook: the callback then sees only
/// what the user has typed for this step.
pub fn init(call: &HookCall) {
    call.register_option();
    if !job_env::inside_job() {
        return;
    }
    if let Some(value) = env(OPTION).and_then(|value| value.into_string().ok()) {
        unset_env(OPTION);
        state::change(|state| state.hidden_option = Some(value));
    }
}

/// The submission hook.
pub fn submit(call: &HookCall) -> Verdict {
    let joined = command_options::value(c"jobid");
    // The shell of salloc keeps the variables of its session, the job's steps do not get them.
    if job_env::inside_job() || joined.is_some() {
        job_env::remove_session(&call.settings.sessions());
    }
    if !job_env::inside_job() {
        return if joined.is_some() { join(call) } else { allocator::submit(call) };
    }
    let (option, hidden) =
        state::change(|state| (state.option.clone(), state.hidden_option.take())).unwrap_or_default();
    if joined.is_some_and(|job| job_env::is_other_job(&job)) {
        return join(call);
    }
    if let Some(value) = &hidden {
        // In this variable the steps find whether the job requires its credential.
        let _ = set_env(OPTION, value);
    }
    let set = |name: &CStr| env(name).is_some();
    // A handle alone means that --export-file removed the credential. The agent will say so.
    let has_credential = set(SEALED) || set(HANDLE_STEP);
    match option {
        Some(_) if !has_credential && job_env::own_directory(&call.settings.jobs()).is_some_and(|own| own.is_dir()) => {
            // SLURM-36: a session that pam_slurm_adopt has put into a job knows the job's id, not its environment.
            join(call)
        }
        Some(CredentialOption::On { required, .. }) if !has_credential => {
            error(format_args!(
                "no credential: this job was submitted without --mytoken, or this is not its own session; steps only use the credential of their job"
            ));
            if required { Verdict::Refuse } else { Verdict::Proceed }
        }
        Some(CredentialOption::Off) if has_credential => {
            error(format_args!("a step has the token of its job; \"--mytoken=off\" on a step does not change it"));
            Verdict::Proceed
        }
        Some(CredentialOption::On { profile: Some(profile), .. })
            if profile_of(hidden.as_deref()).as_ref() != Some(&profile) =>
        {
            warn_of(&profile);
            Verdict::Proceed
        }
        _ => Verdict::Proceed,
    }
}

/// After a panic in [`submit`], which may not have given the job's option back.
pub fn show_option() {
    if let Some(Some(value)) = state::change(|state| state.hidden_option.take()) {
        let _ = set_env(OPTION, &value);
    }
}

/// Starts a step of a job whose environment is not here. The node knows whether the job has a credential. A second one would serve nothing,
/// and no end of a job would revoke it.
fn join(call: &HookCall) -> Verdict {
    job_env::remove_inherited(&call.settings.jobs());
    if let Some(Some(CredentialOption::On { profile, .. })) = state::change(|state| state.option.clone()) {
        let _ = set_env(WANTED, "1");
        if let Some(profile) = profile {
            warn_of(&profile);
        }
    }
    Verdict::Proceed
}

/// Says that a step does not choose its profile.
fn warn_of(profile: &ProfileName) {
    error(format_args!(
        "a job has one profile, that of its submission; \"--mytoken={}\" on a step does not change it",
        profile.as_str()
    ));
}

/// The profile in the value of the job's own option.
fn profile_of(option: Option<&str>) -> Option<ProfileName> {
    match credential_option::parse(Some(option?)) {
        Ok(CredentialOption::On { profile, .. }) => profile,
        _ => None,
    }
}
