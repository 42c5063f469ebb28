// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queries slurmctld about jobs, by `squeue`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mytoken::Deadline;

use crate::jobs::submission_end::{FORMAT, TIME_FORMAT};
use crate::program::{self, ProgramError};

/// Answers queries about jobs.
pub trait Controller: Send + Sync {
    /// The output of squeue in [`FORMAT`] about all jobs of a user that slurmctld knows.
    ///
    /// # Errors
    /// [`SqueueError`].
    fn jobs_of(&self, uid: u32) -> Result<String, SqueueError>;

    /// When the present run of a job began by slurmctld's clock, Unix seconds (SLURM-87). `None`: slurmctld does not know it.
    ///
    /// # Errors
    /// [`SqueueError`].
    fn start_of(&self, job: u32) -> Result<Option<u64>, SqueueError>;

    /// What slurmctld says of itself. `None`: it does not tell its time of day.
    fn itself(&self) -> Option<ControllerFacts>;
}

/// What slurmctld says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerFacts {
    /// Its time of day, Unix seconds.
    pub now: u64,
    /// `MessageTimeout`, in seconds.
    pub message_timeout: Option<u64>,
}

/// Why squeue gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqueueError {
    /// There is no such program.
    #[error("there is no squeue on this node")]
    Missing,
    /// It has no outcome.
    #[error("squeue {0}")]
    Program(#[from] ProgramError),
    /// It ended with an error.
    #[error("squeue failed: {0}")]
    Failed(
        /// First line of its error output.
        String,
    ),
}

/// `squeue` from a fixed path: a daemon of root must not take a program from `PATH`.
pub struct Squeue {
    configured: Option<PathBuf>,
    deadline: Duration,
}

/// Longest answer about the jobs of one user, in bytes: some hundred thousand tasks. Those of an array that wait share a line, each other
/// one has its own.
const OUTPUT_LIMIT: usize = 64 * 1024 * 1024;

/// Where sites install Slurm's commands.
const USUAL_DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/opt/slurm/bin", "/usr/local/slurm/bin"];

/// A command of Slurm: beside the configured `squeue`, or at the first of the usual paths that has it.
#[must_use]
pub fn command(name: &str, squeue: Option<&Path>) -> Option<PathBuf> {
    match squeue.and_then(Path::parent) {
        Some(directory) => Some(directory.join(name)),
        None => USUAL_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file()),
    }
}

impl Squeue {
    /// The `squeue` at the configured path, or the first one at the usual paths.
    #[must_use]
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, deadline: Duration::from_secs(10) }
    }

    /// Searched at each query: the agent may start before the file system with Slurm is mounted.
    fn program(&self) -> Option<PathBuf> {
        self.configured.clone().or_else(|| command("squeue", None))
    }
}

impl Controller for Squeue {
    fn jobs_of(&self, uid: u32) -> Result<String, SqueueError> {
        let mut command = Command::new(self.program().ok_or(SqueueError::Missing)?);
        command.env("SLURM_TIME_FORMAT", TIME_FORMAT);
        command.args(["--noheader", "--states=all", "--format", FORMAT, "--user"]).arg(uid.to_string());
        let outcome = program::run_limited(&mut command, Deadline::after(self.deadline), OUTPUT_LIMIT)?;
        // SLURM-31: without the user's account on this node, squeue prints an error and an empty list, which must not look like "no jobs".
        if outcome.success && !outcome.errors.contains("Invalid user") {
            return Ok(outcome.output);
        }
        Err(SqueueError::Failed(outcome.first_error().to_owned()))
    }

    fn start_of(&self, job: u32) -> Result<Option<u64>, SqueueError> {
        let mut command = Command::new(self.program().ok_or(SqueueError::Missing)?);
        command.env("SLURM_TIME_FORMAT", TIME_FORMAT);
        command.args(["--noheader", "--states=all", "--format", "%A|%S", "--jobs"]).arg(job.to_string());
        let outcome = program::run(&mut command, Deadline::after(self.deadline))?;
        if outcome.success {
            return Ok(start_in(&outcome.output, job));
        }
        Err(SqueueError::Failed(outcome.first_error().to_owned()))
    }

    fn itself(&self) -> Option<ControllerFacts> {
        let mut scontrol = Command::new(command("scontrol", self.configured.as_deref())?);
        scontrol.env("SLURM_TIME_FORMAT", TIME_FORMAT).args(["show", "config"]);
        let outcome = program::run(&mut scontrol, Deadline::after(self.deadline)).ok()?;
        Some(ControllerFacts {
            now: time_of_answer(&outcome.output)?,
            message_timeout: message_timeout(&outcome.output),
        })
    }
}

/// The start of `job`. The answer about the first job of an array or of a heterogeneous job has all of them.
fn start_in(output: &str, job: u32) -> Option<u64> {
    let of = |line: &str| {
        let (id, start) = line.trim().split_once('|')?;
        (id.parse() == Ok(job)).then(|| start.parse().ok()).flatten()
    };
    output.lines().find_map(of).filter(|start| *start > 0)
}

