// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that were ignored when this program was started stay ignored, in this program and in the programs that it
//! starts.
//!
//! `nohup` ignores SIGHUP so that a program continues, and shells ignore SIGINT for background jobs. A signal handler
//! would undo this, also for ssh: exec resets a handled signal to its default action.

use std::ffi::c_int;

/// The signals among `signals` that are not ignored.
pub fn not_ignored(signals: &[c_int]) -> Vec<c_int> {
    // Without /proc the mask is unknown. Then all signals are handled, because Ctrl-C must work.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = parse_ignored_mask(&status).unwrap_or_default();
    signals.iter().copied().filter(|signal| (mask >> (signal - 1)) & 1 == 0).collect()
}

/// The mask of ignored signals in `/proc/self/status`; bit 0 is signal 1.
fn parse_ignored_mask(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE};

    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_from_proc() {
        assert_eq!(parse_ignored_mask("Name:\tx\nSigIgn:\t0000000000001003\nSigCgt:\t0\n"), Some(0x1003));
        assert_eq!((parse_ignored_mask(""), parse_ignored_mask("SigIgn: x\n")), (None, None));
    }

    #[test]
    fn ignored_signals_are_left_out() {
        // Rust's runtime ignores SIGPIPE. The other signals are as the parent of the test process has left them.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = parse_ignored_mask(&status).unwrap();
        let expected: Vec<_> = [SIGHUP, SIGINT].into_iter().filter(|signal| mask & (1 << (signal - 1)) == 0).collect();
        assert_eq!(not_ignored(&[SIGHUP, SIGPIPE, SIGINT]), expected);
    }
}
