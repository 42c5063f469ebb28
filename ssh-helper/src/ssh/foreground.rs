// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program in the foreground as if the user had started it directly: signals, job control and exit status are
//! the program's own.

use std::process::Command;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::error::Error;
use crate::signals::not_ignored;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramExit {
    /// Exit status as a shell reports it: 128 plus the signal's number if a signal ended the program.
    pub status: u8,
    /// Whether a signal ended the program.
    pub by_signal: bool,
}

/// Runs `command` and waits for its end.
///
/// A signal that would end this process is passed on to the program instead. So the caller can clean up after the
/// program has ended.
pub fn run(mut command: Command) -> Result<ProgramExit, Error> {
    let program = command.get_program().to_owned();
    let mut signals = Signals::new(not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2]))
        .map_err(Error::cannot_run(&program))?;
    let child = command.spawn().map_err(Error::cannot_run(&program))?;
    let child = i32::try_from(child.id()).map(Pid::from_raw).map_err(Error::cannot_run(&program))?;
    let handle = signals.handle();
    let forwarder = thread::spawn(move || {
        for signal in signals.forever() {
            let _ = Signal::try_from(signal).and_then(|signal| kill(child, signal));
        }
    });
    let exit = wait(child).map_err(Error::cannot_run(&program));
    handle.close();
    let _ = forwarder.join();
    exit
}

fn wait(child: Pid) -> nix::Result<ProgramExit> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => {
                return Ok(ProgramExit { status: exit_status(code & 0xff), by_signal: false });
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(ProgramExit { status: exit_status(128 + signal as i32), by_signal: true });
            }
            // SSH-26: "~^Z" stops ssh but not this process. Without this the shell would wait for ever.
            Ok(WaitStatus::Stopped(..)) => {
                kill(getpid(), Signal::SIGSTOP)?;
                kill(child, Signal::SIGCONT)?;
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn exit_status(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str) -> (u8, bool) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let exit = run(command).unwrap();
        (exit.status, exit.by_signal)
    }

    #[test]
    fn the_exit_status_is_the_programs() {
        assert_eq!(run_shell("exit 0"), (0, false));
        assert_eq!(run_shell("exit 255"), (255, false));
        assert_eq!(run_shell("kill -TERM $$"), (143, true));
    }

    #[test]
    fn a_missing_program_is_an_error() {
        assert!(matches!(run(Command::new("/no/such/program")), Err(Error::CannotRun { .. })));
    }
}
