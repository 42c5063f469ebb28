// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queries slurmctld about jobs, by `squeue`.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mytoken::Deadline;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::jobs::job_end::FORMAT;

/// Answers queries about jobs.
pub trait Controller: Send + Sync {
    /// The output of squeue in [`FORMAT`] for a job, or for all tasks of an array. `None` when slurmctld does not know the job.
    ///
    /// # Errors
    /// [`SqueueError`].
    fn job_states(&self, job: u32) -> Result<Option<String>, SqueueError>;
}

/// Why squeue gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqueueError {
    /// There is no such program.
    #[error("there is no squeue on this node")]
    Missing,
    /// It could not be started.
    #[error("squeue cannot be run: {0}")]
    Start(std::io::Error),
    /// Its output could not be read.
    #[error("the output of squeue cannot be read: {0}")]
    Output(std::io::Error),
    /// Its output is too long.
    #[error("the output of squeue is longer than {OUTPUT_LIMIT} bytes")]
    TooLong,
    /// It took too long.
    #[error("squeue did not answer in time")]
    Timeout,
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

const USUAL_PATHS: [&str; 4] =
    ["/usr/bin/squeue", "/usr/local/bin/squeue", "/opt/slurm/bin/squeue", "/usr/local/slurm/bin/squeue"];

/// Longest output in bytes. An array has one line per task.
const OUTPUT_LIMIT: usize = 4 * 1024 * 1024;

impl Squeue {
    /// The `squeue` at the configured path, or the first one at the usual paths.
    #[must_use]
    pub fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, deadline: Duration::from_secs(10) }
    }

    /// Searched at each query: the agent may start before the file system with Slurm is mounted.
    fn program(&self) -> Option<&Path> {
        self.configured.as_deref().or_else(|| USUAL_PATHS.iter().map(Path::new).find(|path| path.is_file()))
    }
}

impl Controller for Squeue {
    fn job_states(&self, job: u32) -> Result<Option<String>, SqueueError> {
        let program = self.program().ok_or(SqueueError::Missing)?;
        let mut command = Command::new(program);
        command.args(["--noheader", "--states=all", "--format", FORMAT, "--jobs"]).arg(job.to_string());
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        // The agent's unit may name a slurm.conf outside the default path.
        if let Some(file) = std::env::var_os("SLURM_CONF") {
            command.env("SLURM_CONF", file);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let mut child = command.spawn().map_err(SqueueError::Start)?;
        let result = read_output(&mut child, Deadline::after(self.deadline));
        if result.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(SqueueError::Output)?;
        let (output, errors) = result?;
        if status.success() {
            return Ok(Some(output));
        }
        // SLURM-31: the error about a job that slurmctld has forgotten.
        if errors.contains("Invalid job id") {
            return Ok(None);
        }
        Err(SqueueError::Failed(errors.lines().next().unwrap_or("no error output").to_owned()))
    }
}

/// Reads standard output and standard error to their end.
fn read_output(child: &mut Child, deadline: Deadline) -> Result<(String, String), SqueueError> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(SqueueError::Failed("it has no output".to_owned()));
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let left = deadline.remaining().ok_or(SqueueError::Timeout)?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let events = |open| if open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(out.as_fd(), events(out_open)), PollFd::new(err.as_fd(), events(err_open))];
        poll(&mut fds, timeout).map_err(|errno| SqueueError::Output(errno.into()))?;
        let [ready_out, ready_err] = fds.map(|fd| fd.any().unwrap_or(false));
        if out_open && ready_out {
            out_open = read_once(&mut out, &mut output)?;
        }
        if err_open && ready_err {
            err_open = read_once(&mut err, &mut errors)?;
        }
    }
    Ok((String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&errors).into_owned()))
}

/// Reads once and returns whether there may be more.
fn read_once(from: &mut impl Read, into: &mut Vec<u8>) -> Result<bool, SqueueError> {
    let mut chunk = [0_u8; 8192];
    let count = from.read(&mut chunk).map_err(SqueueError::Output)?;
    into.extend_from_slice(chunk.get(..count).unwrap_or_default());
    if into.len() > OUTPUT_LIMIT { Err(SqueueError::TooLong) } else { Ok(count > 0) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    fn fake(script: &str) -> (tempfile::TempDir, Squeue) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squeue");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, Squeue { configured: Some(path), deadline: Duration::from_millis(800) })
    }

    #[test]
    fn squeue_gets_the_job_and_the_format() {
        let (_dir, squeue) = fake("echo \"$@\"");
        let line = squeue.job_states(4711).unwrap().unwrap();
        assert_eq!(line.trim(), "--noheader --states=all --format %A|%T|%N|%B --jobs 4711");
    }

    #[test]
    fn an_unknown_job_is_not_an_error() {
        let (_dir, squeue) = fake("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
        assert!(matches!(squeue.job_states(1), Ok(None)));
        let (_dir, squeue) = fake("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
        assert!(squeue.job_states(1).unwrap_err().to_string().contains("Unable to contact"));
        let none = Squeue { configured: Some("/nonexistent/squeue".into()), deadline: Duration::ZERO };
        assert!(matches!(none.job_states(1), Err(SqueueError::Start(_))));
    }

    #[test]
    fn a_hanging_squeue_is_killed() {
        let (_dir, squeue) = fake("exec sleep 30");
        let begin = Instant::now();
        assert!(matches!(squeue.job_states(1), Err(SqueueError::Timeout)));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn long_output_on_both_pipes_does_not_block() {
        let (_dir, squeue) = fake("head -c 200000 /dev/zero | tr '\\0' 'x'; head -c 200000 /dev/zero >&2");
        assert_eq!(squeue.job_states(1).unwrap().unwrap().len(), 200_000);
    }
}
