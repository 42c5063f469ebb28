// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that were ignored when this program was started stay ignored, here and in what it starts.
//!
//! `nohup` and shells with background jobs say by it that we shall live on. A handler would undo that, for ssh as well: over exec it
//! becomes the default.

use std::ffi::c_int;

/// Those of `signals` that end this program.
pub fn heeded(signals: &[c_int]) -> Vec<c_int> {
    // Where there is no /proc nothing is known, and Ctrl-C must work.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status).unwrap_or_default();
    signals.iter().copied().filter(|signal| (ignored >> (signal - 1)) & 1 == 0).collect()
}

/// The set of ignored signals, signal 1 in the lowest bit.
fn ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE};

    use super::*;

    #[test]
    fn the_kernel_s_words() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001003\nSigCgt:\t0\n"), Some(0x1003));
        assert_eq!((ignored(""), ignored("SigIgn: x\n")), (None, None));
        // Rust's start ignores SIGPIPE. The others are as whoever runs the tests has left them.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = ignored(&status).unwrap();
        let expected: Vec<_> = [SIGHUP, SIGINT].into_iter().filter(|signal| mask & (1 << (signal - 1)) == 0).collect();
        assert_eq!(heeded(&[SIGHUP, SIGPIPE, SIGINT]), expected);
    }
}
