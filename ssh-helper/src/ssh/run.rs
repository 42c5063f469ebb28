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

/// Runs `command` to its end and gives its exit status as a shell would: 128 and the signal's number when one ended it.
///
/// Signals that would end this process are passed on instead, so that the caller can clean up when the program has ended.
pub fn in_foreground(mut command: Command) -> Result<u8, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |reason: String| Error::CannotRun { program: program.clone(), reason };
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM]).map_err(|error| cannot(error.to_string()))?;
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

fn wait(child: Pid) -> nix::Result<u8> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> u8 {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        in_foreground(command).unwrap()
    }

    #[test]
    fn the_exit_status_is_the_programs() {
        assert_eq!(shell("exit 0"), 0);
        assert_eq!(shell("exit 255"), 255);
        assert_eq!(shell("kill -TERM $$"), 143);
        assert!(in_foreground(Command::new("/no/such/program")).is_err());
    }
}
