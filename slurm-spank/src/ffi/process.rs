// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that loaded the plugin: its environment and its end.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;

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

/// A variable of this process. std would take a lock of its own, which Slurm does not know.
pub fn env(name: &CStr) -> Option<OsString> {
    // SAFETY: getenv(3) takes a NUL-terminated name. As in `set_env`.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: not NULL, so a NUL-terminated string; it is copied at once.
    (!value.is_null()).then(|| OsString::from_vec(unsafe { CStr::from_ptr(value) }.to_bytes().to_vec()))
}

/// The environment of this process, `NAME=VALUE` each.
pub fn environment() -> Vec<CString> {
    let mut variables = Vec::new();
    // SAFETY: environ(7) is a pointer to an array of pointers, or NULL. As in `set_env`.
    let mut next = unsafe { libc::environ };
    // SAFETY: not NULL, so it points into the array, whose last element is NULL.
    while let Some(variable) = (!next.is_null()).then(|| unsafe { *next }).filter(|variable| !variable.is_null()) {
        // SAFETY: a NUL-terminated string; it is copied at once.
        variables.push(unsafe { CStr::from_ptr(variable) }.to_owned());
        // SAFETY: the last element has not been reached.
        next = unsafe { next.add(1) };
    }
    variables
}

/// Ends this process with status 1, at once, because the user required a credential and there is none.
///
/// The plugin must be `optional` in plugstack.conf, so that a missing file cannot stop every job. But Slurm ignores the result of an
/// optional plugin's hook (SLURM-06). So the process ends here: sbatch, salloc and srun before they submit anything, and the process of a
/// task before it runs the user's program, where Slurm itself calls `_exit(1)` for a failing `required` plugin. Not exit(3): it would
/// run the host's handlers while other threads of the host run.
pub fn exit_refused() -> ! {
    // SAFETY: _exit(2) takes any status and does not return.
    unsafe { libc::_exit(1) }
}
