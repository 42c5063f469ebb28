// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program in the foreground as if it had been started alone: signals, job control and exit status are its own.

use std::process::Command;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Error;
use crate::signals::heeded;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status as a shell would give it: 128 and the signal's number when one ended it.
    pub status: u8,
    /// A signal ended it.
    pub by_signal: bool,
}

/// Runs `command` to its end.
///
/// Signals that would end this process are passed on instead, so that the caller can clean up when the program has ended.
pub fn in_foreground(mut command: Command) -> Result<Ended, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |reason: String| Error::CannotRun { program: program.clone(), reason };
    let mut signals =
        Signals::new(heeded(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM])).map_err(|error| cannot(error.to_string()))?;
    let child = command.spawn().map_err(|error| cannot(error.to_string()))?;
    let child = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| cannot(error.to_string()))?;
    let handle = signals.handle();
    let forwarder = thread::spawn(move || {
        for signal in signals.forever() {
            let _ = Signal::try_from(signal).and_then(|signal| kill(child, signal));
        }
    });
    let status = wait(child).map_err(|error| cannot(error.to_string()));
    handle.close();
    let _ = forwarder.join();
    status
}

fn wait(child: Pid) -> nix::Result<Ended> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Ended { status: status(code & 0xff), by_signal: false }),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(Ended { status: status(128 + signal as i32), by_signal: true });
            }
            // ssh stops itself alone at "~^Z": without this the shell would wait for us for ever.
            Ok(WaitStatus::Stopped(..)) => {
                kill(getpid(), Signal::SIGSTOP)?;
                kill(child, Signal::SIGCONT)?;
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn status(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (u8, bool) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let ended = in_foreground(command).unwrap();
        (ended.status, ended.by_signal)
    }

    #[test]
    fn the_exit_status_is_the_programs() {
        assert_eq!(shell("exit 0"), (0, false));
        assert_eq!(shell("exit 255"), (255, false));
        assert_eq!(shell("kill -TERM $$"), (143, true));
        assert!(in_foreground(Command::new("/no/such/program")).is_err());
    }
}
