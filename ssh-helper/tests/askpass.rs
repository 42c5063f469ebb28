// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the token gets from the helper to a fake ssh: what ssh gets, where the token never appears, and what is left
//! afterwards.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

mod test_home;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use test_home::{TOKEN, TestHome};

#[test]
fn only_the_answer_to_the_token_prompt_contains_the_token() {
    let home = TestHome::new("ask '(alice@testbed) Access Token: '; exit 7", TOKEN);
    let output = home.ssh();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(home.answers(), [format!("[0] {TOKEN}")]);
    for file in ["argv", "environment", "listing"] {
        assert!(!home.read(file).contains(TOKEN), "{file}");
    }
    assert!(home.runtime_directory_is_empty());
    let argv = home.read("argv");
    let options = ["-oNumberOfPasswordPrompts=1", "-oStrictHostKeyChecking=yes"];
    assert!(options.iter().all(|option| argv.contains(option)) && argv.ends_with("-v\ntb\ntrue\n"), "{argv}");
    let listing = home.read("listing");
    assert!(listing.contains("srw------- "), "{listing}");
    assert!(listing.lines().any(|line| line.starts_with("drwx------ ") && line.ends_with(" .")), "{listing}");
}

#[test]
fn a_second_prompt_gets_no_token() {
    let home = TestHome::new("ask '(alice@testbed) Access Token: '; ask '(alice@testbed) Access Token: '", TOKEN);
    let output = home.ssh();
    assert_eq!(home.answers(), [format!("[0] {TOKEN}"), "[1] ".to_owned()]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("testbed: it asked for the token again"));
}

/// The module of another product may take no token in pieces.
#[test]
fn a_host_that_does_not_ask_for_the_rest_of_a_token_is_told() {
    let told = |length, login: &str| {
        let home = TestHome::new(login, &"x".repeat(length));
        let output = home.ssh();
        (home.answers()[0].len(), String::from_utf8_lossy(&output.stderr).contains("did not ask for the rest"))
    };
    let refused = "ask '(alice@testbed) Access Token: '; exit 255";
    assert_eq!(told(1_500, refused), ("[0] @1/2:".len() + 993, true));
    let again = "ask '(alice@testbed) Access Token: '; ask '(alice@testbed) Access Token: '; exit 255";
    assert!(told(1_500, again).1);
    // What ssh sends whole is no piece.
    assert_eq!(told(1_023, refused), ("[0] ".len() + 1_023, false));
    let whole = "ask '(alice@testbed) Access Token: '; ask '(alice@testbed) Access Token (2/2): '; exit 255";
    assert!(!told(1_500, whole).1);
}

#[test]
fn other_prompts_go_to_the_previous_askpass_or_stay_unanswered() {
    let login = "ask \"alice@testbed's password: \"; ask '(alice@jump) Access Token: '; ask 'continue (yes/no)? '";
    let home = TestHome::new(login, TOKEN);
    home.ssh();
    assert_eq!(home.answers(), ["[1] ", "[1] ", "[1] "]);

    let home = TestHome::new(login, TOKEN);
    home.program("previous", "printf 'previous for %s\\n' \"$1\"");
    let token = home.path("token");
    let mut command = home.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    command.env("SSH_ASKPASS", home.path("bin/previous")).env("SSH_ASKPASS_REQUIRE", "force");
    command.output().unwrap();
    assert_eq!(
        home.answers(),
        [
            "[0] previous for alice@testbed's password: ",
            "[0] previous for (alice@jump) Access Token: ",
            "[0] previous for continue (yes/no)? "
        ]
    );
}

#[test]
fn a_long_token_is_sent_in_chunks() {
    let login = "ask '(alice@testbed) Access Token: '; ask '(alice@testbed) Access Token (2/3): '; ask '(alice@testbed) Access Token (3/3): '";
    let long = "x".repeat(2500);
    let home = TestHome::new(login, &long);
    home.ssh();
    let answers = home.answers();
    let joined: String = answers
        .iter()
        .enumerate()
        .map(|(index, line)| line.strip_prefix(&format!("[0] @{}/3:", index + 1)).unwrap())
        .collect();
    assert_eq!(joined, long);
}

#[test]
fn a_process_without_the_nonce_gets_no_token() {
    let home =
        TestHome::new("MYTOKEN_SSH_NONCE=guess; export MYTOKEN_SSH_NONCE; ask '(alice@testbed) Access Token: '", TOKEN);
    home.ssh();
    assert_eq!(home.answers(), ["[1] "]);
}

#[test]
fn a_signal_ends_ssh_and_the_helper_removes_its_directory() {
    for signal in ["TERM", "HUP", "INT"] {
        let home = TestHome::new("trap 'exit 255' HUP INT TERM; touch $out/started; sleep 20 & wait", TOKEN);
        let token = home.path("token");
        let mut command = home.command_after("true", &["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while !home.path("started").exists() {
            assert!(start.elapsed() < Duration::from_secs(10), "ssh was not started");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!home.runtime_directory_is_empty());
        let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().code(), Some(255), "{signal}");
        assert!(start.elapsed() < Duration::from_secs(15) && home.runtime_directory_is_empty(), "{signal}");
    }
}

#[test]
fn an_ssh_that_does_not_show_the_host_in_its_prompts_is_refused() {
    let home = TestHome::new("ask '(alice@testbed) Access Token: '", TOKEN);
    let token = home.path("token");
    let mut command = home.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
    let output = command.env("FAKE_VERSION", "OpenSSH_8.4p1 Debian").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("OpenSSH 8.4 is too old"));
    assert!(home.answers().is_empty());
}

#[test]
fn a_failed_login_is_explained() {
    let messages = |login: &str, batch: &str| {
        let home = TestHome::new(login, TOKEN);
        let token = home.path("token");
        let mut command = home.command(&["ssh", "--token-file", token.to_str().unwrap(), "tb"]);
        let output = command.env("FAKE_BATCH", batch).output().unwrap();
        assert_eq!(output.status.code(), Some(255));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(messages("exit 255", "no").contains("testbed: the host did not ask for a token"));
    assert!(messages("ask '(alice@testbed) Access Token: '; exit 255", "no").contains("the token was sent"));
    assert!(messages("exit 255", "yes").contains("BatchMode is on"));
}

#[test]
fn without_a_stored_mytoken_ssh_is_not_started() {
    let home = TestHome::new("touch $out/started", TOKEN);
    let output = home.run(&["ssh", "--server", "https://mytoken.example.org", "tb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run: mytoken-ssh login"));
    assert!(!home.path("started").exists());
}

#[test]
fn scp_to_a_host_gets_the_helpers_options_and_a_local_copy_does_not() {
    let home = TestHome::new("exit 0", TOKEN);
    home.program("scp", &format!("printf '%s\\n' \"$@\" > {}/scp; exit 3", home.dir.path().display()));
    let output = home.run(&["scp", "-q", "a", "b"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(home.read("scp"), "-q\na\nb\n");
    let token = home.path("token");
    let output = home.run(&["scp", "--token-file", token.to_str().unwrap(), "-q", "a", "tb:b"]);
    assert_eq!(output.status.code(), Some(3));
    let argv = home.read("scp");
    assert!(argv.starts_with("-oNumberOfPasswordPrompts=1\n") && argv.ends_with("-q\na\ntb:b\n"), "{argv}");
}
