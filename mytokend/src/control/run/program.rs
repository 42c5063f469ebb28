// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program: its start, the signals that are passed on to it, and its end.

use std::ffi::{OsStr, OsString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::thread;

use mytoken_wire::tools::{self, Tool};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::iterator::Signals;

use super::Event;
use super::inherited::{in_foreground, not_ignored};
use crate::control::launch::{BEARER_TOKEN, BEARER_TOKEN_FILE, CannotRun, MYTOKEN_TOKEN_DIR};

/// Signals that end a program which does not expect them, as people and Slurm (`--signal`) send them. They are passed on, so that this
/// process ends after the program.
const ENDING: [c_int; 8] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU];

/// A program that was started.
pub struct Program(Pid);

/// From now on the signals that would end this process are events.
pub fn catch_signals(events: &Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new(not_ignored(&ENDING))?;
    let events = events.clone();
    thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            let _ = events.send(Event::Signal(signal));
        }
    })?;
    Ok(())
}

impl Program {
    /// Starts the program. Its end becomes an event. `several`: there are further files beside `token_file`.
    pub fn start(
        argv: &[OsString],
        (token_file, several): (&Path, bool),
        tools: &[Tool],
        events: &Sender<Event>,
    ) -> Result<Self, CannotRun> {
        let Some((program, arguments)) = argv.split_first() else { return Err(CannotRun::nothing()) };
        let failed = |error: std::io::Error| CannotRun::new(program, &error);
        let mut command = Command::new(program);
        // BEARER_TOKEN would take precedence over the file.
        command.args(arguments).env(BEARER_TOKEN_FILE, token_file).env_remove(BEARER_TOKEN);
        // Those of the job in which it runs are about other tokens.
        command.env_remove(MYTOKEN_TOKEN_DIR);
        if let (true, Some(directory)) = (several, token_file.parent()) {
            command.env(MYTOKEN_TOKEN_DIR, directory);
        }
        for tool in inherited(tools, std::env::var(BEARER_TOKEN_FILE).ok().as_deref(), |name| std::env::var(name).ok())
        {
            command.env_remove(variable(tool));
        }
        for tool in tools {
            if let Some(value) = token_file.to_str().and_then(|file| tool.value(file)) {
                command.env(variable(*tool), value);
            }
        }
        let child = command.spawn().map_err(failed)?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let ended = events.clone();
        let waiting = thread::Builder::new().spawn(move || {
            let _ = ended.send(Event::Ended(wait(pid)));
        });
        if let Err(error) = waiting {
            let _ = kill(pid, Signal::SIGKILL);
            return Err(failed(error));
        }
        Ok(Self(pid))
    }

    /// Passes a signal on. The terminal sends those of its keys to the program itself.
    pub fn pass(&self, signal: c_int) {
        if [SIGINT, SIGQUIT].contains(&signal) && in_foreground() {
            return;
        }
        let _ = Signal::try_from(signal).and_then(|signal| kill(self.0, signal));
    }
}

fn variable(tool: Tool) -> &'static OsStr {
    OsStr::from_bytes(tool.variable().to_bytes())
}

/// The tools beside `own` whose variable in the environment names the token file of the job or session: they would use that token.
fn inherited(own: &[Tool], file: Option<&str>, value: impl Fn(&OsStr) -> Option<String>) -> Vec<Tool> {
    let names = |tool: &Tool| value(variable(*tool)).is_some_and(|text| tool.file(&text) == file && file.is_some());
    tools::ALL.into_iter().filter(|tool| !own.contains(tool) && names(tool)).collect()
}

/// Waits for the end of the program. Returns its exit status as a shell reports it: 128 plus the number of the signal that ended it.
fn wait(pid: Pid) -> u8 {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => return u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Ok(WaitStatus::Signaled(_, signal, _)) => return u8::try_from(128 + signal as i32).unwrap_or(u8::MAX),
            // The shell must see that the program was stopped. Both continue together.
            Ok(WaitStatus::Stopped(..)) => {
                let _ = kill(getpid(), Signal::SIGSTOP);
                let _ = kill(pid, Signal::SIGCONT);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return u8::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_does_not_use_the_token_of_the_job_in_which_the_program_runs() {
        let (job, of_job) = (Some("/run/mytoken/jobs/7/bt_u1"), Some("cat /run/mytoken/jobs/7/bt_u1".to_owned()));
        for (own, file, value, expected) in [
            (&[][..], job, of_job.clone(), &[Tool::Rclone][..]),
            (&[Tool::Rclone], job, of_job.clone(), &[]),
            (&[], None, of_job, &[]),
            (&[], job, Some("cat /home/alice/mine".to_owned()), &[]),
            (&[], job, Some("oidc-token".to_owned()), &[]),
            (&[], None, Some("oidc-token".to_owned()), &[]),
            (&[], job, None, &[]),
        ] {
            assert_eq!(inherited(own, file, |_| value.clone()), expected, "{file:?} {value:?}");
        }
    }
}
