// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::ssh::arguments::tests::{SCP, SFTP, SSH};

fn parsed(args: &[&str]) -> Result<Invocation, clap::Error> {
    parse(std::iter::once("mytoken-ssh").chain(args.iter().copied()).map(OsString::from).collect())
}

fn wrapper_options(args: &[&str]) -> WrapperOptions {
    match parsed(args) {
        Ok(Invocation::Ssh(options) | Invocation::Scp(options) | Invocation::Sftp(options)) => options,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// Each option in all its spellings.
fn spellings(options: &str) -> Vec<Vec<String>> {
    let letters: Vec<char> = options.chars().collect();
    let mut all = Vec::new();
    for (index, letter) in letters.iter().enumerate().filter(|(_, letter)| **letter != ':') {
        if letters.get(index + 1) != Some(&':') {
            all.push(vec![format!("-{letter}")]);
            continue;
        }
        all.extend(["--", "--delegate", "-oProxyCommand=x"].map(|value| vec![format!("-{letter}"), value.into()]));
        all.push(vec![format!("-{letter}x")]);
    }
    all
}

#[test]
fn every_option_of_ssh_scp_and_sftp_is_passed_on_unchanged() {
    let owns: [&[&str]; 3] = [&[], &["--delegate", "--server", "https://a"], &["--token-file", "token", "--ca=ca.pem"]];
    let mut tried = 0;
    for (program, strings) in [("ssh", &SSH[..]), ("scp", &SCP), ("sftp", &SFTP)] {
        for option in strings.iter().flat_map(|options| spellings(options)) {
            let mut line: Vec<&str> = option.iter().map(String::as_str).collect();
            line.extend(["alice@testbed", "--scope", "-v"]);
            for place in 0..=line.len() + 1 {
                let mut written = line.clone();
                if place <= line.len() {
                    written.insert(place, "--");
                }
                for own in owns {
                    let args: Vec<&str> = [program].iter().chain(own).chain(&written).copied().collect();
                    assert_eq!(wrapper_options(&args).args, written, "{args:?}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
}

#[test]
fn a_double_dash_ends_the_helpers_options() {
    let got = wrapper_options(&["ssh", "--", "--delegate", "--server"]);
    assert_eq!((got.token.delegate, got.args), (None, ["--", "--delegate", "--server"].map(OsString::from).to_vec()));
    // `--` is not taken as the value of an option.
    assert!(parsed(&["ssh", "--server", "--", "testbed"]).is_err());
}

#[test]
fn the_helpers_options_come_before_the_programs_arguments() {
    let got = wrapper_options(&["ssh", "--server", "https://a", "--delegate", "--scope=b", "testbed", "--scope", "c"]);
    assert_eq!((got.token.server.as_deref(), got.token.scope.as_deref()), (Some("https://a"), Some("b")));
    assert_eq!(got.args, ["testbed", "--scope", "c"]);
    for wrong in [&["ssh", "--no-such", "testbed"][..], &["ssh"], &["scp", "--delegate"], &["sftp", "--server", "x"]] {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_lifetime_of_a_delegation_is_optional() {
    assert_eq!(wrapper_options(&["ssh", "--delegate", "testbed"]).token.delegate, Some(Duration::seconds(86_400)));
    assert_eq!(wrapper_options(&["ssh", "--delegate=2h", "testbed"]).token.delegate, Some(Duration::seconds(7_200)));
    assert_eq!(wrapper_options(&["ssh", "testbed"]).token.delegate, None);
    assert_eq!(wrapper_options(&["ssh", "--delegate", "testbed"]).args, ["testbed"]);
}

#[test]
fn a_misspelt_command_is_told_apart_from_a_host() {
    for (word, meant) in [
        ("stauts", Some("status")),
        ("staus", Some("status")),
        ("logni", Some("login")),
        ("loginn", Some("login")),
        ("lgout", Some("logout")),
        ("shs", Some("ssh")),
        ("spc", Some("scp")),
        ("sfpt", Some("sftp")),
        ("list", Some("status")),
        ("revoke", Some("logout")),
        ("ssg", None),
        ("login1", None),
        ("login.hpc.example.org", None),
        ("alice@logni", None),
        ("testbed", None),
        ("status", None),
        ("cluster", None),
    ] {
        assert_eq!(meant_command(word).as_deref(), meant, "{word}");
    }
}

#[test]
fn what_is_written_at_the_wrong_place_is_told_with_what_to_write() {
    let told = |line: &[&str]| parsed(line).unwrap_err().to_string();
    for (line, part) in [
        (&["--delegate=9d", "testbed"][..], "mytoken-ssh ssh --delegate=9d ..."),
        (&["--lifetime", "9d"], "--lifetime is an option of login and comes after it: mytoken-ssh login --lifetime"),
        (&["--server=https://a", "testbed"], "mytoken-ssh ssh --server=https://a ..."),
        (&["-p", "22", "testbed"], "-p comes after the command: mytoken-ssh ssh -p ..."),
        (&["ssh", "--delegate", "24h", "testbed"], "write --delegate=24h"),
        (&["ssh", "--delegat", "testbed"], "'--delegate'"),
        (&["login", "--servr", "x"], "'--server'"),
    ] {
        assert!(told(line).contains(part), "{line:?}: {}", told(line));
    }
    for program in PROGRAMS {
        assert!(told(&[program, "-h"]).contains("Usage: mytoken-ssh"), "{program}");
    }
    assert_eq!(wrapper_options(&["sftp", "--", "-h"]).args, ["--", "-h"]);
    assert_eq!(wrapper_options(&["ssh", "--delegate", "24h.example.org"]).args, ["24h.example.org"]);
}

#[test]
fn a_host_without_a_command_is_short_for_ssh() {
    for line in [
        &["alice@testbed", "ls", "-l"][..],
        &["testbed", "--", "ls", "--help"],
        &["--", "-oProxyCommand=x", "testbed"],
        &["--", "login"],
    ] {
        assert!(matches!(parsed(line), Ok(Invocation::Host(args)) if args == line), "{line:?}");
    }
    assert!(matches!(parsed(&["status"]), Ok(Invocation::Status(_))));
    for line in [&["-p", "22", "testbed"][..], &["--delegate", "testbed"], &["help"], &["--help"], &[]] {
        assert!(parsed(line).is_err(), "{line:?}");
    }
}
