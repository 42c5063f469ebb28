// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user with the helper, and programs that call themselves ssh, scp and sftp.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The token in the file.
pub const TOKEN: &str = "eyJhbGciOiJub25lIn0.short.token";

/// A home with a token file and, in front of PATH, an ssh whose login is the shell script `login`. It asks with `ask PROMPT`.
pub struct World {
    pub dir: TempDir,
}

impl World {
    pub fn new(login: &str, token: &str) -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let world = Self { dir };
        fs::create_dir(world.path("bin")).unwrap();
        fs::create_dir(world.path("run")).unwrap();
        fs::set_permissions(world.path("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(world.path("token"), format!("{token}\n")).unwrap();
        world.program(
            "ssh",
            &format!(
                r#"case "$1" in
-V) echo "${{FAKE_VERSION:-OpenSSH_9.2p1 Debian}}, OpenSSL 3" >&2; exit 0;;
-G) printf 'host %s\nuser alice\nhostname testbed\nbatchmode %s\nstricthostkeychecking ask\n' tb "${{FAKE_BATCH:-no}}"; exit 0;;
esac
out={out}
printf '%s\n' "$@" > $out/argv
env > $out/environment
ls -la "$(dirname "$SSH_ASKPASS")" > $out/listing
ask() {{ answer=$("$SSH_ASKPASS" "$1"); echo "[$?] $answer" >> $out/answers; }}
{login}
"#,
                out = world.dir.path().display()
            ),
        );
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn program(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Without a controlling terminal, so that no prompt can reach the person who runs the tests.
    pub fn command(&self, args: &[&str]) -> Command {
        // A shell's background job inherits SIGINT ignored, and the helper leaves it so.
        let mut command = Command::new("env");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .args(["--default-signal=HUP,INT,QUIT", "setsid", "--wait", env!("CARGO_BIN_EXE_mytoken-ssh")])
            .args(args)
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env_remove("SSH_ASKPASS")
            .env_remove("SSH_ASKPASS_REQUIRE")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn ssh(&self) -> Output {
        let token = self.path("token");
        self.run(&["ssh", "--token-file", token.to_str().unwrap(), "-v", "tb", "true"])
    }

    pub fn answers(&self) -> Vec<String> {
        self.read("answers").lines().map(str::to_owned).collect()
    }

    pub fn nothing_is_left(&self) -> bool {
        fs::read_dir(self.path("run")).unwrap().next().is_none()
    }
}
