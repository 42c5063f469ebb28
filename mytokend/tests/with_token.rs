// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl with-token` becomes the program: arguments, exit status, signals and limits are the program's own.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// An opaque access token.
const TOKEN: &str = "0123456789-0123456789.opaque";

/// Runs `mytokenctl with-token` with these arguments and a file that holds [`TOKEN`].
fn with_token(arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bt_u1");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_mytokenctl"))
        .arg("with-token")
        .args(arguments)
        .env("BEARER_TOKEN_FILE", &file)
        .env("BEARER_TOKEN", "an older one")
        .output()
        .unwrap()
}

fn shell(script: &str) -> Output {
    with_token(&["--", "sh", "-c", script])
}

fn stdout(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_token_is_in_the_environment_and_in_no_argument() {
    assert_eq!(stdout(&shell("echo \"$BEARER_TOKEN\"")), format!("{TOKEN}\n"));
    let arguments = stdout(&shell("tr '\\0' ' ' </proc/$$/cmdline"));
    assert!(arguments.starts_with("sh -c ") && !arguments.contains(TOKEN), "{arguments}");
}

#[test]
fn the_exit_status_and_the_signal_are_the_programs() {
    assert_eq!(shell("exit 42").status.code(), Some(42));
    assert_eq!(shell("kill -TERM $$").status.signal(), Some(15));
    let missing = with_token(&["--", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    let directory = with_token(&["--", "/etc"]);
    assert_eq!(directory.status.code(), Some(126), "{directory:?}");
    assert!(String::from_utf8(directory.stderr).unwrap().starts_with("mytokenctl: cannot run /etc: "));
}

#[test]
fn arguments_reach_the_program_unchanged() {
    assert_eq!(stdout(&with_token(&["--", "printf", "%s|", "--", "--help", "-x", "a b"])), "--|--help|-x|a b|");
    let unclear = with_token(&["printf", "x"]);
    assert_eq!(unclear.status.code(), Some(2), "a program without the two dashes is refused: {unclear:?}");
}

#[test]
fn limits_and_ignored_signals_are_inherited() {
    let script = "ulimit -c; grep SigIgn /proc/self/status";
    let bare = Command::new("sh").args(["-c", &format!("trap '' HUP; {script}")]).output().unwrap();
    let mine = format!(
        "trap '' HUP; BEARER_TOKEN_FILE=\"$BEARER_TOKEN_FILE\" {} with-token -- sh -c '{script}'",
        env!("CARGO_BIN_EXE_mytokenctl")
    );
    assert_eq!(stdout(&shell(&mine)), stdout(&bare));
}

#[test]
fn without_a_token_the_program_is_not_started() {
    let refused = Command::new(env!("CARGO_BIN_EXE_mytokenctl"))
        .args(["with-token", "--", "sh", "-c", "echo started"])
        .env_remove("BEARER_TOKEN_FILE")
        .env("BEARER_TOKEN", "an older one")
        .output()
        .unwrap();
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(125), b"".as_slice()));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("sbatch --mytoken"));
}
