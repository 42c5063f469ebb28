// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands as children: what they get, how they end, and what they leave.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../tests/skipped.rs"]
mod skipped;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use login_child::{Command, Errno, Ran, User, run};
use mytoken_wire::clock::Deadline;
use nix::unistd::geteuid;
use skipped::skip;

const SHELL: &str = "/bin/sh";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn command_as(user: Option<User>, script: &str, input: &[u8], deadline: Deadline) -> Ran {
    let arguments = ["-c".to_owned(), script.to_owned()];
    let command = Command { program: Path::new(SHELL), arguments: &arguments, user, input, output_limit: 4096 };
    run(&command, deadline).unwrap()
}

fn shell(script: &str) -> Ran {
    command_as(None, script, b"", soon())
}

fn output(ran: Ran) -> String {
    let Ran::Exited { status: 0, output, .. } = ran else { panic!("{ran:?}") };
    String::from_utf8(output).unwrap()
}

/// No process has `text` among its arguments. A killed process that is nobody's child here is still seen while it ends.
fn nothing_is_left_of(text: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    let has_text = |process: &fs::DirEntry| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
    };
    while let Some(process) = fs::read_dir("/proc").unwrap().flatten().find(has_text) {
        assert!(Instant::now() < end, "{} is left", process.path().display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_gets_its_input_and_arguments_and_nothing_else() {
    // PWD is the shell's own.
    assert_eq!(output(command_as(None, "cat", b"{\"a\":1}", soon())), "{\"a\":1}");
    let given = output(shell("pwd; umask; env | grep -v '^\\(PWD\\|SHLVL\\|_\\|OLDPWD\\)='; ls /proc/$$/fd"));
    assert_eq!(given.split_whitespace().collect::<Vec<_>>(), ["/", "0077", "0", "1", "2"]);
    // Not a shell: an argument with blanks and quotes stays one.
    let arguments = ["%s|".to_owned(), "a b".to_owned(), "$(id)".to_owned()];
    let program = Path::new("/usr/bin/printf");
    let command = Command { program, arguments: &arguments, user: None, input: b"", output_limit: 100 };
    assert_eq!(output(run(&command, soon()).unwrap()), "a b|$(id)|");
}

#[test]
fn a_long_input_is_passed_whole_even_if_the_command_does_not_read_it() {
    let long = vec![b'x'; 300_000];
    assert_eq!(output(command_as(None, "wc -c", &long, soon())).trim(), "300000");
    assert_eq!(output(command_as(None, "exec <&-; echo done", &long, soon())), "done\n");
    let endless = vec![b'x'; 8 << 20];
    let command = Command { program: Path::new(SHELL), arguments: &[], user: None, input: &endless, output_limit: 9 };
    assert!(run(&command, soon()).is_err());
}

#[test]
fn the_end_of_a_command_is_told() {
    let failed = Ran::Exited { status: 3, output: b"out\n".to_vec(), errors: b"no\n".to_vec() };
    assert_eq!(shell("echo out; echo no >&2; exit 3"), failed);
    assert_eq!(shell("kill -SEGV $$"), Ran::Killed { signal: 11, errors: Vec::new() });
    let missing =
        Command { program: Path::new("/no/such/program"), arguments: &[], user: None, input: b"", output_limit: 100 };
    assert_eq!(run(&missing, soon()), Ok(Ran::NotStarted(Errno::ENOENT)));
    let directory = Command { program: Path::new("/etc"), ..missing };
    assert_eq!(run(&directory, soon()), Ok(Ran::NotStarted(Errno::EACCES)));
    let nul = Command { program: Path::new(SHELL), arguments: &["a\0b".to_owned()], ..missing };
    assert_eq!(run(&nul, soon()), Err(Errno::EINVAL));
}

#[test]
fn a_command_that_writes_too_much_is_stopped() {
    let began = Instant::now();
    assert_eq!(shell("yes"), Ran::TooMuch);
    // Only the begin of what it writes as errors is kept, and it does not wait for somebody to read the rest.
    let Ran::Exited { status: 0, output, errors } = shell("head -c 1000000 /dev/zero >&2; echo done") else { panic!() };
    assert_eq!((output.as_slice(), errors.len()), (&b"done\n"[..], 1024));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let began = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(700));
    // The children ignore the signals that can be ignored.
    let script = "trap '' TERM HUP INT; sleep 98765.4 & sleep 98765.4 & sleep 98765.4";
    assert_eq!(command_as(None, script, b"", deadline), Ran::TimedOut);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    nothing_is_left_of("98765.4");
}

#[test]
fn what_a_command_leaves_in_the_background_is_killed_and_delays_nobody() {
    let began = Instant::now();
    assert_eq!(output(shell("sleep 87654.3 & echo alice")), "alice\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    nothing_is_left_of("87654.3");
}

#[test]
fn a_command_runs_as_another_user_without_any_right_of_root() {
    if !geteuid().is_root() {
        return skip("only root can run a command as another user").unwrap();
    }
    let nobody = Some(User { uid: 65_534, gid: 65_534 });
    let script = "grep -h '^\\(Uid\\|Gid\\|Groups\\|CapPrm\\|CapEff\\|SigBlk\\|SigIgn\\):' /proc/self/status";
    let status = output(command_as(nobody, script, b"", soon()));
    let lines: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    let nothing = "0000000000000000";
    assert_eq!(lines[0], ["Uid:", "65534", "65534", "65534", "65534"]);
    assert_eq!(lines[1], ["Gid:", "65534", "65534", "65534", "65534"]);
    assert_eq!(lines[2], ["Groups:"]);
    assert_eq!(lines[3], ["SigBlk:", nothing]);
    assert_eq!(lines[4], ["SigIgn:", nothing]);
    assert_eq!(lines[5], ["CapPrm:", nothing]);
    assert_eq!(lines[6], ["CapEff:", nothing]);
}

#[test]
fn a_supervisor_that_is_stopped_is_no_timeout() {
    let arguments = ["-c".to_owned(), "kill -STOP $PPID; exec sleep 76543.2".to_owned()];
    let command = Command { program: Path::new(SHELL), arguments: &arguments, user: None, input: b"", output_limit: 9 };
    let began = Instant::now();
    assert_eq!(run(&command, Deadline::after(Duration::from_millis(700))), Err(Errno::ECHILD));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    nothing_is_left_of("76543.2");
}

#[test]
fn a_supervisor_that_is_killed_is_no_timeout() {
    let arguments = ["-c".to_owned(), "kill -KILL $PPID; sleep 60".to_owned()];
    let command = Command { program: Path::new(SHELL), arguments: &arguments, user: None, input: b"", output_limit: 9 };
    assert_eq!(run(&command, soon()), Err(Errno::ECHILD));
}
