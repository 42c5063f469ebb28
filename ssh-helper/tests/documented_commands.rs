// SPDX-License-Identifier: MIT OR Apache-2.0
//! The documents name only commands and options that mytoken-ssh has.
#![allow(missing_docs, clippy::unwrap_used, dead_code, reason = "tests")]

#[path = "../../tests/documented_commands.rs"]
mod documented_commands;

#[test]
fn documented_commands_of_mytoken_ssh_exist() {
    documented_commands::check("mytoken-ssh", env!("CARGO_BIN_EXE_mytoken-ssh"), &["ssh", "scp", "sftp"], 10);
}
