// SPDX-License-Identifier: MIT OR Apache-2.0
//! The helper with the real ssh, scp and sftp of this machine. No server is needed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

#[path = "../../tests/skipped.rs"]
mod skipped;
mod test_home;

use std::process::{Command, Output};

use test_home::{TOKEN, TestHome};

/// A home directory without the fake ssh. `None`: OpenSSH is not installed.
fn home_with_openssh() -> Option<TestHome> {
    let installed = ["ssh", "scp", "sftp"].iter().all(|program| {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        found.is_ok_and(|found| found.status.success())
    });
    if !installed {
        skipped::skip("OpenSSH's client programs are not installed").unwrap();
        return None;
    }
    let home = TestHome::new("", TOKEN);
    std::fs::remove_file(home.path("bin/ssh")).unwrap();
    Some(home)
}

fn run(home: &TestHome, program: &str, args: &[&str]) -> Output {
    let file = home.path("token");
    let mut line = vec![program, "--token-file", file.to_str().unwrap()];
    line.extend(args);
    home.run(&line)
}

#[test]
fn a_host_after_a_double_dash_is_never_taken_for_an_option() {
    let Some(home) = home_with_openssh() else { return };
    let hit = home.path("hit");
    let option = format!("-oProxyCommand=touch {}", hit.display());
    let with_path = format!("{option}:x");
    let lines: [(&str, &[&str]); 4] = [
        ("ssh", &["--", &option, "tb"]),
        ("ssh", &["-v", "--", &option, "tb"]),
        ("scp", &["--", &with_path, "."]),
        ("sftp", &["--", &option]),
    ];
    for (program, line) in lines {
        let output = run(&home, program, line);
        assert!(!output.status.success() && !hit.exists(), "{program} {line:?}: {output:?}");
    }
    // Without the double dash it is an option. Otherwise the checks above would prove nothing.
    run(&home, "ssh", &[&option, "tb"]);
    assert!(hit.exists());
}

#[test]
fn ssh_options_that_need_no_host_work() {
    let Some(home) = home_with_openssh() else { return };
    for args in [&["-V"][..], &["-Q", "cipher"], &["-vV", "tb"]] {
        let output = run(&home, "ssh", args);
        let alone = Command::new("ssh").args(args).output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (alone.status.code(), alone.stdout), "{args:?}");
        assert!(output.stderr.ends_with(&alone.stderr), "{args:?}");
    }
}

#[test]
fn what_ssh_does_without_a_login_is_ssh_itself() {
    let Some(home) = home_with_openssh() else { return };
    let alone = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home.dir.path());
        command.output().unwrap()
    };
    let lines: [(&str, &[&str]); 8] = [
        ("ssh", &["-G", "tb"]),
        ("ssh", &["tb", "-G"]),
        ("ssh", &["-O", "check", "-S", "/nonexistent", "tb"]),
        ("ssh", &["-O", "nonsense", "tb"]),
        ("ssh", &["-Z", "tb"]),
        ("ssh", &["-oNoSuchOption=x", "tb"]),
        ("scp", &["-oNoSuchOption=x", "/dev/null", "tb:"]),
        ("sftp", &["-oNoSuchOption=x", "tb"]),
    ];
    for (program, args) in lines {
        let (own, helped) = (alone(program, args), run(&home, program, args));
        let seen = [&own, &helped].map(|output| {
            let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
            // scp and sftp meet the broken pipe to their ssh, the end of its output, or its signal, whatever comes first.
            // What they say of it and their status differ from run to run.
            let of_the_end =
                |line: &&str| ["Connection closed", "lost connection"].iter().any(|end| line.contains(end));
            let said: Vec<_> = error.split(['\r', '\n']).filter(|line| !of_the_end(line)).collect();
            let status = if program == "ssh" { output.status.code() } else { Some(output.status.success().into()) };
            (status, out, said.join("\n").trim().to_owned())
        });
        assert_eq!(seen[0], seen[1], "{program} {args:?}");
        assert!(!(own.stdout.is_empty() && own.stderr.is_empty()), "{program} {args:?}");
    }
}

