// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes of this node: their start times, and the jobs with a step here.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::login_processes::{Login, LoginMark, is_gone, mark_of, running};

/// The processes of this node, as far as the agent looks at them.
pub trait ProcessTable: Send + Sync {
    /// Start time of a process in clock ticks since boot; `None` when there is no such process. Process ids are reused; the pair of process
    /// id and start time is unique.
    fn start_time(&self, pid: u32) -> Option<u64>;

    /// Whether the process with this start time has ended. One that cannot be looked at now counts as running.
    fn has_ended(&self, pid: u32, start: u64) -> bool {
        self.start_time(pid) != Some(start)
    }

    /// The jobs that have a slurmstepd on this node.
    fn jobs_with_steps(&self) -> HashSet<u32>;

    /// By what the processes of the login of this process are known.
    fn login_of(&self, pid: u32) -> Option<LoginMark>;

    /// For each of the logins, whether a process of it runs. One that cannot be looked at now counts as running.
    fn have_processes(&self, logins: &[Login]) -> Vec<bool>;
}

/// The processes in `/proc`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostProcesses;

impl ProcessTable for HostProcesses {
    fn start_time(&self, pid: u32) -> Option<u64> {
        parse_start_time(&read_stat(pid).ok()?)
    }

    fn has_ended(&self, pid: u32, start: u64) -> bool {
        shows_end(read_stat(pid), start)
    }

    /// Only processes of the agent's own user (root) count, because users can choose the titles of their own processes.
    fn jobs_with_steps(&self) -> HashSet<u32> {
        let Ok(entries) = fs::read_dir("/proc") else { return HashSet::new() };
        let own = nix::unistd::geteuid().as_raw();
        let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
            .filter(|entry| entry.metadata().is_ok_and(|process| process.uid() == own))
            .filter_map(|entry| job_of(&fs::read(entry.path().join("cmdline")).ok()?))
            .collect()
    }

    fn login_of(&self, pid: u32) -> Option<LoginMark> {
        mark_of(&Path::new("/proc").join(pid.to_string())).ok().flatten()
    }

    fn have_processes(&self, logins: &[Login]) -> Vec<bool> {
        let is_running = |pid| match read_stat(pid) {
            Ok(stat) => parse_start_time(&stat).is_some(),
            Err(error) => !is_gone(&error),
        };
        running(logins, Path::new("/proc"), is_running)
    }
}

fn read_stat(pid: u32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/stat"))
}

/// Whether the text of `/proc/PID/stat` is not that of the process with this start time.
fn shows_end(stat: io::Result<String>, start: u64) -> bool {
    match stat {
        Ok(stat) => parse_start_time(&stat) != Some(start),
        Err(error) => is_gone(&error),
    }
}

/// Field 22 of `/proc/PID/stat`. The second field, the command's name, may contain blanks and parentheses. A zombie counts as ended.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next(), None | Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Process ids of the programs with this name, of the agent's own user (root).
#[must_use]
pub fn named(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let own = nix::unistd::geteuid().as_raw();
    let pids = entries
        .filter(|entry| entry.metadata().is_ok_and(|process| process.uid() == own))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = pids
        .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name))
        .collect();
    pids.sort_unstable();
    pids
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
    fn a_process_that_cannot_be_looked_at_has_not_ended() {
        for (code, ended) in [
            (libc::ENOENT, true),
            (libc::ESRCH, true),
            (libc::EMFILE, false),
            (libc::ENOMEM, false),
            (libc::EIO, false),
        ] {
            assert_eq!(shows_end(Err(io::Error::from_raw_os_error(code)), 4242), ended, "{code}");
        }
        let zombie = "7 (a) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert!(shows_end(Ok(zombie.to_owned()), 4242) && !shows_end(Ok(zombie.replace("Z", "S")), 4242));
    }

    #[test]
    fn a_process_has_one_start_time() {
        let me = HostProcesses.start_time(std::process::id());
        assert!(me.is_some());
        assert_eq!(me, HostProcesses.start_time(std::process::id()));
        assert_eq!(HostProcesses.start_time(u32::MAX), None);
        assert!(
            !HostProcesses.has_ended(std::process::id(), me.unwrap()) && HostProcesses.has_ended(std::process::id(), 1)
        );
        assert_eq!(parse_start_time("7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"), Some(4242));
        assert_eq!(parse_start_time("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"), None);
    }

    #[test]
    fn the_title_of_slurmstepd_names_its_job() {
        assert_eq!(job_of(b"slurmstepd: [4711.batch]\0\0\0"), Some(4711));
        assert_eq!(job_of(b"slurmstepd: [4711.0]"), Some(4711));
        assert_eq!(job_of(b"slurmstepd: [4711.extern] \0"), Some(4711));
        assert_eq!(job_of(b"/usr/sbin/slurmstepd\0infinity\0"), None);
        assert_eq!(job_of(b"vim\0slurmstepd: [1.0]\0"), None);
    }

    #[test]
    fn processes_are_found_by_the_name_of_their_program() {
        let mut sleep = std::process::Command::new("/bin/sleep").arg("30").spawn().unwrap();
        // Until it runs its program, a child has the name of this process.
        let begin = std::time::Instant::now();
        let mut found = named("sleep");
        while !found.contains(&sleep.id()) && begin.elapsed() < std::time::Duration::from_secs(10) {
            found = named("sleep");
        }
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        assert!(found.contains(&sleep.id()), "{found:?}");
        assert!(named("no-such-program").is_empty());
    }

    #[test]
    fn titles_of_other_users_processes_are_ignored() {
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
        // A child runs its program a moment before it shows its title.
        let has_title = |child: &std::process::Child| {
            let title = fs::read(format!("/proc/{}/cmdline", child.id()));
            title.is_ok_and(|title| title.starts_with(b"slurmstepd: ["))
        };
        let begin = std::time::Instant::now();
        while !children.iter().all(has_title) && begin.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let seen = HostProcesses.jobs_with_steps();
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(seen.contains(&4_000_000_001) && !seen.contains(&4_000_000_002));
    }
}
