// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prompts at a terminal that do not ask for the token. The answer may be a password, so it must not be shown.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

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

/// An askpass on a terminal of its own, and the user at this terminal.
struct TerminalSession {
    _dir: TempDir,
    askpass: Child,
    user: File,
    terminal: OwnedFd,
    screen: String,
}

impl TerminalSession {
    fn new(prompt: &str, kind: Option<&str>) -> Self {
        Self::new_after("true", prompt, kind)
    }

    /// Starts the askpass from a shell that has run `setup`.
    fn new_after(setup: &str, prompt: &str, kind: Option<&str>) -> Self {
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
        let user = File::from(pty.master);
        let mut session = Self { _dir: dir, askpass, user, terminal: pty.slave, screen: String::new() };
        let shown = prompt.lines().last().unwrap().trim_end().to_owned();
        session.wait_until(|session| session.screen.contains(&shown));
        session
    }

    /// Reads the screen until `condition` is true.
    fn wait_until(&mut self, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", self.screen);
            self.read_screen();
        }
    }

    /// Reads what has appeared on the screen.
    fn read_screen(&mut self) {
        let mut watched = [PollFd::new(self.user.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, PollTimeout::from(20_u8)).unwrap() > 0 {
            let mut bytes = [0; 1024];
            let count = self.user.read(&mut bytes).unwrap();
            self.screen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.user.write_all(text.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits for the askpass to end. Returns whether it succeeded, and its standard output.
    fn answer(&mut self) -> (bool, String) {
        let status = self.askpass.wait().unwrap();
        let mut answer = String::new();
        self.askpass.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
        self.read_screen();
        (status.success(), answer)
    }
}

#[test]
fn typed_answers_are_not_echoed() {
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
        let mut session = TerminalSession::new(prompt, kind);
        assert!(!session.echoes(), "{prompt:?}");
        session.type_in("yes\n");
        assert_eq!(session.answer(), (true, "yes\n".into()), "{prompt:?}");
        let shown = session.screen.rsplit_once(prompt.lines().last().unwrap().trim_end()).unwrap().1;
        assert!(!shown.contains("yes"), "{prompt:?}: {shown:?}");
        assert!(session.echoes(), "{prompt:?}");
    }
}

#[test]
fn answers_to_questions_about_host_keys_are_echoed() {
    let prompts = [
        HOST_KEY,
        &HOST_KEY.replace("/[fingerprint]", ""),
        "Please type 'yes' or 'no': ",
        "Please type 'yes', 'no' or the fingerprint: ",
        "Accept updated hostkeys? (yes/no): ",
    ];
    for prompt in prompts {
        let mut session = TerminalSession::new(prompt, None);
        assert!(session.echoes(), "{prompt:?}");
        session.type_in("maybe\n");
        assert_eq!(session.answer(), (true, "maybe\n".into()), "{prompt:?}");
        session.wait_until(|session| session.screen.contains("maybe"));
    }
}

#[test]
fn only_yes_confirms() {
    for (typed, given) in [("yes\n", true), ("y\n", true), ("no\n", false), ("\n", false)] {
        let mut session = TerminalSession::new("Allow forward to testbed:22? ", Some("confirm"));
        session.type_in(typed);
        assert_eq!(session.answer().0, given, "{typed:?}");
    }
}

#[test]
fn echo_is_on_again_after_ctrl_c() {
    let mut session = TerminalSession::new("alice@testbed's password: ", None);
    session.type_in("secr\u{3}");
    assert_eq!(session.answer(), (false, String::new()));
    assert!(session.echoes() && !session.screen.contains("secr"), "{:?}", session.screen);
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let mut session = TerminalSession::new_after("trap '' INT", "alice@testbed's password: ", None);
    session.type_in("\u{3}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(session.askpass.try_wait().unwrap(), None);
    session.type_in("secret\n");
    assert_eq!(session.answer(), (true, "secret\n".into()));
}

#[test]
fn echo_is_on_while_the_askpass_is_stopped() {
    let mut session = TerminalSession::new("alice@testbed's password: ", None);
    session.type_in("\u{1a}");
    session.wait_until(TerminalSession::echoes);
    let id = session.askpass.id().to_string();
    assert!(Command::new("kill").args(["-CONT", &id]).status().unwrap().success());
    session.wait_until(|session| !session.echoes());
    session.type_in("secret\n");
    assert_eq!(session.answer(), (true, "secret\n".into()));
    assert!(session.echoes() && !session.screen.contains("secret"), "{:?}", session.screen);
}
