// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs journalctl, and tells what it says about its own work: a journal that it could not read was not searched.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};

use mytoken_wire::printable;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// What was read from journalctl.
pub(super) struct Reading<T> {
    pub value: T,
    /// Whether it was read to its end.
    pub whole: bool,
}

/// Runs journalctl, and reads its output with `read`. Also returns what it says on standard error: journal files that it passes over.
///
/// # Errors
/// A sentence: it cannot be run, `read` failed, or its output was whole but journalctl says that it failed.
pub(super) fn run<T>(
    mut command: Command,
    read: impl FnOnce(BufReader<ChildStdout>) -> Result<Reading<T>, String>,
) -> Result<(T, Option<String>), String> {
    let trouble = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "this host has no journalctl".to_owned(),
        _ => format!("journalctl cannot be run: {error}"),
    };
    // No pipe: journalctl must not wait for a reader of its warnings.
    let said = memfd_create("journalctl", MFdFlags::MFD_CLOEXEC).map_err(|errno| trouble(errno.into()))?;
    let said = File::from(said);
    let errors = said.try_clone().map_err(trouble)?;
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(errors));
    let mut child = command.spawn().map_err(trouble)?;
    let reading = match child.stdout.take() {
        Some(output) => read(BufReader::new(output)),
        None => Err("journalctl has no output".to_owned()),
    };
    if !reading.as_ref().is_ok_and(|reading| reading.whole) {
        // It may have more to tell than was read.
        let _ = child.kill();
    }
    let status = child.wait().map_err(trouble)?;
    let Reading { value, whole } = reading?;
    let warning = first_line(&said);
    if whole && !status.success() { Err(failure(status, warning)) } else { Ok((value, warning)) }
}

fn failure(status: ExitStatus, warning: Option<String>) -> String {
    format!("journalctl failed: {}", warning.unwrap_or_else(|| status.to_string()))
}

/// The first line of what it said, without control characters.
fn first_line(said: &File) -> Option<String> {
    let mut bytes = [0; 400];
    let length = said.read_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
    text.lines().find(|line| !line.trim().is_empty()).map(|line| printable(line.trim(), 200))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn said_by(script: &str, whole: bool) -> Result<(String, Option<String>), String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, |mut output| {
            let mut value = String::new();
            let mut some = [0; 2];
            let read = if whole {
                output.read_to_string(&mut value)
            } else {
                output.read(&mut some).inspect(|length| value.push_str(&String::from_utf8_lossy(&some[..*length])))
            };
            read.map_err(|error| error.to_string())?;
            Ok(Reading { value, whole })
        })
    }

    #[test]
    fn its_status_and_what_it_says_are_known() {
        assert_eq!(said_by("echo a", true).unwrap(), ("a\n".to_owned(), None));
        assert_eq!(said_by("echo a; exit 3", true).unwrap_err(), "journalctl failed: exit status: 3");
        let failed = said_by("echo a; echo 'Failed to open\u{1b} files' >&2; echo b >&2; exit 1", true).unwrap_err();
        assert_eq!(failed, "journalctl failed: Failed to open? files");
        let warned = said_by("echo a; echo; echo >&2; echo 'Journal file x is truncated' >&2", true).unwrap();
        assert_eq!(warned, ("a\n\n".to_owned(), Some("Journal file x is truncated".to_owned())));
        // More than a pipe holds.
        let warned =
            said_by("i=0; while [ $i -lt 3000 ]; do echo 'a warning that is long enough' >&2; i=$((i+1)); done", true);
        assert_eq!(warned.unwrap().1.as_deref(), Some("a warning that is long enough"));
    }

    #[test]
    fn it_is_ended_once_enough_was_read() {
        assert_eq!(said_by("echo ab; exec sleep 600", false).unwrap(), ("ab".to_owned(), None));
    }

    #[test]
    fn a_host_without_it_is_told() {
        let none = Command::new("/nowhere/journalctl");
        let read = run(none, |_| Ok(Reading { value: (), whole: true }));
        assert_eq!(read.unwrap_err(), "this host has no journalctl");
    }
}
