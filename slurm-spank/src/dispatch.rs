// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which part answers a hook in which program. What is not listed succeeds and does nothing.

use crate::ffi::{Context, Spank, error};
use crate::settings::Settings;
use crate::wish::{self, Wish};
use crate::{allocator, epilog, local, remote, slurmd, state};

/// What a hook is told.
pub struct Call<'call> {
    /// Slurm's handle.
    pub spank: &'call Spank<'call>,
    /// The program.
    pub context: Context,
    /// The plugin's arguments.
    pub settings: Settings,
}

/// The answer of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Slurm goes on.
    Proceed,
    /// The user said that without a credential he does not want it.
    Refuse,
}

/// `slurm_spank_init`.
pub fn init(call: &Call) -> Verdict {
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
    match wish::parse(argument) {
        Ok(wish) => {
            state::change(|state| state.wish = Some(wish));
            Verdict::Proceed
        }
        // On a node this is what a hostile client sent; the submission hook of an honest one has refused it.
        Err(_) if remote => Verdict::Proceed,
        Err(sentence) => {
            error(&sentence);
            Verdict::Refuse
        }
    }
}

/// A submission that demands a credential is not made when we do not know what went wrong.
pub fn option_panicked(argument: Option<&str>, remote: bool) -> Verdict {
    if remote {
        return Verdict::Proceed;
    }
    error("internal error while reading the option; no credential");
    match wish::parse(argument) {
        Ok(Wish::On { required: true, .. }) => Verdict::Refuse,
        _ => Verdict::Proceed,
    }
}

/// `slurm_spank_init_post_opt`.
pub fn init_post_opt(call: &Call) -> Verdict {
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

/// See `option_panicked`; on a node `task_init` speaks for a job that demands its credential.
pub fn init_post_opt_panicked(context: Context) -> Verdict {
    match state::change(|state| state.wish.clone()).flatten() {
        Some(Wish::On { required, .. }) if context.is_client() => {
            error("no credential: internal error");
            if required { Verdict::Refuse } else { Verdict::Proceed }
        }
        _ => Verdict::Proceed,
    }
}

/// `slurm_spank_task_init`.
pub fn task_init(call: &Call) -> Verdict {
    match call.context {
        Context::Remote => remote::task(call),
        _ => Verdict::Proceed,
    }
}

/// A task of a job that demands its credential does not start when we do not know whether it is there.
pub fn task_init_panicked(_context: Context) -> Verdict {
    if state::change(|state| state.step.as_ref().is_some_and(|step| step.required)).unwrap_or(false) {
        error("internal error; this job demands an access token and is not started without");
        return Verdict::Refuse;
    }
    Verdict::Proceed
}

/// `slurm_spank_job_epilog`.
pub fn job_epilog(call: &Call) -> Verdict {
    epilog::job_ended(call);
    Verdict::Proceed
}
