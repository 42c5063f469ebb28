// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prompts that are not the token's, at a terminal: what is typed there may be a password.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::os::fd::AsFd;
use tempfile::TempDir;

const HOST_KEY: &str = "The authenticity of host 'testbed (192.0.2.10)' can't be established.\n\
    ED25519 key fingerprint is SHA256:x.\nThis key is not known by any other names.\n\
    Are you sure you want to continue connecting (yes/no/[fingerprint])? ";

/// An askpass that has its terminal to itself.
struct Asked {
    _dir: TempDir,
    askpass: Child,
    person: File,
    terminal: OwnedFd,
    seen: String,
}

impl Asked {
    fn new(prompt: &str, kind: Option<&str>) -> Self {
        Self::after("true", prompt, kind)
    }

    /// In a shell that has begun with `setup`.
    fn after(setup: &str, prompt: &str, kind: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mytoken-askpass");
        symlink(env!("CARGO_BIN_EXE_mytoken-ssh"), &program).unwrap();
        let pty = openpty(None, None).unwrap();
        let mut command = Command::new("env");
        command
            .args([
                "--default-signal=HUP,INT,QUIT",
                "setsid",
                "--ctty",
                "--wait",
                "sh",
                "-c",
                &format!("{setup}; exec \"$0\" \"$1\""),
            ])
            .arg(program)
            .arg(prompt);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(kind.map(|kind| ("SSH_ASKPASS_PROMPT", kind)));
        command.stdin(pty.slave.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::null());
        let askpass = command.spawn().unwrap();
        let person = File::from(pty.master);
        let mut asked = Self { _dir: dir, askpass, person, terminal: pty.slave, seen: String::new() };
        let shown = prompt.lines().last().unwrap().trim_end().to_owned();
        asked.until(|asked| asked.seen.contains(&shown));
        asked
    }

    /// Reads the screen until `condition` holds.
    fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", self.seen);
            self.look();
        }
    }

    fn look(&mut self) {
        let mut watched = [PollFd::new(self.person.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, PollTimeout::from(20_u8)).unwrap() > 0 {
            let mut bytes = [0; 1024];
            let count = self.person.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// What ssh got, once the askpass has ended, and whether it took it for an answer.
    fn answer(&mut self) -> (bool, String) {
        let status = self.askpass.wait().unwrap();
        let mut answer = String::new();
        self.askpass.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
        self.look();
        (status.success(), answer)
    }
}

#[test]
fn what_is_typed_at_a_prompt_is_not_seen() {
    let prompts = [
        ("PIN?", None),
        ("(alice@testbed) PIN? ", None),
        ("(alice@testbed) Continue (yes/no)? ", None),
        ("(alice@testbed) Type your PIN, then 'yes': ", None),
        (&format!("(alice@testbed) {HOST_KEY}"), None),
        (&format!("(alice@jump) x\n{HOST_KEY}"), None),
        ("alice@testbed's password: ", None),
        ("Enter passphrase for key '/home/alice/(yes/no)?': ", None),
        ("Enter PIN for 'yes' key? ", None),
        ("Are you sure you want to continue connecting (yes/no)? ", None),
        ("Allow shared connection to testbed? ", Some("confirm")),
    ];
    for (prompt, kind) in prompts {
        let mut asked = Asked::new(prompt, kind);
        assert!(!asked.echoes(), "{prompt:?}");
        asked.type_in("yes\n");
        assert_eq!(asked.answer(), (true, "yes\n".into()), "{prompt:?}");
        let shown = asked.seen.rsplit_once(prompt.lines().last().unwrap().trim_end()).unwrap().1;
        assert!(!shown.contains("yes"), "{prompt:?}: {shown:?}");
        assert!(asked.echoes(), "{prompt:?}");
    }
}

#[test]
fn the_answer_to_ssh_s_own_question_about_a_host_key_is_seen() {
    let prompts = [
        HOST_KEY,
        &HOST_KEY.replace("/[fingerprint]", ""),
        "Please type 'yes' or 'no': ",
        "Please type 'yes', 'no' or the fingerprint: ",
        "Accept updated hostkeys? (yes/no): ",
    ];
    for prompt in prompts {
        let mut asked = Asked::new(prompt, None);
        assert!(asked.echoes(), "{prompt:?}");
        asked.type_in("maybe\n");
        assert_eq!(asked.answer(), (true, "maybe\n".into()), "{prompt:?}");
        asked.until(|asked| asked.seen.contains("maybe"));
    }
}

#[test]
fn a_permission_is_given_by_yes_only() {
    for (typed, given) in [("yes\n", true), ("y\n", true), ("no\n", false), ("\n", false)] {
        let mut asked = Asked::new("Allow forward to testbed:22? ", Some("confirm"));
        asked.type_in(typed);
        assert_eq!(asked.answer().0, given, "{typed:?}");
    }
}

#[test]
fn the_terminal_echoes_again_after_an_interruption() {
    let mut asked = Asked::new("alice@testbed's password: ", None);
    asked.type_in("secr\u{3}");
    assert_eq!(asked.answer(), (false, String::new()));
    assert!(asked.echoes() && !asked.seen.contains("secr"), "{:?}", asked.seen);
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let mut asked = Asked::after("trap '' INT", "alice@testbed's password: ", None);
    asked.type_in("\u{3}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(asked.askpass.try_wait().unwrap(), None);
    asked.type_in("secret\n");
    assert_eq!(asked.answer(), (true, "secret\n".into()));
}

#[test]
fn the_terminal_echoes_while_the_askpass_is_stopped() {
    let mut asked = Asked::new("alice@testbed's password: ", None);
    asked.type_in("\u{1a}");
    asked.until(Asked::echoes);
    let id = asked.askpass.id().to_string();
    assert!(Command::new("kill").args(["-CONT", &id]).status().unwrap().success());
    asked.until(|asked| !asked.echoes());
    asked.type_in("secret\n");
    assert_eq!(asked.answer(), (true, "secret\n".into()));
    assert!(asked.echoes() && !asked.seen.contains("secret"), "{:?}", asked.seen);
}
