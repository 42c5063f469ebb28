// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps a process's memory private: no core file, no debugger of the same user.

use nix::sys::resource::{Resource, setrlimit};

/// Switches core files off, and closes `/proc/PID/mem` to other processes of the same user (`PR_SET_DUMPABLE`).
pub fn protect() {
    hide();
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// The same without the limit for core files, which programs that this process starts or becomes would inherit. A process that is not
/// dumpable writes no core file either.
pub fn hide() {
    // A failure is no reason to stop: the program works without it.
    let _ = nix::sys::prctl::set_dumpable(false);
}
