// SPDX-License-Identifier: MIT OR Apache-2.0
//! The helper in the place of ssh: below `mytoken-ssh run`, and after `mytoken-ssh env`. The ssh behind it is a fake.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

mod test_home;

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use test_home::{TOKEN, TestHome};

const ASKS: &str = "ask '(alice@testbed) Access Token: '; ask 'password: '; exit 7";

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The arguments of the last ssh.
fn arguments(home: &TestHome) -> Vec<String> {
    home.read("argv").lines().map(str::to_owned).collect()
}

/// A command that starts ssh by its name, as a shell after `mytoken-ssh env` does.
fn after_env(home: &TestHome, shell: &str) -> Command {
    let [real, stand_in] = ["bin", "stand-in"].map(|name| home.path(name));
    std::fs::create_dir_all(&stand_in).unwrap();
    for name in ["ssh", "scp"] {
        let link = stand_in.join(name);
        if !link.is_symlink() {
            symlink(env!("CARGO_BIN_EXE_mytoken-ssh"), link).unwrap();
        }
    }
    let mut command = Command::new("setsid");
    command.args(["--wait", "sh", "-c", shell]).env_remove("SSH_ASKPASS").env_remove("SSH_ASKPASS_REQUIRE");
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{}:{path}", stand_in.display(), real.display()));
    command.env("HOME", home.dir.path()).env("XDG_RUNTIME_DIR", home.path("run"));
    command
}

fn configure(home: &TestHome, text: &str) {
    let directory = home.path(".config/mytoken");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), text).unwrap();
}

#[test]
fn a_program_below_run_starts_an_ssh_that_asks_for_a_token() {
    for line in [
        &["git", "push", "--help-me"][..],
        &["run", "git", "push", "--help-me"],
        &["run", "--", "git", "push", "--help-me"],
    ] {
        let home = TestHome::new(ASKS, TOKEN);
        let out = home.dir.path().display().to_string();
        home.program(
            "git",
            &format!("printf '%s\\n' \"$@\" >{out}/git; echo $PATH >{out}/path; exec ssh -x tb 'git-upload'"),
        );
        let mut command = home.command(line);
        home.program("previous", "echo \"previous for $1\"");
        let output =
            command.env("SSH_ASKPASS", home.path("bin/previous")).env("SSH_ASKPASS_REQUIRE", "force").output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{line:?} {output:?}");
        assert_eq!(home.read("git"), "push\n--help-me\n");
        // There is no mytoken. That is said when the host asks, and a login by key would have gone on.
        assert_eq!(home.answers(), ["[1] ", "[0] previous for password: "], "{}", told(&output));
        assert!(told(&output).contains("testbed: you have no mytoken; run: mytoken-ssh login"), "{}", told(&output));
        assert!(arguments(&home).ends_with(&["-x".into(), "tb".into(), "git-upload".into()]));
        assert!(home.read("path").contains("/run/mytoken-ssh-") && home.runtime_directory_is_empty());
        assert!(
            home.read("environment").contains("MYTOKEN_SSH_OPTIONS={\"jump\":true"),
            "{}",
            home.read("environment")
        );
    }
}

