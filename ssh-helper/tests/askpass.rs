// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole way of a token into a program that calls itself ssh: what it gets, what it never sees, what is left behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const TOKEN: &str = "eyJhbGciOiJub25lIn0.short.token";

/// A home with a token file and, in front of PATH, an ssh whose login is the shell script `login`. It asks with `ask PROMPT`.
struct World {
    dir: TempDir,
}

impl World {
    fn new(login: &str, token: &str) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Without a controlling terminal, so that no prompt can reach the person who runs the tests.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command
            .args(["--wait", env!("CARGO_BIN_EXE_mytoken-ssh")])
            .args(args)
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env_remove("SSH_ASKPASS")
            .env_remove("SSH_ASKPASS_REQUIRE")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ssh(&self) -> Output {
        let token = self.path("token");
        self.run(&["ssh", "--token-file", token.to_str().unwrap(), "-v", "tb", "true"])
    }

    fn answers(&self) -> Vec<String> {
        self.read("answers").lines().map(str::to_owned).collect()
    }

    fn nothing_is_left(&self) -> bool {
        fs::read_dir(self.path("run")).unwrap().next().is_none()
    }
}

#[test]
fn the_right_prompt_gets_the_token_and_nothing_else_sees_it() {
    let world = World::new("ask '(alice@testbed) Access Token: '; exit 7", TOKEN);
    let output = world.ssh();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(world.answers(), [format!("[0] {TOKEN}")]);
    for file in ["argv", "environment", "listing"] {
        assert!(!world.read(file).contains(TOKEN), "{file}");
    }
    assert!(world.nothing_is_left());
    let argv = world.read("argv");
    let ours = ["-oNumberOfPasswordPrompts=1", "-oStrictHostKeyChecking=yes"];
    assert!(ours.iter().all(|option| argv.contains(option)) && argv.ends_with("-v\ntb\ntrue\n"), "{argv}");
    let listing = world.read("listing");
    assert!(listing.contains("srw------- "), "{listing}");
    assert!(listing.lines().any(|line| line.starts_with("drwx------ ") && line.ends_with(" .")), "{listing}");
}

#[test]
fn a_second_question_gets_nothing() {
    let world = World::new("ask '(alice@testbed) Access Token: '; ask '(alice@testbed) Access Token: '", TOKEN);
    let output = world.ssh();
    assert_eq!(world.answers(), [format!("[0] {TOKEN}"), "[1] ".to_owned()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("testbed: it asked for the token again"));
}

#[test]
fn other_prompts_go_to_the_former_askpass_and_without_one_to_nobody() {
    let login = "ask \"alice@testbed's password: \"; ask '(alice@jump) Access Token: '; ask 'continue (yes/no)? '";
    let world = World::new(login, TOKEN);
    world.ssh();
    assert_eq!(world.answers(), ["[1] ", "[1] ", "[1] "]);

    let world = World::new(login, TOKEN);
    world.program("former", "printf 'former for %s\\n' \"$1\"");
    let token = world.path("token");
    let mut command = world.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    command.env("SSH_ASKPASS", world.path("bin/former")).env("SSH_ASKPASS_REQUIRE", "force");
    command.output().unwrap();
    assert_eq!(
        world.answers(),
        [
            "[0] former for alice@testbed's password: ",
            "[0] former for (alice@jump) Access Token: ",
            "[0] former for continue (yes/no)? "
        ]
    );
}

#[test]
fn a_long_token_is_given_in_chunks() {
    let login = "ask '(alice@testbed) Access Token: '; ask '(alice@testbed) Access Token (2/3): '; ask '(alice@testbed) Access Token (3/3): '";
    let long = "x".repeat(2500);
    let world = World::new(login, &long);
    world.ssh();
    let answers = world.answers();
    let joined: String = answers
        .iter()
        .enumerate()
        .map(|(index, line)| line.strip_prefix(&format!("[0] @{}/3:", index + 1)).unwrap())
        .collect();
    assert_eq!(joined, long);
}

#[test]
fn another_program_of_the_same_user_gets_nothing_without_the_nonce() {
    let world =
        World::new("MYTOKEN_SSH_NONCE=guess; export MYTOKEN_SSH_NONCE; ask '(alice@testbed) Access Token: '", TOKEN);
    world.ssh();
    assert_eq!(world.answers(), ["[1] "]);
}

#[test]
fn a_signal_ends_ssh_and_leaves_nothing() {
    for signal in ["TERM", "HUP", "INT"] {
        let world = World::new("trap 'exit 255' HUP INT TERM; touch $out/started; sleep 20 & wait", TOKEN);
        let token = world.path("token");
        // Not by setsid: the signal must reach the wrapper itself.
        let mut child = Command::new(env!("CARGO_BIN_EXE_mytoken-ssh"))
            .args(["ssh", "--token-file", token.to_str().unwrap(), "tb"])
            .env("PATH", format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap()))
            .env("HOME", world.dir.path())
            .env("XDG_RUNTIME_DIR", world.path("run"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !world.path("started").exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "ssh was not started");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!world.nothing_is_left());
        let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().code(), Some(255), "{signal}");
        assert!(start.elapsed() < Duration::from_secs(15) && world.nothing_is_left(), "{signal}");
    }
}

#[test]
fn an_ssh_that_does_not_name_the_host_is_refused() {
    let world = World::new("ask '(alice@testbed) Access Token: '", TOKEN);
    let token = world.path("token");
    let mut command = world.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    let output = command.env("FAKE_VERSION", "OpenSSH_8.4p1 Debian").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("8.5"));
    assert!(world.answers().is_empty());
}

#[test]
fn a_failed_login_is_explained() {
    let told = |login: &str, batch: &str| {
        let world = World::new(login, TOKEN);
        let token = world.path("token");
        let mut command = world.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
        let output = command.env("FAKE_BATCH", batch).output().unwrap();
        assert_eq!(output.status.code(), Some(255));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(told("exit 255", "no").contains("testbed: no token was asked for"));
    assert!(told("ask '(alice@testbed) Access Token: '; exit 255", "no").contains("a token was handed over"));
    assert!(told("exit 255", "yes").contains("BatchMode is on"));
}

#[test]
fn a_user_without_mytoken_is_told_before_ssh_runs() {
    let world = World::new("touch $out/started", TOKEN);
    let output = world.run(&["ssh", "--server", "https://mytoken.example.org", "tb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run: mytoken-ssh login"));
    assert!(!world.path("started").exists());
}

#[test]
fn scp_asks_for_each_host_and_a_local_copy_for_none() {
    let world = World::new("exit 0", TOKEN);
    world.program("scp", &format!("printf '%s\\n' \"$@\" > {}/scp; exit 3", world.dir.path().display()));
    let output = world.run(&["scp", "-q", "a", "b"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(world.read("scp"), "-q\na\nb\n");
    let token = world.path("token");
    let output = world.run(&["scp", "--token-file", token.to_str().unwrap(), "-q", "a", "tb:b"]);
    assert_eq!(output.status.code(), Some(3));
    let argv = world.read("scp");
    assert!(argv.starts_with("-oNumberOfPasswordPrompts=1\n") && argv.ends_with("-q\na\ntb:b\n"), "{argv}");
}
