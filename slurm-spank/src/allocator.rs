// SPDX-License-Identifier: MIT OR Apache-2.0
//! sbatch, salloc, and srun outside a job: gets a credential for the submission and puts it into the job's environment.

use std::env;

use mytoken_wire::ProfileName;

use crate::credential_option::CredentialOption;
use crate::ffi::{error, unset_env};
use crate::hook::{HookCall, Verdict};
use crate::job_env::{self, TOKEN};
use crate::state::{self, Submission};
use crate::submit;

/// Registers the option.
pub fn init(call: &HookCall) {
    call.register_option();
    // SLURM-16: inside a job, sbatch imports the option of that job as if the user had typed it for the new job.
    if job_env::inside_job() {
        unset_env(job_env::OPTION);
    }
}

/// The submission hook. Runs once per component of a heterogeneous job (SLURM-17); one credential serves them all.
pub fn submit(call: &HookCall) -> Verdict {
    let Some((option, before)) = state::change(|state| (state.option.clone(), state.submission.clone())) else {
        return Verdict::Proceed;
    };
    let first = before == Submission::New;
    if first {
        job_env::remove_inherited(&call.settings.jobs());
    }
    let site = call.settings.default.clone();
    let (profile, required) = match option {
        Some(CredentialOption::Off) => return not_requested(),
        Some(CredentialOption::On { profile, required }) => (profile.or(site), required),
        None if site.is_some() => (site, false),
        None => return not_requested(),
    };
    let result = match before {
        Submission::New if is_test_only() => return not_requested(),
        Submission::New => acquire(call, &profile.unwrap_or_else(ProfileName::standard), required),
        // SLURM-18: Slurm keeps one set of job-control variables per component.
        Submission::Placed(credential) => credential.place(call.spank).map(|()| credential).map_err(str::to_owned),
        Submission::Failed(reason) if required => Err(reason),
        Submission::Failed(_) => return Verdict::Proceed,
        // The batch script and all steps get the environment of the first component, which Slurm has already read.
        Submission::NotRequested => Err("in a heterogeneous job, the first component must have --mytoken".to_owned()),
    };
    conclude(result, required)
}

/// Submits without a credential.
fn not_requested() -> Verdict {
    state::change(|state| {
        if state.submission == Submission::New {
            state.submission = Submission::NotRequested;
        }
    });
    Verdict::Proceed
}

/// Runs mytoken-submit and sets the variables.
fn acquire(call: &HookCall, profile: &ProfileName, required: bool) -> Result<job_env::Credential, String> {
    if let Some(problem) = call.settings.problems.first() {
        return Err(format!("the plugin is misconfigured: {problem}"));
    }
    let credential = submit::run(&call.settings, profile, required, call.context)?;
    credential.place(call.spank)?;
    Ok(credential)
}

/// Stores the result and reports a failure to the user.
fn conclude(result: Result<job_env::Credential, String>, required: bool) -> Verdict {
    // On the nodes the variable would take precedence over the file, with a token that expires soon.
    unset_env(TOKEN);
    let (submission, verdict) = match result {
        Ok(credential) => (Submission::Placed(credential), Verdict::Proceed),
        Err(reason) if required => {
            error(&format!("no credential: {reason}"));
            (Submission::Failed(reason), Verdict::Refuse)
        }
        Err(reason) => {
            error(&format!("no credential: {reason} (submitting without)"));
            (Submission::Failed(reason), Verdict::Proceed)
        }
    };
    state::change(|state| state.submission = submission);
    verdict
}

/// Whether this is `sbatch --test-only`, which runs the hooks and submits nothing (SLURM-17). Only arguments before the first one without
/// a dash count: later ones may belong to the script.
fn is_test_only() -> bool {
    env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--" && argument.as_encoded_bytes().starts_with(b"-"))
        .any(|argument| argument == "--test-only")
}
