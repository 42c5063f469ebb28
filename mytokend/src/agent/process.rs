// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which processes are there, read from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// When the process started, in clock ticks since boot; `None` when there is none of that number. Number and start together name a
/// process: numbers are used again.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    start_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/PID/stat`, counted behind the command's name, which may hold blanks and parentheses. A zombie is gone.
fn start_of(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next(), None | Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The jobs that have a slurmstepd on this node. Only processes of the agent's own user count, which is root: anybody can choose the
/// title of a process of his own.
#[must_use]
pub fn jobs_with_steps() -> HashSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashSet::new() };
    let own = nix::unistd::geteuid().as_raw();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())))
        .filter(|entry| entry.metadata().is_ok_and(|process| process.uid() == own))
        .filter_map(|entry| job_of(&fs::read(entry.path().join("cmdline")).ok()?))
        .collect()
}

/// slurmstepd shows `slurmstepd: [4711.batch]` as its command line (SLURM-24).
fn job_of(cmdline: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(cmdline).ok()?;
    let (_, step) = text.strip_prefix("slurmstepd: [")?.split_once(']').map(|(step, rest)| (rest, step))?;
    step.split(['.', '_', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = started(std::process::id());
        assert!(me.is_some());
        assert_eq!(me, started(std::process::id()));
        assert_eq!(started(u32::MAX), None);
        assert_eq!(start_of("7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"), Some(4242));
        assert_eq!(start_of("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"), None);
    }

    #[test]
    fn a_step_is_known_by_its_title() {
        assert_eq!(job_of(b"slurmstepd: [4711.batch]\0\0\0"), Some(4711));
        assert_eq!(job_of(b"slurmstepd: [4711.0]"), Some(4711));
        assert_eq!(job_of(b"slurmstepd: [4711.extern] \0"), Some(4711));
        assert_eq!(job_of(b"/usr/sbin/slurmstepd\0infinity\0"), None);
        assert_eq!(job_of(b"vim\0slurmstepd: [1.0]\0"), None);
    }

    #[test]
    fn the_title_of_another_users_process_says_nothing() {
        use std::os::unix::process::CommandExt;
        let titled = |job: u32, uid: u32| {
            let mut sleep = std::process::Command::new("sleep");
            sleep.arg0(format!("slurmstepd: [{job}.batch]")).arg("30").uid(uid).spawn()
        };
        let own = nix::unistd::geteuid().as_raw();
        let mut children = vec![titled(4_000_000_001, own).unwrap()];
        if own == 0 {
            children.push(titled(4_000_000_002, 65_534).unwrap());
        }
        let seen = jobs_with_steps();
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(seen.contains(&4_000_000_001) && !seen.contains(&4_000_000_002));
    }
}
