// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls the file that handles a hook in the current program. In all other programs a hook does nothing and succeeds.

use std::env;

use crate::credential_option::{self, CredentialOption};
use crate::ffi::{Spank, SpankContext, error};
use crate::hook::{HookCall, Verdict};
use crate::settings::SiteDefault;
use crate::submit::{self, Failure};
use crate::{allocator, epilog, local, remote, slurmd, state};

/// `slurm_spank_init`.
pub fn init(call: &HookCall) -> Verdict {
    match call.context {
        SpankContext::Allocator => allocator::init(call),
        SpankContext::Local => local::init(call),
        SpankContext::Remote => remote::init(call),
        SpankContext::Slurmd => slurmd::init(call),
        SpankContext::JobScript | SpankContext::Other => {}
    }
    state::change(|state| {
        state.default = call.settings.default.clone();
        state.panic_in_option = call.settings.panics_in("option");
    });
    Verdict::Proceed
}

/// The option's callback.
pub fn option(argument: Option<&str>, remote: bool) -> Verdict {
    if state::change(|state| state.panic_in_option).unwrap_or(false) {
        #[cfg(feature = "panic-injection")]
        crate::settings::injected_panic();
    }
    match credential_option::parse(argument) {
        Ok(option) if !remote && submit::is_scrontab(env::args_os().next()) => in_scrontab(&option),
        Ok(option) => {
            state::change(|state| state.option = Some(option));
            Verdict::Proceed
        }
        // The submission refuses an invalid argument. If one arrives on a node, the client was manipulated.
        Err(_) if remote => Verdict::Proceed,
        Err(sentence) => {
            error(format_args!("{sentence}"));
            Verdict::Refuse
        }
    }
}

/// The option in a line `#SCRON`. scrontab calls no further hook (SLURM-92), so its user is told here.
fn in_scrontab(option: &CredentialOption) -> Verdict {
    if *option == CredentialOption::Off {
        return Verdict::Proceed;
    }
    error(format_args!("no credential: jobs of scrontab get none, because Slurm submits them without your session"));
    if option.is_required() { Verdict::Refuse } else { Verdict::Proceed }
}

/// After a panic in the callback. A submission that requires a credential is refused, because it will have none.
pub fn option_panicked(argument: Option<&str>, remote: bool) -> Verdict {
    if remote {
        return Verdict::Proceed;
    }
    error(format_args!("internal error while reading the option; no credential"));
    match credential_option::parse(argument) {
        Ok(CredentialOption::On { required: true, .. }) => Verdict::Refuse,
        _ => Verdict::Proceed,
    }
}

/// `slurm_spank_init_post_opt`.
pub fn init_post_opt(call: &HookCall) -> Verdict {
    match call.context {
        SpankContext::Allocator => allocator::submit(call),
        SpankContext::Local => local::submit(call),
        SpankContext::Remote => {
            remote::start(call);
            Verdict::Proceed
        }
        SpankContext::Slurmd | SpankContext::JobScript | SpankContext::Other => Verdict::Proceed,
    }
}

/// After a panic in the hook. A submission is refused as in [`option_panicked`]. On a node the step goes on, and its tasks do not if they
/// require a token.
pub fn init_post_opt_panicked(context: SpankContext, spank: &Spank) -> Verdict {
    if context == SpankContext::Remote {
        remote::start_panicked(spank);
        return Verdict::Proceed;
    }
    if context == SpankContext::Local {
        local::show_option();
    }
    let known = state::change(|state| (state.option.clone(), state.default.clone()));
    let (option, site) = known.unwrap_or((None, SiteDefault::Off));
    match allocator::wish(context, option, &site) {
        Ok(Some(wish)) if context.is_client() => {
            let Failure { reason, required } = Failure::untold("internal error".to_owned(), &wish);
            if required || !wish.by_default {
                error(format_args!("no credential: {reason}"));
            }
            if required { Verdict::Refuse } else { Verdict::Proceed }
        }
        _ => Verdict::Proceed,
    }
}

/// `slurm_spank_task_init`.
pub fn task_init(call: &HookCall) -> Verdict {
    match call.context {
        SpankContext::Remote => remote::task(call),
        _ => Verdict::Proceed,
    }
}

/// After a panic in the hook. It is unknown whether there is an access token, so a task that requires one does not start.
pub fn task_init_panicked(_context: SpankContext, _spank: &Spank) -> Verdict {
    if state::change(|state| state.step.as_ref().is_some_and(|step| step.required)).unwrap_or(false) {
        error(format_args!("internal error; this job requires an access token and does not start without it"));
        return Verdict::Refuse;
    }
    Verdict::Proceed
}

/// `slurm_spank_job_epilog`.
pub fn job_epilog(call: &HookCall) -> Verdict {
    epilog::job_ended(call);
    Verdict::Proceed
}
