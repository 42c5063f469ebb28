// SPDX-License-Identifier: MIT OR Apache-2.0
//! The helper around the real ssh, scp and sftp of this machine. No server is needed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the lints know tests only by their attribute")]

#[path = "../../tests/skipped.rs"]
mod skipped;
mod world;

use std::process::{Command, Output};

use world::{TOKEN, World};

/// A user with the programs of this machine; none where they are missing.
fn world() -> Option<World> {
    let there = ["ssh", "scp", "sftp"].iter().all(|program| {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        found.is_ok_and(|found| found.status.success())
    });
    if !there {
        skipped::skip("OpenSSH's client programs are not installed").unwrap();
        return None;
    }
    let world = World::new("", TOKEN);
    std::fs::remove_file(world.path("bin/ssh")).unwrap();
    Some(world)
}

fn run(world: &World, program: &str, args: &[&str]) -> Output {
    let file = world.path("token");
    let mut line = vec![program, "--token-file", file.to_str().unwrap()];
    line.extend(args);
    world.run(&line)
}

#[test]
fn a_host_that_looks_like_an_option_is_a_host_behind_a_double_dash() {
    let Some(world) = world() else { return };
    let hit = world.path("hit");
    let option = format!("-oProxyCommand=touch {}", hit.display());
    let with_path = format!("{option}:x");
    let lines: [(&str, &[&str]); 4] = [
        ("ssh", &["--", &option, "tb"]),
        ("ssh", &["-v", "--", &option, "tb"]),
        ("scp", &["--", &with_path, "."]),
        ("sftp", &["--", &option]),
    ];
    for (program, line) in lines {
        let output = run(&world, program, line);
        assert!(!output.status.success() && !hit.exists(), "{program} {line:?}: {output:?}");
    }
    // As an option it is one, or nothing was shown above.
    run(&world, "ssh", &[&option, "tb"]);
    assert!(hit.exists());
}

#[test]
fn what_ssh_does_without_a_host_it_does_here() {
    let Some(world) = world() else { return };
    for args in [&["-V"][..], &["-Q", "cipher"], &["-vV", "tb"]] {
        let output = run(&world, "ssh", args);
        let alone = Command::new("ssh").args(args).output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (alone.status.code(), alone.stdout), "{args:?}");
        assert!(output.stderr.ends_with(&alone.stderr), "{args:?}");
    }
}

/// Where a program goes with this operand: the account that the helper expects, and the one that the program hands to ssh. `None`:
/// it asks for none.
fn accounts(world: &World, program: &str, operand: &str) -> (Option<String>, Option<String>) {
    let [asked, ran] = ["asked", "ran"].map(|name| world.path(name));
    for file in [&asked, &ran] {
        std::fs::remove_file(file).unwrap_or_default();
    }
    let note = |file: &std::path::Path| format!("printf '%s\\n' \"$@\" > {}", file.display());
    let real = Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap().trim().to_owned();
    world.program(
        "ssh",
        &format!(
            "case $1 in -G) shift; {}; exec {real} -G -F none \"$@\";; *) exec {real} \"$@\";; esac",
            note(&asked)
        ),
    );
    world.program("run", &note(&ran));
    let run_by = world.path("bin/run");
    let mut args = vec!["-S", run_by.to_str().unwrap(), operand];
    args.extend((program == "scp").then_some("."));
    run(world, program, &args);
    std::fs::remove_file(&ran).unwrap_or_default();
    // Alone, so that nothing of the helper's is between.
    Command::new(program).args(&args).output().unwrap();
    let account = |file: &std::path::Path| {
        let args = std::fs::read_to_string(file).ok()?;
        let said = Command::new(&real).args(["-G", "-F", "none"]).args(args.lines()).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
        Some(format!("{}@{} {}", value("user "), value("hostname "), value("port ")))
    };
    (account(&asked), account(&ran))
}

#[test]
fn the_account_is_the_one_that_scp_and_sftp_ask_ssh_for() {
    let Some(world) = world() else { return };
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
            let (expected, real) = accounts(&world, program, &operand);
            // What the program refuses is never asked for.
            if real.is_some() {
                assert_eq!(expected, real, "{program} {operand}");
                asked_for += usize::from(real.as_deref() != Some("@ "));
            }
        }
    }
    assert!(asked_for > 40, "{asked_for}");
}