#[test]
fn an_alias_of_the_user_is_no_misspelt_command() {
    let Some(home) = home_with_openssh() else { return };
    let told = || String::from_utf8_lossy(&home.run(&["logni"]).stderr).into_owned();
    assert!(told().contains("logni is not a command; did you mean: mytoken-ssh login?"), "{}", told());
    // ssh reads the configuration of the account, wherever HOME is, so a script gives it another one.
    let real = Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap().stdout;
    std::fs::write(home.path("config"), "Host logni\n  HostName tb.invalid\n").unwrap();
    let (real, config) = (String::from_utf8(real).unwrap(), home.path("config"));
    home.program("ssh", &format!("exec {} -F {} \"$@\"", real.trim(), config.display()));
    assert!(!told().contains("is not a command"), "{}", told());
}

/// The account that the helper expects for this operand, and the account that the program passes to ssh. `None`: the
/// program does not start ssh.
fn accounts(home: &TestHome, program: &str, operand: &str) -> (Option<String>, Option<String>) {
    let [asked, ran] = ["asked", "ran"].map(|name| home.path(name));
    for file in [&asked, &ran] {
        std::fs::remove_file(file).unwrap_or_default();
    }
    let write_arguments = |file: &std::path::Path| format!("printf '%s\\n' \"$@\" > {}", file.display());
    let real = Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap().trim().to_owned();
    home.program(
        "ssh",
        &format!(
            "case $1 in -G) shift; {}; exec {real} -G -F none \"$@\";; *) exec {real} \"$@\";; esac",
            write_arguments(&asked)
        ),
    );
    home.program("run", &write_arguments(&ran));
    let run_by = home.path("bin/run");
    let mut args = vec!["-S", run_by.to_str().unwrap(), operand];
    args.extend((program == "scp").then_some("."));
    run(home, program, &args);
    std::fs::remove_file(&ran).unwrap_or_default();
    // Without the helper.
    Command::new(program).args(&args).output().unwrap();
    let account = |file: &std::path::Path| {
        let args = std::fs::read_to_string(file).ok()?;
        let output = Command::new(&real).args(["-G", "-F", "none"]).args(args.lines()).output().unwrap();
        let resolved = String::from_utf8(output.stdout).unwrap();
        let value = |key: &str| resolved.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
        Some(format!("{}@{} {}", value("user "), value("hostname "), value("port ")))
    };
    (account(&asked), account(&ran))
}

#[test]
fn the_helper_expects_the_account_that_scp_and_sftp_pass_to_ssh() {
    let Some(home) = home_with_openssh() else { return };
    let urls = [
        "tb",
        "tb:22",
        "tb:2222/x",
        "alice@tb/x",
        "alice@tb:2222/x",
        "a+b@tb/x",
        "a%2Bb@tb/x",
        "a%40b@tb:2222/x",
        "a%zz@tb/x",
        "a%4@tb/x",
        "al%20ice@tb",
        "alice;fingerprint=ssh-rsa-x@tb/x",
        "alice;x=1;y=2@tb:22/x",
        ";x@tb/x",
        "@tb/x",
        "tb/a@b",
        "tb/dir@other/file",
        "tb/a%2fb@other:2222/x",
        "alice@tb/a@b",
        "alice@tb/a;b@c+d",
        "al@ice@tb/x",
        "al:ice@tb/x",
        "al/ice@tb/x",
        "[::1]/x",
        "alice@[::1]:2222/x",
        "alice@[::1]x/y",
        "tb:ssh/x",
        "tb:/x",
        "tb:99999/x",
        "%74b/x",
        "tb?x@y/z",
        "tb#x@y/z",
        "-tb/x",
        "/x",
        "",
    ];
    let others = [
        "@tb",
        "a@b/c@tb",
        "tb:x",
        "alice@tb:x",
        "al@ice@tb:x",
        "alice@[::1]:x",
        "[::1]:x",
        "a+b@tb:x",
        "a%40b@tb:x",
        "a;b@tb:x",
        "SCP://tb/x",
    ];
    let mut asked_for = 0;
    for program in ["scp", "sftp"] {
        let urls = urls.iter().map(|url| format!("{program}://{url}"));
        for operand in urls.chain(others.map(str::to_owned)) {
            let (expected, real) = accounts(&home, program, &operand);
            // If the program refuses the operand, no host gets to ask for a token.
            if real.is_some() {
                assert_eq!(expected, real, "{program} {operand}");
                asked_for += usize::from(real.as_deref() != Some("@ "));
            }
        }
    }
    assert!(asked_for > 40, "{asked_for}");
}
