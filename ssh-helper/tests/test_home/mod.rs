// SPDX-License-Identifier: MIT OR Apache-2.0
//! A home directory for the helper, with shell scripts in the place of ssh, scp and sftp.
#![allow(dead_code, reason = "each test binary uses only a part of it")]

#[path = "../helper_command/mod.rs"]
mod helper_command;
#[path = "../../../tests/programs.rs"]
mod programs;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The content of the token file.
pub const TOKEN: &str = "eyJhbGciOiJub25lIn0.short.token";

/// A home directory with a token file and a fake ssh, which comes first in PATH. The fake ssh runs a shell script as
/// its login. In the script, `ask PROMPT` asks the askpass and writes status and answer to the file `answers`.
pub struct TestHome {
    pub dir: TempDir,
}

impl TestHome {
    pub fn new(login: &str, token: &str) -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let home = Self { dir };
        fs::create_dir(home.path("bin")).unwrap();
        fs::create_dir(home.path("run")).unwrap();
        fs::set_permissions(home.path("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(home.path("token"), format!("{token}\n")).unwrap();
        home.program(
            "ssh",
            &format!(
                r#"out={out}
printf '%s\n' "$@" > $out/argv
case "$1" in
-V) echo "${{FAKE_VERSION:-OpenSSH_9.2p1 Debian}}, OpenSSL 3" >&2; exit 0;;
-G) printf 'host %s\nuser alice\nhostname testbed\nbatchmode %s\nstricthostkeychecking ask\n' tb "${{FAKE_BATCH:-no}}"; exit 0;;
esac
env > $out/environment
ls -la "$(dirname "$SSH_ASKPASS")" > $out/listing
ask() {{ answer=$("$SSH_ASKPASS" "$1"); echo "[$?] $answer" >> $out/answers; }}
{login}
"#,
                out = home.dir.path().display()
            ),
        );
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Installs a shell script as a program.
    pub fn program(&self, name: &str, script: &str) {
        programs::write(self.path("bin").join(name), &format!("#!/bin/sh\n{script}")).unwrap();
    }

    /// The content of a file, or nothing.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The helper without a controlling terminal.
    pub fn command(&self, args: &[&str]) -> Command {
        helper_command::without_terminal(self.dir.path(), self.dir.path(), args)
    }

    /// The helper from a shell that has run `setup`. The child is the helper itself.
    pub fn command_after(&self, setup: &str, args: &[&str]) -> Command {
        helper_command::after(setup, self.dir.path(), self.dir.path(), args)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `mytoken-ssh ssh` with the token file.
    pub fn ssh(&self) -> Output {
        let token = self.path("token");
        self.run(&["ssh", "--token-file", token.to_str().unwrap(), "-v", "tb", "true"])
    }

    /// Status and answer of each `ask`.
    pub fn answers(&self) -> Vec<String> {
        self.read("answers").lines().map(str::to_owned).collect()
    }

    /// Whether the runtime directory is empty.
    pub fn runtime_directory_is_empty(&self) -> bool {
        fs::read_dir(self.path("run")).unwrap().next().is_none()
    }
}
