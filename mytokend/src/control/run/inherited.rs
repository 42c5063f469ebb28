// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this process inherited: which signals are ignored, and whether a terminal sends its signals to this process.
//!
//! From the kernel's text, because no safe function asks for the action of a signal without changing it.

use std::ffi::c_int;
use std::fs;

/// The signals among `signals` that are not ignored. `nohup` ignores SIGHUP, and shells ignore SIGINT for background jobs: a handler would
/// undo this, also for the program that this process starts.
pub fn not_ignored(signals: &[c_int]) -> Vec<c_int> {
    let ignored = fs::read_to_string("/proc/self/status").ok().and_then(|status| ignored_mask(&status)).unwrap_or(0);
    signals.iter().copied().filter(|signal| (1..=64).contains(signal) && ignored & (1 << (signal - 1)) == 0).collect()
}

fn ignored_mask(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether this process is in the foreground of its terminal. Then the keys for SIGINT and SIGQUIT reach the program without this process.
pub fn in_foreground() -> bool {
    fs::read_to_string("/proc/self/stat").is_ok_and(|stat| is_in_foreground(&stat) == Some(true))
}

/// Compares the process group with the one in the foreground of the terminal. The command's name may contain blanks and parentheses.
fn is_in_foreground(stat: &str) -> Option<bool> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    // After the name: state, parent, group, session, terminal, group in the foreground.
    let (group, foreground) = (fields.nth(2)?, fields.nth(2)?);
    Some(group == foreground)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        // SIGHUP is 1, SIGPIPE is 13.
        assert_eq!(ignored_mask("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), Some(0x1001));
        assert_eq!(ignored_mask("Name:\tx\n"), None);
        assert!(!not_ignored(&[libc::SIGPIPE]).contains(&libc::SIGPIPE), "Rust's runtime ignores SIGPIPE");
        assert_eq!(not_ignored(&[0, 65, -1]), [0; 0]);
    }

    #[test]
    fn only_the_group_in_the_foreground_gets_the_keys() {
        assert_eq!(is_in_foreground("7 (a) b) S 1 40 40 34816 40 0 0"), Some(true));
        assert_eq!(is_in_foreground("7 (a) S 1 41 40 34816 40 0 0"), Some(false));
        assert_eq!(is_in_foreground("7 (a) S 1 41 41 0 -1 0 0"), Some(false), "no terminal");
        assert_eq!(is_in_foreground("7 (a"), None);
    }
}