/// The time at which slurmctld made the output of `scontrol show config` (SLURM-73).
fn time_of_answer(output: &str) -> Option<u64> {
    output.lines().find_map(|line| line.strip_prefix("Configuration data as of "))?.trim().parse().ok()
}

/// `MessageTimeout` in the same output: `MessageTimeout = 10 sec`.
fn message_timeout(output: &str) -> Option<u64> {
    let values = output.lines().filter_map(|line| line.split_once('='));
    let mut found = values.filter(|(name, _)| name.trim() == "MessageTimeout");
    found.next()?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs;

    fn fake(script: &str) -> (tempfile::TempDir, Squeue) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squeue");
        programs::write(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
        (dir, Squeue { configured: Some(path), deadline: Duration::from_millis(800) })
    }

    #[test]
    fn squeue_gets_the_user_and_the_format() {
        let (_dir, squeue) = fake("echo \"$SLURM_TIME_FORMAT $@\"");
        let line = squeue.jobs_of(4711).unwrap();
        assert_eq!(line.trim(), "%s --noheader --states=all --format %A|%i|%T|%V|%e|%N|%B --user 4711");
    }

    #[test]
    fn an_error_is_not_an_empty_list() {
        for script in [
            "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
            "echo 'squeue: error: Invalid user: 2001' >&2",
        ] {
            let (_dir, squeue) = fake(script);
            let error = squeue.jobs_of(2001).unwrap_err().to_string();
            assert!(error.contains("Unable to contact") || error.contains("Invalid user"), "{error}");
        }
        let none = Squeue { configured: Some("/nonexistent/squeue".into()), deadline: Duration::ZERO };
        assert!(none.jobs_of(1).unwrap_err().to_string().starts_with("squeue cannot be run: "));
    }

    #[test]
    fn the_configuration_tells_slurmctlds_time_and_patience() {
        let (dir, squeue) = fake("exit 1");
        assert_eq!(squeue.itself(), None, "there is no scontrol");
        let told = |message_timeout| Some(ControllerFacts { now: 1_795_734_559, message_timeout });
        for (script, expected) in [
            ("echo 'Configuration data as of 2026-11-26T23:09:19'", None),
            (
                "test \"$*$SLURM_TIME_FORMAT\" = 'show config%s' && echo 'Configuration data as of 1795734559'; echo 'A = 1'",
                told(None),
            ),
            (
                "echo 'Configuration data as of 1795734559'; echo 'XMessageTimeout = 1'; echo 'MessageTimeout          = 60 sec'",
                told(Some(60)),
            ),
            ("echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1", None),
        ] {
            let path = dir.path().join("scontrol");
            programs::write(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
            assert_eq!(squeue.itself(), expected, "{script}");
        }
    }

    #[test]
    fn the_start_of_a_job_is_found_among_those_of_its_array() {
        let (_dir, squeue) =
            fake("test $SLURM_TIME_FORMAT = %s && echo '8|1795734559'; echo '9|N/A'; echo \"7|$((1795734500 + $#))\"");
        for (job, start) in [(7, Some(1_795_734_506)), (8, Some(1_795_734_559)), (9, None), (10, None)] {
            assert_eq!(squeue.start_of(job).unwrap(), start, "{job}");
        }
        let (_dir, squeue) = fake("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
        assert!(squeue.start_of(7).unwrap_err().to_string().contains("Invalid job id"));
    }

    #[test]
    fn an_answer_about_many_tasks_is_an_answer() {
        let nodes = "n[0001,0003,0005,0007,0009,0011,0013,0015,0017,0019,0021,0023,0025,0027,0029,0031,0033,0035,0037]";
        let line = format!("4711234|4700000_11234|COMPLETED|1795734559|1795734560|{nodes}|n0001");
        let (_dir, squeue) = fake(&format!("yes '{line}' | head -n 40000"));
        let squeue = Squeue { deadline: Duration::from_secs(30), ..squeue };
        let output = squeue.jobs_of(2001).unwrap();
        assert!(output.len() > 4 * 1024 * 1024 && output.lines().count() == 40_000);
    }

    #[test]
    fn a_hanging_squeue_is_killed() {
        let (_dir, squeue) = fake("exec sleep 30");
        assert_eq!(squeue.jobs_of(1).unwrap_err().to_string(), "squeue did not answer in time");
    }

    #[test]
    fn other_commands_are_beside_the_configured_one() {
        let found = command("scontrol", Some(Path::new("/opt/site/slurm/bin/squeue")));
        assert_eq!(found.as_deref(), Some(Path::new("/opt/site/slurm/bin/scontrol")));
        assert_eq!(command("no-such-command-of-slurm", None), None);
    }
}
