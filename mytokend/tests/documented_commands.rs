// SPDX-License-Identifier: MIT OR Apache-2.0
//! The documents name only commands and options that mytokenctl and mytokend have.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/documented_commands.rs"]
mod documented_commands;

use documented_commands::{check, written};

#[test]
fn documented_commands_of_mytokenctl_exist() {
    check("mytokenctl", env!("CARGO_BIN_EXE_mytokenctl"), &[], 10);
}

#[test]
fn documented_commands_of_mytokend_exist() {
    check("mytokend", env!("CARGO_BIN_EXE_mytokend"), &[], 2);
}

#[test]
fn documented_commands_of_mytoken_submit_exist() {
    check("mytoken-submit", env!("CARGO_BIN_EXE_mytoken-submit"), &[], 1);
}

#[test]
fn command_lines_are_recognised() {
    let found = |text: &str| {
        let all = written(text, "p", &["ssh"]);
        all.into_iter().map(|one| format!("{} {}", one.command, one.options.join(" "))).collect::<Vec<_>>()
    };
    assert_eq!(found("`p check --json`, `p\nstatus` and p other"), ["check --json", "status "]);
    assert_eq!(found("```\np status [JOB] [--json] [--socket PATH]\n```\n"), ["status --json --socket"]);
    assert_eq!(found("```\na && p login --a x \\\n  --b y\n```\n"), ["login --a --b"]);
    assert_eq!(found("`p explain --user a < token --b`"), ["explain --user"]);
    assert_eq!(found("`p ssh --delegate host --c` `p ssh --scope x host --c`"), ["ssh --delegate", "ssh --scope"]);
    assert_eq!(found("`apt install p`, `p.toml`, `p host.example.org`, `p: error`"), [" "]);
    assert_eq!(found("`/usr/sbin/p agent`"), ["agent "]);
    assert_eq!(found("```\nmake x   # tries p for y\np check   # p other\n```\n"), ["check "]);
}
