// SPDX-License-Identifier: MIT OR Apache-2.0
//! srun. Outside a job it allocates like salloc; inside it only starts a step, whose credential is the job's.

use std::ffi::CStr;

use crate::credential_option::CredentialOption;
use crate::ffi::{error, set_env, unset_env};
use crate::hook::{HookCall, Verdict};
use crate::job_env::{self, HANDLE_STEP, OPTION, SEALED};
use crate::{allocator, state};

/// Registers the option. Inside a job, hides the job's own option from Slurm until the submission hook: the callback then sees only
/// what the user has typed for this step.
pub fn init(call: &HookCall) {
    call.register_option();
    if !job_env::inside_job() {
        return;
    }
    if let Some(value) = OPTION.to_str().ok().and_then(|name| std::env::var(name).ok()) {
        unset_env(OPTION);
        state::change(|state| state.hidden_option = Some(value));
    }
}

/// The submission hook.
pub fn submit(call: &HookCall) -> Verdict {
    if !job_env::inside_job() {
        return allocator::submit(call);
    }
    let (option, hidden) =
        state::change(|state| (state.option.clone(), state.hidden_option.take())).unwrap_or_default();
    if let Some(value) = hidden {
        // In this variable the steps find whether the job requires its credential.
        let _ = set_env(OPTION, &value);
    }
    let set = |name: &CStr| name.to_str().is_ok_and(|name| std::env::var_os(name).is_some());
    // A handle alone means that --export-file removed the credential. The agent will say so.
    let has_credential = set(SEALED) || set(HANDLE_STEP);
    match option {
        Some(CredentialOption::On { required, .. }) if !has_credential => {
            error(
                "no credential: this job was submitted without --mytoken; steps only use the credential of their job",
            );
            if required { Verdict::Refuse } else { Verdict::Proceed }
        }
        _ => Verdict::Proceed,
    }
}
