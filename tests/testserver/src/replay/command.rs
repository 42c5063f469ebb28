// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the caller's commands for a foreign server. They log a user in, set faults of the provider, or get first
//! tokens.

use std::io::Write;
use std::process::{Command, Stdio};

use super::outcome::Stop;

/// Exit status of a command that cannot do what is asked; the scenario is skipped. Automake's tests use the same one.
const SKIP_STATUS: i32 = 77;

/// Runs a shell command with arguments added to it and returns its trimmed output.
pub(super) fn run(command: &str, arguments: &[&str], input: &[u8]) -> Result<String, Stop> {
    let failed = |error: std::io::Error| format!("{command}: {error}");
    let mut child = Command::new("sh")
        .args(["-c", &format!("{command} \"$@\""), "sh"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read its input may have ended already.
        let _ = pipe.write_all(input);
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    if output.status.code() == Some(SKIP_STATUS) {
        return Err(Stop::Unplayable(reason.to_owned()));
    }
    Err(Stop::Differs(format!("{command}: {}: {reason}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_arguments_and_input_and_its_output_is_trimmed() {
        assert_eq!(run("printf '%s,' a", &["b c", "$d"], b""), Ok("a,b c,$d,".into()));
        assert_eq!(run("cat", &[], b" text\n"), Ok("text".into()));
        assert_eq!(run("f() { echo \"$2 $1\"; }; f", &["1", "2"], b""), Ok("2 1".into()));
    }

    #[test]
    fn a_failing_command_fails_and_status_77_skips_the_scenario() {
        let failed = run("f() { echo first >&2; echo 'the last line' >&2; exit 3; }; f", &[], b"");
        assert!(matches!(failed, Err(Stop::Differs(reason)) if reason.ends_with("the last line")));
        let cannot = run("f() { echo 'there is no user carol' >&2; exit 77; }; f", &[], b"");
        assert_eq!(cannot, Err(Stop::Unplayable("there is no user carol".into())));
    }
}
