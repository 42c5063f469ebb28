// SPDX-License-Identifier: MIT OR Apache-2.0
//! sbatch, salloc, and srun when it makes an allocation of its own: asks for the credential and places it.

use std::env;

use crate::carriers::{self, TOKEN};
use crate::dispatch::{Call, Verdict};
use crate::ffi::{error, unset_env};
use crate::state::{self, Submission};
use crate::submit;
use crate::wish::{Profile, Wish};

/// Announces the option.
pub fn init(call: &Call) {
    register_option(call);
    // SLURM-16: sbatch imports the option of the job it runs in as if the user had typed it. What the outer job asked for says nothing
    // about this one.
    if carriers::inside_job() {
        unset_env(carriers::OPTION);
    }
}

/// Announces the option, in whatever context.
pub fn register_option(call: &Call) {
    // Slurm prints its own reason.
    let _ = call.spank.register_option(
        c"mytoken",
        c"[PROFILE|off|required[:PROFILE]]",
        c"give the job a fresh access token ($BEARER_TOKEN_FILE) while it runs; required: refuse to run without",
    );
}

/// The submission hook. Runs once per component of a heterogeneous job (SLURM-17); one credential serves them all.
pub fn submit(call: &Call) -> Verdict {
    let Some((wish, before)) = state::change(|state| (state.wish.clone(), state.submission.clone())) else {
        return Verdict::Proceed;
    };
    let first = before == Submission::New;
    if first {
        carriers::remove_inherited(&call.settings.jobs());
    }
    let site = call.settings.default.clone();
    let (profile, required) = match wish {
        Some(Wish::Off) => return unwanted(),
        Some(Wish::On { profile, required }) => (profile.or(site), required),
        None if site.is_some() => (site, false),
        None => return unwanted(),
    };
    let outcome = match before {
        Submission::New if is_test_only() => return unwanted(),
        Submission::New => acquire(call, &profile.unwrap_or_else(Profile::standard), required),
        // SLURM-18: Slurm keeps one set of job-control variables per component.
        Submission::Placed(credential) => credential.place(call.spank).map(|()| credential).map_err(str::to_owned),
        Submission::Failed(reason) if required => Err(reason),
        Submission::Failed(_) => return Verdict::Proceed,
        // The batch script and all steps get the first component's environment, which has been taken already.
        Submission::Unwanted => Err("of a heterogeneous job the first component has to ask for it".to_owned()),
    };
    conclude(outcome, required)
}

/// Notes that this job goes without.
fn unwanted() -> Verdict {
    state::change(|state| {
        if state.submission == Submission::New {
            state.submission = Submission::Unwanted;
        }
    });
    Verdict::Proceed
}

/// Runs mytoken-submit and places what it printed.
fn acquire(call: &Call, profile: &Profile, required: bool) -> Result<carriers::Credential, String> {
    if let Some(problem) = call.settings.problems.first() {
        return Err(format!("the plugin is misconfigured: {problem}"));
    }
    let credential = submit::run(&call.settings, profile, required, call.context)?;
    credential.place(call.spank)?;
    Ok(credential)
}

/// Remembers the outcome and tells the user when there is none.
fn conclude(outcome: Result<carriers::Credential, String>, required: bool) -> Verdict {
    // It would shadow the file on the nodes, and would be dead there soon. Only for users who want what this plugin gives.
    unset_env(TOKEN);
    let (submission, verdict) = match outcome {
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

/// Whether this is evidently `sbatch --test-only`, which runs the hooks and submits nothing (SLURM-17). What stands behind the first word that
/// is no option may belong to the script.
fn is_test_only() -> bool {
    env::args_os()
        .skip(1)
        .take_while(|argument| argument != "--" && argument.as_encoded_bytes().starts_with(b"-"))
        .any(|argument| argument == "--test-only")
}
