// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that were ignored when this program was started stay ignored, in this program and in the programs that it
//! starts.
//!
//! `nohup` ignores SIGHUP so that a program continues, and shells ignore SIGINT for background jobs. A signal handler
//! would undo this, also for ssh: exec resets a handled signal to its default action.
#![allow(unsafe_code, reason = "no safe function asks for an action without changing it")]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::libc;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Error;

/// Sets the returned flag on Ctrl-C, instead of ending the program: between the server's only answer with the token and
/// its storage, the token would be lost.
pub fn watch_signals() -> Result<Arc<AtomicBool>, Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in not_ignored(&[SIGINT, SIGTERM, SIGHUP]) {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(Error::system("cannot watch for signals"))?;
    }
    Ok(interrupted)
}

/// The signals among `signals` that are not ignored.
pub fn not_ignored(signals: &[c_int]) -> Vec<c_int> {
    signals.iter().copied().filter(|signal| !is_ignored(*signal)).collect()
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) without a new action changes nothing and writes the present one to the address, which is valid.
    let answer = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all fields are integers or an optional function, for which zeros are valid.
    let action = unsafe { action.assume_init() };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use signal_hook::consts::SIGPIPE;

    use super::*;

    #[test]
    fn ignored_signals_are_left_out() {
        // The kernel's list. Rust's runtime ignores SIGPIPE; the other signals are as the parent of the test process has left them.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        let expected: Vec<_> = [SIGHUP, SIGINT].into_iter().filter(|signal| mask & (1 << (signal - 1)) == 0).collect();
        assert_eq!(not_ignored(&[SIGHUP, SIGPIPE, SIGINT]), expected);
        assert!(
            is_ignored(SIGPIPE) && !is_ignored(0) && !is_ignored(10_000),
            "signals that do not exist are not ignored"
        );
    }
}
