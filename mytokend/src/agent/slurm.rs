// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one question to slurmctld: what became of this job?

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mytoken::Deadline;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::jobs::ending::FORMAT;

/// Tells about jobs.
pub trait Controller: Send + Sync {
    /// squeue's lines in [`FORMAT`] for the job (or all tasks of the array); `None` when slurmctld does not know it (any more).
    ///
    /// # Errors
    /// Why there is no answer.
    fn lines(&self, job: u32) -> Result<Option<String>, String>;
}

/// `squeue`, found in fixed places: a daemon of root takes no program from `PATH`.
pub struct Squeue {
    configured: Option<PathBuf>,
    deadline: Duration,
}

const PLACES: [&str; 4] =
    ["/usr/bin/squeue", "/usr/local/bin/squeue", "/opt/slurm/bin/squeue", "/usr/local/slurm/bin/squeue"];

/// An array has a line per task.
const OUTPUT_LIMIT: usize = 4 * 1024 * 1024;

impl Squeue {
    /// The configured one, else the first in the usual places.
    #[must_use]
    pub fn find(configured: Option<PathBuf>) -> Self {
        Self { configured, deadline: Duration::from_secs(10) }
    }

    /// Looked for at each use: the agent may start before the file system that Slurm is on.
    fn program(&self) -> Option<&Path> {
        self.configured.as_deref().or_else(|| PLACES.iter().map(Path::new).find(|path| path.is_file()))
    }
}

impl Controller for Squeue {
    fn lines(&self, job: u32) -> Result<Option<String>, String> {
        let program = self.program().ok_or("there is no squeue on this node")?;
        let mut command = Command::new(program);
        command.args(["--noheader", "--states=all", "--format", FORMAT, "--jobs"]).arg(job.to_string());
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        // A site may keep slurm.conf elsewhere and say so in the agent's unit.
        if let Some(file) = std::env::var_os("SLURM_CONF") {
            command.env("SLURM_CONF", file);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let mut child = command.spawn().map_err(|error| format!("squeue cannot be run: {error}"))?;
        let result = listen(&mut child, Deadline::after(self.deadline));
        if result.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        let (output, complaint) = result?;
        if status.success() {
            return Ok(Some(output));
        }
        if complaint.contains("Invalid job id") {
            return Ok(None);
        }
        Err(format!("squeue failed: {}", complaint.lines().next().unwrap_or("without a word")))
    }
}

/// Both outputs until their end, the time's end or the limit.
fn listen(child: &mut Child, deadline: Deadline) -> Result<(String, String), String> {
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("squeue has no output".to_owned());
    };
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let left = deadline.remaining().ok_or("squeue did not answer in time")?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let events = |open| if open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(out.as_fd(), events(out_open)), PollFd::new(err.as_fd(), events(err_open))];
        poll(&mut fds, timeout).map_err(|errno| errno.to_string())?;
        let [ready_out, ready_err] = fds.map(|fd| fd.any().unwrap_or(false));
        if out_open && ready_out {
            out_open = take(&mut out, &mut output)?;
        }
        if err_open && ready_err {
            err_open = take(&mut err, &mut complaint)?;
        }
    }
    Ok((String::from_utf8_lossy(&output).into_owned(), String::from_utf8_lossy(&complaint).into_owned()))
}

/// One read; whether there may be more.
fn take(from: &mut impl Read, into: &mut Vec<u8>) -> Result<bool, String> {
    let mut chunk = [0_u8; 8192];
    let count = from.read(&mut chunk).map_err(|error| error.to_string())?;
    into.extend_from_slice(chunk.get(..count).unwrap_or_default());
    if into.len() > OUTPUT_LIMIT { Err("squeue says too much".to_owned()) } else { Ok(count > 0) }
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
    fn it_is_asked_with_the_job_and_the_format() {
        let (_dir, squeue) = fake("echo \"$@\"");
        let line = squeue.lines(4711).unwrap().unwrap();
        assert_eq!(line.trim(), "--noheader --states=all --format %A|%T|%N|%B --jobs 4711");
    }

    #[test]
    fn a_forgotten_job_and_a_failure_are_told_apart() {
        let (_dir, squeue) = fake("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
        assert_eq!(squeue.lines(1), Ok(None));
        let (_dir, squeue) = fake("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
        assert!(squeue.lines(1).unwrap_err().contains("Unable to contact"));
        let none = Squeue { configured: Some("/nonexistent/squeue".into()), deadline: Duration::ZERO };
        assert!(none.lines(1).unwrap_err().contains("cannot be run"));
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let (_dir, squeue) = fake("exec sleep 30");
        let begin = Instant::now();
        assert!(squeue.lines(1).unwrap_err().contains("in time"));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn long_output_on_both_pipes_does_not_block() {
        let (_dir, squeue) = fake("head -c 200000 /dev/zero | tr '\\0' 'x'; head -c 200000 /dev/zero >&2");
        assert_eq!(squeue.lines(1).unwrap().unwrap().len(), 200_000);
    }
}
