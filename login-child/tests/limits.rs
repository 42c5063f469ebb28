// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command inherits from a host that has been limited. One test, because the limits belong to the whole process.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tests/skipped.rs"]
mod skipped;

use std::path::Path;
use std::time::Duration;

use login_child::{Command, Ran, run};
use mytoken_wire::clock::Deadline;
use nix::unistd::geteuid;
use skipped::skip;

#[test]
fn a_command_has_usual_limits_whatever_the_host_has() {
    if !geteuid().is_root() {
        return skip("only root can give itself a better priority").unwrap();
    }
    // As `ulimit -S` and `nice` of the caller of a set-uid program. Not every root may raise hard limits.
    for (resource, soft) in [(libc::RLIMIT_NOFILE, 50), (libc::RLIMIT_FSIZE, 1 << 20), (libc::RLIMIT_STACK, 1 << 20)] {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: getrlimit(2) writes the structure.
        assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
        limit.rlim_cur = soft;
        // SAFETY: setrlimit(2) reads the structure.
        assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
    }
    // SAFETY: setpriority(2) takes any numbers; 0 is this process.
    assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) }, 0);
    let script = "nice; cat /proc/self/limits";
    let arguments = ["-c".to_owned(), script.to_owned()];
    let program = Path::new("/bin/sh");
    let command = Command { program, arguments: &arguments, user: None, input: b"", output_limit: 4096 };
    let ran = run(&command, Deadline::after(Duration::from_secs(20)));
    let Ok(Ran::Exited { status: 0, output, .. }) = ran else { panic!("{ran:?}") };
    let text = String::from_utf8(output).unwrap();
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines.first().map(String::as_str), Some("0"), "{lines:?}");
    for expected in
        ["Max open files 1024 ", "Max file size unlimited ", "Max stack size 8388608 ", "Max core file size 0 0 "]
    {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:?}");
    }
}
