// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that has loaded us: its environment and its end.

use std::ffi::{CStr, CString};

/// Sets a variable of this process; sbatch and srun send their environment to the job after the hooks.
#[must_use]
pub fn set_env(name: &CStr, value: &str) -> bool {
    // SAFETY: setenv(3) copies both NUL-terminated strings. Other threads of the host (srun and salloc since 26.05, SLURM-23) might read
    // the environment meanwhile: SPANK knows no other carrier, and Slurm itself calls setenv around the hooks.
    CString::new(value).is_ok_and(|value| unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) } == 0)
}

/// Removes a variable of this process.
pub fn unset_env(name: &CStr) {
    // SAFETY: as in `set_env`.
    unsafe { libc::unsetenv(name.as_ptr()) };
}

/// Ends this process with status 1, at once.
///
/// Slurm drops the answer of a hook when the plugin is `optional` in plugstack.conf (SLURM-06), and it has to be optional, so that a missing
/// file cannot stop every job. So a refusal that the user demanded is made this way, in two places: in sbatch, salloc and srun
/// before anything was submitted, and in the process that was about to become the user's task, where Slurm itself calls `_exit(1)`
/// for a failing `required` plugin. Not exit(3): handlers of the host would run, beside its threads.
pub fn end() -> ! {
    // SAFETY: _exit(2) takes any status and does not return.
    unsafe { libc::_exit(1) }
}
