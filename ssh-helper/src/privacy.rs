// SPDX-License-Identifier: MIT OR Apache-2.0
//! This process handles tokens, so its memory must not get into files.

/// No core file is written, and no process of the same user may attach as debugger.
#[cfg(target_os = "linux")]
pub fn protect() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// No core file is written, also not of ssh, which inherits the limit.
#[cfg(not(target_os = "linux"))]
pub fn protect() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let _ = getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
}