#[test]
fn options_of_run_reach_the_connections_and_other_ones_the_program() {
    let home = TestHome::new("exit 0", TOKEN);
    home.program("rsync", "printf '%s\\n' \"$MYTOKEN_SSH_OPTIONS\" \"$@\"");
    let own = ["--audience", "https://a", "--delegate", "--server=x.example.org"];
    let line = [&["run"], &own[..], &["rsync", "-a", "--server", "b"]].concat();
    let output = home.run(&line);
    let lines = String::from_utf8(output.stdout).unwrap();
    let (options, args) = lines.split_once('\n').unwrap();
    assert_eq!(args, "-a\n--server\nb\n");
    for part in [r#""jump":false"#, r#""audience":"https://a""#, r#""delegate":"1d""#, r#""server":"x.example.org""#] {
        assert!(options.contains(part), "{options}");
    }
    // mosh and rsync have options of the same names.
    let output = home.run(&["rsync", "--server", "--scope=x", "-h"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (options, args) = text.split_once('\n').unwrap();
    assert_eq!(args, "--server\n--scope=x\n-h\n");
    assert!(options.contains(r#""server":null"#), "{options}");
    let help = home.run(&["rsync", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage: mytoken-ssh rsync"), "{help:?}");
}

/// An ssh that goes to the host of its last argument, and from there to others. It is a script, but stands for a program.
const TO_ITS_HOST: &str = r#"for last; do :; done
case $1 in
-V) echo 'OpenSSH_9.2p1, OpenSSL 3' >&2; exit 0;;
-G) printf 'host %s\nuser alice\nhostname %s\nstricthostkeychecking accept-new\n' $last $last; exit 0;;
esac
echo "$@" >>$OUT/calls
unset MYTOKEN_SSH_SCRIPTS
test "$last" != tb || { ssh gate; exit 5; }
"#;

#[test]
fn an_unconfigured_jump_host_gets_no_token_from_plain_ssh() {
    let home = TestHome::new("", TOKEN);
    home.program("ssh", TO_ITS_HOST);
    configure(&home, "[[host]]\npattern = 'tb'\n");
    let output = after_env(&home, "ssh tb").env("OUT", home.dir.path()).output().unwrap();
    let calls = home.read("calls");
    let calls: Vec<&str> = calls.lines().collect();
    assert!(output.status.code() == Some(5) && calls.len() == 2, "{output:?} {calls:?}");
    assert!(calls[0].contains("-oStrictHostKeyChecking=accept-new") && calls[1] == "gate", "{calls:?}");
    // Below `mytoken-ssh ssh` each jump host may have one, by keys or whatever ssh tries first.
    std::fs::remove_file(home.path("calls")).unwrap();
    configure(&home, "");
    home.command(&["run", "ssh", "tb"]).env("OUT", home.dir.path()).output().unwrap();
    let calls = home.read("calls");
    let inner = calls.lines().nth(1).unwrap_or_default();
    assert!(inner.contains("-oKbdInteractiveAuthentication=yes") && !inner.contains("PreferredAuth"), "{calls}");
}

#[test]
fn a_copy_between_a_configured_host_and_another_one_is_the_programs_own() {
    let home = TestHome::new("", TOKEN);
    home.program("ssh", TO_ITS_HOST);
    home.program("scp", "echo \"$@\" >$OUT/scp");
    configure(&home, "[[host]]\npattern = 'tb'\n");
    let output = after_env(&home, "scp -3 tb:x other:y").env("OUT", home.dir.path()).output().unwrap();
    assert_eq!(home.read("scp"), "-3 tb:x other:y\n");
    assert!(told(&output).contains("scp gets no token: other is in no [[host]]; use: mytoken-ssh scp"), "{output:?}");
}

#[test]
fn a_script_named_ssh_that_starts_the_next_one_works_once() {
    let home = TestHome::new("exit 5", TOKEN);
    std::fs::create_dir(home.path("scripts")).unwrap();
    let script = "#!/bin/sh\necho script >>$OUT/scripts-run\nfor next in $(which -a ssh); do \
                  [ $next -ef $0 ] || exec $next \"$@\"; done\n";
    let file = home.path("scripts/ssh");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (shell, configuration) in [("ssh tb", ""), ("ssh tb", "[[host]]\npattern = 'tb'\n")] {
        configure(&home, configuration);
        let mut command =
            after_env(&home, &format!("PATH=${{PATH%%:*}}:$OUT/scripts:${{PATH#*:}}; timeout 20 {shell}"));
        let output = command.env("OUT", home.dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{configuration:?} {output:?}");
        let own = arguments(&home).iter().filter(|arg| arg.starts_with("-oNumberOfPasswordPrompts")).count();
        assert_eq!(own, usize::from(!configuration.is_empty()), "{:?}", arguments(&home));
    }
    // Each run looks up the version and the configuration by the first ssh, which is the script.
    assert!(home.read("scripts-run").lines().count() < 10, "{}", home.read("scripts-run"));
}

#[test]
fn entries_of_path_without_a_directory_lead_nowhere() {
    let home = TestHome::new("exit 5", TOKEN);
    // No script: what a script starts is known by its path.
    std::fs::create_dir(home.path("program")).unwrap();
    std::fs::copy("/bin/true", home.path("program/ssh")).unwrap();
    for path in ["$STAND::$REAL:/usr/bin:/bin", "$STAND:.:$REAL:/usr/bin:/bin:"] {
        let line = format!("STAND=${{PATH%%:*}} REAL=$OUT/program; cd $REAL; PATH={path}; timeout 20 ssh tb");
        let output = after_env(&home, &line).env("OUT", home.dir.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{path} {output:?}");
    }
}

#[test]
fn what_keeps_a_configured_host_from_its_token_does_not_keep_the_user_from_the_host() {
    let home = TestHome::new("exit 5", TOKEN);
    configure(&home, "[[host]]\npattern = 'tb'\n");
    let mut command = after_env(&home, "ssh tb true");
    let output = command.env_remove("XDG_RUNTIME_DIR").env("TMPDIR", "/nonexistent").output().unwrap();
    assert_eq!((output.status.code(), arguments(&home)), (Some(5), vec!["tb".to_owned(), "true".to_owned()]));
    assert!(
        told(&output).starts_with("mytoken-ssh: ssh gets no token: cannot create a private directory"),
        "{output:?}"
    );
}

#[test]
fn a_shell_that_outlives_the_run_gets_what_is_configured() {
    let home = TestHome::new("exit 5", TOKEN);
    let mut command = after_env(&home, "ssh tb true");
    command.env("MYTOKEN_SSH_OPTIONS", r#"{"run":"/nonexistent","server":"x","later":1}"#);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), arguments(&home)), (Some(5), vec!["tb".to_owned(), "true".to_owned()]));
    let mut damaged = after_env(&home, "ssh tb true");
    let output = damaged.env("MYTOKEN_SSH_OPTIONS", "x").output().unwrap();
    assert!(told(&output).contains("remove it: unset MYTOKEN_SSH_OPTIONS"), "{output:?}");
}

#[test]
fn a_program_that_is_missing_and_one_that_fails_are_told_by_the_status() {
    let home = TestHome::new("exit 0", TOKEN);
    let missing = home.run(&["run", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(told(&missing).contains("cannot run no-such-program: "), "{}", told(&missing));
    assert_eq!(home.run(&["run", "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(home.run(&["run", "sh", "-c", "kill -TERM $$"]).status.code(), Some(143));
    let nothing = home.run(&["run"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(told(&nothing).contains("no program is given; see mytoken-ssh run --help"), "{}", told(&nothing));
    assert!(home.runtime_directory_is_empty());
}

#[test]
fn an_inner_ssh_passes_other_prompts_to_the_askpass_of_the_user() {
    // As for a jump host: ssh starts another one, by its name. This ssh is a script, but stands for a program.
    let home = TestHome::new(
        "unset MYTOKEN_SSH_SCRIPTS; case $INNER in '') INNER=1 ssh gate; ask 'outer? ';; *) ask 'inner? ';; esac",
        TOKEN,
    );
    home.program("previous", "echo \"previous for $1\"");
    let mut command = home.command(&["run", "ssh", "tb"]);
    command.env("SSH_ASKPASS", home.path("bin/previous")).env("SSH_ASKPASS_REQUIRE", "force");
    let output = command.output().unwrap();
    assert_eq!(home.answers(), ["[0] previous for inner? ", "[0] previous for outer? "], "{}", told(&output));
    assert!(home.runtime_directory_is_empty());
}

#[test]
fn without_a_configured_host_ssh_is_itself() {
    let home = TestHome::new("exit 5", TOKEN);
    for configuration in [None, Some("[[host]]\npattern = 'other'\n"), Some("typo = 1\n")] {
        if let Some(text) = configuration {
            configure(&home, text);
        }
        let output = after_env(&home, "ssh -o PreferredAuthentications=publickey tb true").output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert_eq!(arguments(&home), ["-o", "PreferredAuthentications=publickey", "tb", "true"]);
        assert!(!home.read("environment").contains("ASKPASS"), "{}", home.read("environment"));
        // Nothing is said, unless the configuration is wrong.
        let is_wrong = configuration.is_some_and(|text| text.contains("typo"));
        assert_eq!(told(&output).contains("mytoken-ssh: ssh gets no token: "), is_wrong, "{}", told(&output));
        assert_eq!(told(&output).lines().count(), usize::from(is_wrong), "{}", told(&output));
    }
}

#[test]
fn a_configured_host_gets_a_token_from_plain_ssh() {
    let home = TestHome::new(ASKS, TOKEN);
    configure(&home, "[[host]]\npattern = 'tb'\n");
    let output = after_env(&home, "ssh tb true").output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(home.answers()[0], "[1] ");
    assert!(told(&output).contains("testbed: you have no mytoken; run: mytoken-ssh login"), "{}", told(&output));
    assert!(arguments(&home)[0].starts_with("-oNumberOfPasswordPrompts"), "{:?}", arguments(&home));
}

#[test]
fn the_line_for_the_shell_makes_links_that_work() {
    let home = TestHome::new("exit 5", TOKEN);
    for shell in ["bash", "zsh", "sh"] {
        let output = home.run(&["env", "--shell", shell]);
        assert!(told(&output).contains("no host gets a token yet"), "{}", told(&output));
        let line = String::from_utf8(output.stdout).unwrap();
        let shown = after_env(&home, &format!("{line}command -v ssh; ssh tb")).output().unwrap();
        assert_eq!(shown.status.code(), Some(5), "{line}");
        let link = home.path(".local/share/mytoken/bin/ssh");
        assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), link.display().to_string());
    }
    let fish = String::from_utf8(home.run(&["env", "--shell=fish"]).stdout).unwrap();
    assert!(fish.contains("set -gx PATH "), "{fish}");
}

/// An ssh that a host's command starts is none of the run's connections.
#[test]
fn the_command_of_a_host_has_nothing_of_what_is_for_connections() {
    const OPAQUE: &str = "0paque-token-of-a-provider";
    let home = TestHome::new("ask '(alice@testbed) Access Token: '", TOKEN);
    configure(&home, "[[host]]\npattern = \"tb\"\ncommand = [\"print\"]\n");
    let seen = home.path("seen").display().to_string();
    home.program("print", &format!("echo \"${{MYTOKEN_SSH_OPTIONS-none}} $MYTOKEN_SSH_DEPTH\" >{seen}; echo {OPAQUE}"));
    let output = home.run(&["run", "ssh", "tb"]);
    assert_eq!(home.read("answers"), format!("[0] {OPAQUE}\n"), "{output:?}");
    assert_eq!(home.read("seen"), "none 1\n");
}
