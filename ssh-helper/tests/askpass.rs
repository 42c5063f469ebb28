// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole way of a token into a program that calls itself ssh: what it gets, what it never sees, what is left behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

mod world;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use world::{TOKEN, World};

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
        let mut child = Command::new("env")
            .args([
                "--default-signal=HUP,INT,QUIT",
                env!("CARGO_BIN_EXE_mytoken-ssh"),
                "ssh",
                "--token-file",
                token.to_str().unwrap(),
                "tb",
            ])
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
