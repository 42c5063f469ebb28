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
