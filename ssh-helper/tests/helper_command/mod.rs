// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the tests start the helper. `root` is a directory with programs in `bin`, which come first in PATH, and the
//! runtime directory `run`.
#![allow(dead_code, reason = "each test binary uses only a part of it")]

use std::path::Path;
use std::process::{Command, Stdio};

/// Signals may be ignored here, as in a background job of a shell, and the helper would keep them ignored.
const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT";

/// The helper without a controlling terminal, so that no prompt reaches the developer who runs the tests.
pub fn without_terminal(root: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, "setsid", "--wait", env!("CARGO_BIN_EXE_mytoken-ssh")]).args(args);
    set_environment(&mut command, root, home);
    command
}

/// The helper at the terminal that is its standard input.
pub fn at_terminal(root: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGNALS, "setsid", "--ctty", "--wait", env!("CARGO_BIN_EXE_mytoken-ssh")]).args(args);
    set_environment(&mut command, root, home);
    command
}

/// The helper from a shell that has run `setup`. The shell replaces itself, so the child is the helper, and tests can
/// send signals to it.
pub fn after(setup: &str, root: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    let script = format!("{setup}; exec \"$0\" \"$@\"");
    command.args([DEFAULT_SIGNALS, "sh", "-c", &script, env!("CARGO_BIN_EXE_mytoken-ssh")]).args(args);
    set_environment(&mut command, root, home);
    command
}

fn set_environment(command: &mut Command, root: &Path, home: &Path) {
    let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
    command
        .env("PATH", path)
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", root.join("run"))
        .env_remove("SSH_ASKPASS")
        .env_remove("SSH_ASKPASS_REQUIRE")
        .stdin(Stdio::null());
}
