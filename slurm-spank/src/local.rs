// SPDX-License-Identifier: MIT OR Apache-2.0
//! srun. Outside a job it allocates like salloc; inside it only starts a step, whose credential is the job's.

use std::ffi::CStr;

use crate::carriers::{self, HANDLE_STEP, OPTION, SEALED};
use crate::dispatch::{Call, Verdict};
use crate::ffi::{error, set_env, unset_env};
use crate::wish::Wish;
use crate::{allocator, state};

/// Announces the option. Inside a job, hides the job's own option from Slurm until the submission hook, so that only what the user
/// has typed for this step is met.
pub fn init(call: &Call) {
    allocator::register_option(call);
    if !carriers::inside_job() {
        return;
    }
    if let Some(value) = OPTION.to_str().ok().and_then(|name| std::env::var(name).ok()) {
        unset_env(OPTION);
        state::change(|state| state.hidden_option = Some(value));
    }
}

/// The submission hook.
pub fn submit(call: &Call) -> Verdict {
    if !carriers::inside_job() {
        return allocator::submit(call);
    }
    let (wish, hidden) = state::change(|state| (state.wish.clone(), state.hidden_option.take())).unwrap_or_default();
    if let Some(value) = hidden {
        // Steps read from it whether the job demands its credential.
        let _ = set_env(OPTION, &value);
    }
    let set = |name: &CStr| name.to_str().is_ok_and(|name| std::env::var_os(name).is_some());
    // The handle alone: the job lost its credential by --export-file, and the agent will say so.
    let has_credential = set(SEALED) || set(HANDLE_STEP);
    match wish {
        Some(Wish::On { required, .. }) if !has_credential => {
            error("no credential: this job was submitted without --mytoken, and a step has the credential of its job");
            if required { Verdict::Refuse } else { Verdict::Proceed }
        }
        _ => Verdict::Proceed,
    }
}
