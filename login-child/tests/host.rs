// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host notices of a child: nothing. One test, because signal dispositions belong to the whole process.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use login_child::{Command, Ran, run};
use mytoken_wire::clock::Deadline;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitPidFlag, waitpid};

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

fn set(handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic number.
    unsafe { sigaction(Signal::SIGCHLD, &action) }.unwrap();
}

/// Signals, descriptors, identity, mask for new files, directory and children of this process.
fn state() -> Vec<String> {
    // Of this thread: the one that has started it may not have its signals back yet.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let kept = ["Umask:", "Uid:", "Gid:", "Groups:", "Threads:", "SigBlk:", "SigIgn:", "SigCgt:", "SigPnd:", "ShdPnd:"];
    let mut state: Vec<String> =
        status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut links: Vec<String> = descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok().map(|to| format!("{:?} {to:?}", entry.file_name())))
        .filter(|link| !link.contains("/proc/"))
        .collect();
    links.sort();
    state.extend(links);
    state.push(format!("{:?}", std::env::current_dir().unwrap()));
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        state.push(fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    }
    state
}

fn shell(script: &str, time: Duration) -> Ran {
    let arguments = ["-c".to_owned(), script.to_owned()];
    let program = Path::new("/bin/sh");
    let command = Command { program, arguments: &arguments, user: None, input: b"", output_limit: 100 };
    run(&command, Deadline::after(time)).unwrap()
}

#[test]
fn the_host_notices_nothing_of_a_child() {
    let long = Duration::from_secs(20);
    let fine = Ran::Exited { status: 0, output: b"alice\n".to_vec(), errors: Vec::new() };
    // A descriptor of the host that exec would not close. The command below must not have it.
    let (held, holding) = nix::unistd::pipe().unwrap();
    for handler in [SigHandler::SigDfl, SigHandler::SigIgn, SigHandler::Handler(count)] {
        set(handler);
        let before = state();
        assert_eq!(shell("echo alice", long), fine, "{handler:?}");
        assert_eq!(shell("sleep 60", Duration::from_millis(200)), Ran::TimedOut, "{handler:?}");
        assert_eq!(shell("yes", long), Ran::TooMuch, "{handler:?}");
        let seen = format!("test -e /proc/$$/fd/{} || echo alice", holding.as_raw_fd());
        assert_eq!(shell(&seen, long), fine, "{handler:?}");
        assert_eq!(state(), before, "{handler:?}");
        // No child is left, neither running nor as a zombie.
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)), Err(Errno::ECHILD));
    }
    assert_eq!(SIGNALS.load(Ordering::Relaxed), 0, "the host's handler was called");
    drop((held, holding));

    // A host that waits for every child that it can find.
    set(SigHandler::SigDfl);
    let end = Instant::now() + Duration::from_secs(1);
    let thief = std::thread::spawn(move || {
        let mut found = 0;
        while Instant::now() < end {
            found += usize::from(waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()));
        }
        found
    });
    while Instant::now() + Duration::from_millis(100) < end {
        assert_eq!(shell("echo alice", long), fine);
    }
    assert_eq!(thief.join().unwrap(), 0, "the host's wait found a child");
}
