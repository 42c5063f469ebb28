// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entry points for Slurm: four hooks and the callback of the option, each through `guard`.
//!
//! Nothing else is exported: a hook costs even when it is empty (SLURM-03).

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::exit_refused;
use super::slurm::{Spank, SpankContext, info};
use crate::dispatch;
use crate::hook::{HookCall, Verdict};
use crate::settings::HookSettings;

/// Called in every process of Slurm that loads the plugin.
///
/// # Safety
/// Called by Slurm as `slurm/spank.h` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_init(spank: *mut c_void, count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: this hook's own arguments, passed on unchanged.
    unsafe { hook("init", spank, count, arguments, dispatch::init, |_, _| Verdict::Proceed) }
}

/// Called at submission and at the start of a step, when the options are known.
///
/// # Safety
/// Called by Slurm as `slurm/spank.h` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_init_post_opt(
    spank: *mut c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: this hook's own arguments, passed on unchanged.
    unsafe { hook("init_post_opt", spank, count, arguments, dispatch::init_post_opt, dispatch::init_post_opt_panicked) }
}

/// Called for each task, in its own process and as the user, before the task's program starts.
///
/// # Safety
/// Called by Slurm as `slurm/spank.h` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_task_init(
    spank: *mut c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: this hook's own arguments, passed on unchanged.
    unsafe { hook("task_init", spank, count, arguments, dispatch::task_init, dispatch::task_init_panicked) }
}

/// Called at the end of a job on a node.
///
/// # Safety
/// Called by Slurm as `slurm/spank.h` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slurm_spank_job_epilog(
    spank: *mut c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: this hook's own arguments, passed on unchanged.
    unsafe { hook("job_epilog", spank, count, arguments, dispatch::job_epilog, |_, _| Verdict::Proceed) }
}

impl Spank<'_> {
    /// Registers `--mytoken`. Slurm requires this in every context (SLURM-15).
    #[must_use]
    pub fn register_option(&self, name: &CStr, arginfo: &CStr, usage: &CStr) -> bool {
        self.register(name, arginfo, usage, option_given)
    }
}

/// The option's callback. Called at submission and on a node.
///
/// # Safety
/// Called by Slurm as `slurm/spank.h` says for `spank_opt_cb_f`.
unsafe extern "C" fn option_given(_value: c_int, argument: *const c_char, remote: c_int) -> c_int {
    // SLURM-16: an absent argument is NULL in sbatch and srun; on its way through the environment it becomes "" or "(null)".
    let text = (!argument.is_null()).then(|| {
        // SAFETY: not NULL, so a NUL-terminated string that lives during the call; it is copied.
        unsafe { CStr::from_ptr(argument) }.to_string_lossy().into_owned()
    });
    let text = text.as_deref();
    let remote = remote != 0;
    match guard("option", || dispatch::option(text, remote), || dispatch::option_panicked(text, remote)) {
        Verdict::Proceed => 0,
        // SLURM-09: Slurm prints a line of its own and ends the command, even if the plugin is optional.
        Verdict::Refuse => -1,
    }
}

/// Runs a hook. It always returns 0; a refusal ends the process instead, as [`exit_refused`] explains.
///
/// # Safety
/// The arguments are those of a hook that Slurm has called and that is still running.
unsafe fn hook(
    name: &'static str,
    spank: *mut c_void,
    count: c_int,
    arguments: *const *const c_char,
    run: fn(&HookCall) -> Verdict,
    panicked: fn(SpankContext, &Spank) -> Verdict,
) -> c_int {
    // SAFETY: guaranteed by the caller.
    let spank = unsafe { Spank::of(spank) };
    // SAFETY: guaranteed by the caller.
    let arguments = unsafe { copy_arguments(count, arguments) };
    let run = || {
        let call = HookCall { spank: &spank, context: SpankContext::now(), settings: HookSettings::parse(&arguments) };
        call.settings.inject_panic(name);
        run(&call)
    };
    let verdict = guard(name, run, || panicked(SpankContext::now(), &spank));
    match verdict {
        Verdict::Proceed => 0,
        Verdict::Refuse => exit_refused(),
    }
}

/// The plugin's arguments in plugstack.conf.
///
/// # Safety
/// `arguments` points to `count` pointers to NUL-terminated strings, or `count` is 0.
unsafe fn copy_arguments(count: c_int, arguments: *const *const c_char) -> Vec<String> {
    let count = usize::try_from(count).unwrap_or(0);
    if arguments.is_null() || count == 0 {
        return Vec::new();
    }
    // SAFETY: guaranteed by the caller; Slurm keeps the array as long as the plugin stack.
    let pointers = unsafe { std::slice::from_raw_parts(arguments, count) };
    let copy = |pointer: &*const c_char| {
        // SAFETY: guaranteed by the caller; the string is copied.
        unsafe { CStr::from_ptr(*pointer) }.to_string_lossy().into_owned()
    };
    pointers.iter().filter(|pointer| !pointer.is_null()).map(copy).collect()
}

/// Stops panics before they reach C, where they abort. An abort in slurmstepd can leave a job that never ends on a busy node (SLURM-08).
fn guard(name: &str, run: impl FnOnce() -> Verdict, panicked: impl FnOnce() -> Verdict) -> Verdict {
    static IS_SILENT: AtomicBool = AtomicBool::new(false);
    // The default hook would print the panic's text into the user's job output. This std is the library's own copy, so the hook of
    // another plugin stays.
    if !IS_SILENT.swap(true, Ordering::Relaxed) {
        set_hook(Box::new(|_| {}));
    }
    if let Ok(verdict) = catch_unwind(AssertUnwindSafe(run)) {
        return verdict;
    }
    catch_unwind(AssertUnwindSafe(|| {
        if !SpankContext::now().is_client() {
            info(format_args!("internal error in {name}; the job continues without this plugin"));
        }
        panicked()
    }))
    .unwrap_or(Verdict::Proceed)
}
