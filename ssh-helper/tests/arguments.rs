// SPDX-License-Identifier: MIT OR Apache-2.0
//! The helper passes the user's arguments to ssh, scp and sftp unchanged and in order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "clippy recognises test code only by its attribute")]

mod test_home;

use test_home::{TOKEN, TestHome};

/// Fakes of the three programs. They write their arguments to a file, one per line.
fn test_home() -> TestHome {
    let home = TestHome::new("exit 0", TOKEN);
    for program in ["scp", "sftp"] {
        home.program(program, &format!("printf '%s\\n' \"$@\" > {}", home.path("argv").display()));
    }
    home
}

/// How the options begin that the helper puts first.
const HELPER_OPTIONS: [&str; 7] = [
    "-oNumberOfPasswordPrompts=1",
    "-oStrictHostKeyChecking=",
    "-oKbdInteractiveAuthentication=yes",
    "-oPreferredAuthentications=keyboard-interactive,",
    "-oControlMaster=no",
    "-oPermitLocalCommand=yes",
    "-oLocalCommand=env \"$MYTOKEN_SSH_ASKPASS\" --authenticated",
];

/// The program's arguments without the options that the helper puts first.
fn user_arguments(home: &TestHome) -> Vec<String> {
    let argv: Vec<String> = home.read("argv").lines().map(str::to_owned).collect();
    argv.into_iter().skip_while(|arg| HELPER_OPTIONS.iter().any(|option| arg.starts_with(option))).collect()
}

/// Runs the helper. Describes the difference if the program did not get `written`. `own`: options of the helper.
fn check(home: &TestHome, own: &[&str], program: Option<&str>, written: &[&str]) -> Option<String> {
    std::fs::remove_file(home.path("argv")).unwrap_or_default();
    let mut args: Vec<&str> = program.into_iter().collect();
    args.extend(own);
    args.extend(written);
    let output = home.run(&args);
    let got = user_arguments(home);
    (got != written).then(|| format!("{args:?}: got {got:?} {}", String::from_utf8_lossy(&output.stderr)))
}

/// The getopt strings of OpenSSH 9.2 and 10.0 (SSH-25). `ssh -P` takes a value since 9.4.
const OPTIONS: [(&str, &str); 4] = [
    ("ssh", "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:PQ:R:S:TVw:W:XYy"),
    ("ssh", "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"),
    ("scp", "12346ABCTdfOpqRrstvD:F:J:M:P:S:c:i:l:o:X:"),
    ("sftp", "1246AafhNpqrvCc:D:i:l:o:s:S:b:B:F:J:P:R:X:"),
];

#[test]
fn every_option_of_ssh_scp_and_sftp_is_passed_on() {
    let home = test_home();
    let file = home.path("token");
    let own = ["--token-file", file.to_str().unwrap()];
    let mut wrong = Vec::new();
    for (program, options) in OPTIONS {
        let letters: Vec<char> = options.chars().collect();
        for (index, letter) in letters.iter().enumerate().filter(|(_, letter)| **letter != ':') {
            let option = format!("-{letter}");
            let mut line = vec![option.as_str()];
            if letters.get(index + 1) == Some(&':') {
                line.push("--");
            }
            line.extend(["alice@tb:x", "--scope"]);
            wrong.extend(check(&home, &own, Some(program), &line));
            line.insert(0, "--");
            wrong.extend(check(&home, &own, Some(program), &line));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_program_that_works_although_its_destination_is_not_known_is_told_to_have_no_token() {
    let home = TestHome::new("exit 0", TOKEN);
    home.program("ssh", "case $1 in -G) echo 'no such option' >&2; exit 255;; esac; exit $CODE");
    for (code, is_told) in [("0", true), ("255", false)] {
        let output = home.command(&["ssh", "tb"]).env("CODE", code).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code().unwrap().to_string(), told.contains("ssh got no token: ")),
            (code.into(), is_told)
        );
    }
}

#[test]
fn arguments_are_passed_on_unchanged_wherever_the_double_dash_is() {
    let home = test_home();
    let file = home.path("token");
    let file = file.to_str().unwrap();
    let owns: [&[&str]; 2] = [&["--token-file", file], &[&format!("--token-file={file}")]];
    let lines: [(Option<&str>, &[&str]); 4] = [
        (Some("ssh"), &["-v", "tb", "ls", "-l", "--delegate"]),
        (Some("ssh"), &["-oProxyCommand=touch hit", "tb", "--server", "x"]),
        (Some("scp"), &["-r", "a", "tb:b"]),
        (Some("sftp"), &["-v", "tb:b"]),
    ];
    let mut wrong = Vec::new();
    for (program, line) in lines {
        for own in owns {
            wrong.extend(check(&home, own, program, line));
            for place in 0..=line.len() {
                let mut written = line.to_vec();
                written.insert(place, "--");
                wrong.extend(check(&home, own, program, &written));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
