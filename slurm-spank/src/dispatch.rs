// SPDX-License-Identifier: MIT OR Apache-2.0
//! The router: which file answers a hook in which program. Everything else succeeds and does nothing.

use crate::credential_option::{self, CredentialOption};
use crate::ffi::{Context, error};
use crate::hook::{HookCall, Verdict};
use crate::{allocator, epilog, local, remote, slurmd, state};

/// `slurm_spank_init`.
pub fn init(call: &HookCall) -> Verdict {
    match call.context {
        Context::Allocator => allocator::init(call),
        Context::Local => local::init(call),
        Context::Remote => remote::init(call),
        Context::Slurmd => slurmd::init(call),
        Context::JobScript | Context::Other => {}
    }
    state::change(|state| state.panic_in_option = call.settings.panics_in("option"));
    Verdict::Proceed
}

/// The option's callback.
pub fn option(argument: Option<&str>, remote: bool) -> Verdict {
    if state::change(|state| state.panic_in_option).unwrap_or(false) {
        #[cfg(feature = "panic-injection")]
        crate::settings::injected_panic();
    }
    match credential_option::parse(argument) {
        Ok(option) => {
            state::change(|state| state.option = Some(option));
            Verdict::Proceed
        }
        // On a node the argument comes from a hostile client: at submission an honest one has refused it.
        Err(_) if remote => Verdict::Proceed,
        Err(sentence) => {
            error(&sentence);
            Verdict::Refuse
        }
    }
}

/// After a panic it is unknown what the option said: a submission that requires a credential is refused.
pub fn option_panicked(argument: Option<&str>, remote: bool) -> Verdict {
    if remote {
        return Verdict::Proceed;
    }
    error("internal error while reading the option; no credential");
    match credential_option::parse(argument) {
        Ok(CredentialOption::On { required: true, .. }) => Verdict::Refuse,
        _ => Verdict::Proceed,
    }
}

/// `slurm_spank_init_post_opt`.
pub fn init_post_opt(call: &HookCall) -> Verdict {
    match call.context {
        Context::Allocator => allocator::submit(call),
        Context::Local => local::submit(call),
        Context::Remote => {
            remote::start(call);
            Verdict::Proceed
        }
        Context::Slurmd | Context::JobScript | Context::Other => Verdict::Proceed,
    }
}

/// As `option_panicked`. On a node `task_init` refuses for a job that requires its credential.
pub fn init_post_opt_panicked(context: Context) -> Verdict {
    match state::change(|state| state.option.clone()).flatten() {
        Some(CredentialOption::On { required, .. }) if context.is_client() => {
            error("no credential: internal error");
            if required { Verdict::Refuse } else { Verdict::Proceed }
        }
        _ => Verdict::Proceed,
    }
}

/// `slurm_spank_task_init`.
pub fn task_init(call: &HookCall) -> Verdict {
    match call.context {
        Context::Remote => remote::task(call),
        _ => Verdict::Proceed,
    }
}

/// After a panic it is unknown whether the credential is there: a task that requires it does not start.
pub fn task_init_panicked(_context: Context) -> Verdict {
    if state::change(|state| state.step.as_ref().is_some_and(|step| step.required)).unwrap_or(false) {
        error("internal error; this job requires an access token and does not start without it");
        return Verdict::Refuse;
    }
    Verdict::Proceed
}

/// `slurm_spank_job_epilog`.
pub fn job_epilog(call: &HookCall) -> Verdict {
    epilog::job_ended(call);
    Verdict::Proceed
}
