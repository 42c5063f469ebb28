// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process with secrets in its memory leaves no image of it.

use nix::sys::resource::{Resource, setrlimit};

/// No core file, and nobody but root looks into the memory (`PR_SET_DUMPABLE` also closes `/proc/PID/mem` to the same user).
pub fn protect() {
    // Neither can fail in a way that mattered more than the work itself.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}
