// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock of a runtime directory: two agents would renew each other's tokens and overwrite each other's leases. A broker has one, too.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::{Directory, Lock, lock};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::RuntimeDir;

/// How long a program that starts waits for one that is just ending.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why the runtime directory is not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one has the lock.
    #[error("another {program}{} uses {path}; stop that one first, or give this one another runtime_dir", with_pid(*pid))]
    InUse {
        /// "agent" or "broker".
        program: &'static str,
        /// The runtime directory.
        path: String,
        /// The other one's process.
        pid: Option<u32>,
        /// That was killed and cannot end.
        is_killed: bool,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {path}: {errno}")]
    Failed {
        /// The file.
        path: String,
        /// The system's error.
        errno: Errno,
    },
}

fn with_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// The lock of an agent's runtime directory.
#[derive(Debug)]
pub struct AgentLock {
    /// The lock.
    pub lock: Lock,
    /// The agent that had it, if that was killed and could not end.
    pub killed: Option<u32>,
}

impl RuntimeDir {
    /// Locks the directory until the lock is dropped, or this process ends in whatever way.
    ///
    /// A user can make a thread of the agent hang in the kernel, where not even SIGKILL ends it (KERN-01). Then the process keeps its
    /// descriptors, and the lock with them. It runs no code any more, so its lock does not count.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lock(&self) -> Result<AgentLock, LockError> {
        let (program, root) = ("agent", &self.root);
        let not_killed = |lock| AgentLock { lock, killed: None };
        let first = lock_directory(root, program);
        match first {
            Ok(_) | Err(LockError::InUse { is_killed: true, .. }) => {}
            Err(error) => return Err(error),
        }
        // Of several that start, one does this at a time.
        let _turn = lock_file(root, program, "agent.lock.turn")?;
        let name = lock_name(program);
        let path = root.path().join(&name).display().to_string();
        if let Ok(lock) = first {
            // The killed process may have ended just when another agent was about to take its place: then that one has removed this file,
            // perhaps after it was locked here.
            if !is_removed(&*lock).map_err(|errno| LockError::Failed { path: path.clone(), errno })? {
                return Ok(not_killed(lock));
            }
        }
        match lock_directory(root, program) {
            Err(LockError::InUse { pid: Some(pid), is_killed: true, .. }) => {
                unlinkat(root.handle(), name.as_str(), UnlinkatFlags::NoRemoveDir)
                    .map_err(|errno| LockError::Failed { path, errno })?;
                lock_directory(root, program).map(|lock| AgentLock { lock, killed: Some(pid) })
            }
            other => other.map(not_killed),
        }
    }
}

/// What the locked file says of a process: its id, its start time and its PID namespace. A process id alone may be that of another process, or
/// of one in another container that has the same runtime directory. Earlier releases write the id alone, and read 16 bytes.
fn holder(pid: u32) -> String {
    let known = start_time(pid).zip(pid_namespace());
    let more = known.map(|(start, namespace)| format!("{start} {namespace}\n")).unwrap_or_default();
    format!("{pid:<15}\n{more}")
}

/// Whether [`holder`] has written this of a process that was killed and cannot end.
fn is_of_killed(text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let Some(pid) = words.next().and_then(|pid| pid.parse::<u32>().ok()) else { return false };
    let start = words.next().and_then(|start| start.parse::<u64>().ok());
    let namespace = words.next();
    let is_same = start.is_some() && start_time(pid) == start;
    is_same && namespace.is_some() && pid_namespace().as_deref() == namespace && is_killed(pid)
}

/// Field 22 of `/proc/PID/stat`. A process that was killed has one, too.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// That of this process.
fn pid_namespace() -> Option<String> {
    fs::read_link("/proc/self/ns/pid").ok()?.into_os_string().into_string().ok()
}

/// Whether this process was killed and cannot end.
fn is_killed(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| shows_kill(&status))
}

/// Whether the text of `/proc/PID/status` is that of a process whose first thread has ended, or has got SIGKILL.
fn shows_kill(status: &str) -> bool {
    let value = |line: &str, name: &str| line.strip_prefix(name).map(|value| value.trim().to_owned());
    status.lines().any(|line| {
        let pending = value(line, "ShdPnd:").or_else(|| value(line, "SigPnd:"));
        let signals = pending.and_then(|pending| u64::from_str_radix(&pending, 16).ok()).unwrap_or(0);
        signals & SIGKILL != 0 || value(line, "State:").is_some_and(|state| state.starts_with('Z'))
    })
}

/// Its bit in a set of signals: the ninth.
const SIGKILL: u64 = 1 << 8;

fn lock_name(program: &str) -> String {
    format!("{program}.lock")
}

/// Locks the runtime directory of a program, "agent" or "broker", until the lock is dropped or this process ends in whatever way. The
/// locked file, `PROGRAM.lock`, begins with the id of the process that has the lock, or of the last one.
///
/// # Errors
/// [`LockError`].
pub fn lock_directory(root: &Directory, program: &'static str) -> Result<Lock, LockError> {
    lock_file(root, program, &lock_name(program))
}

fn lock_file(root: &Directory, program: &'static str, name: &str) -> Result<Lock, LockError> {
    let path = root.path().join(name).display().to_string();
    let failed = |errno| LockError::Failed { path: path.clone(), errno };
    // Not opened for writing alone: the process id in it is read when the lock is taken.
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = openat(root.handle(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    let reader = file.try_clone().map_err(|error| failed(errno_of(&error)))?;
    match lock(file, Deadline::after(PATIENCE), Duration::from_millis(50)) {
        Ok(lock) => {
            // Another program has removed the file meanwhile, because a killed process had its lock.
            if is_removed(&reader).map_err(failed)? {
                drop(lock);
                return lock_file(root, program, name);
            }
            // Without it the other one's message lacks the process id.
            let mut file = File::from(reader);
            let _ = file.set_len(0).and_then(|()| file.write_all(holder(std::process::id()).as_bytes()));
            Ok(lock)
        }
        Err(Errno::EAGAIN) => {
            let mut text = String::new();
            let _ = File::from(reader).take(128).read_to_string(&mut text);
            let path = root.path().display().to_string();
            let pid = text.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
            Err(LockError::InUse { program, path, pid, is_killed: is_of_killed(&text) })
        }
        Err(errno) => Err(failed(errno)),
    }
}

fn is_removed(file: &impl AsFd) -> Result<bool, Errno> {
    fstat(file).map(|stat| stat.st_nlink == 0)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;

    use super::*;

    #[test]
    fn a_second_agent_is_refused_and_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let open = || RuntimeDir::open(&dir.path().join("mytoken"), Owner::current()).unwrap();
        let first = open().lock().unwrap();
        let refused = open().lock().unwrap_err().to_string();
        let pid = std::process::id();
        let path = dir.path().join("mytoken").display().to_string();
        assert_eq!(
            refused,
            format!(
                "another agent (process {pid}) uses {path}; stop that one first, or give this one another runtime_dir"
            )
        );
        drop(first);
        assert!(open().lock().is_ok_and(|lock| lock.killed.is_none()));
    }

    #[test]
    fn the_lock_of_an_agent_that_was_killed_and_cannot_end_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let open = || RuntimeDir::open(&dir.path().join("mytoken"), Owner::current()).unwrap();
        let _kept = open().lock().unwrap();
        // A process that has ended, and that nobody has waited for, in place of one whose other thread hangs.
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        while !is_killed(killed.id()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let text = holder(killed.id());
        assert!(is_of_killed(&text));
        let namespace = pid_namespace().unwrap();
        for other in [
            killed.id().to_string(),
            text.replace(&namespace, "pid:[1]"),
            format!("{} {} {namespace}", killed.id(), start_time(killed.id()).unwrap() + 1),
        ] {
            assert!(!is_of_killed(&other), "{other}: perhaps another process");
        }
        fs::write(dir.path().join("mytoken/agent.lock"), &text).unwrap();
        let lock = open().lock().unwrap();
        assert_eq!(lock.killed, Some(killed.id()));
        killed.wait().unwrap();
        // The new one counts again.
        assert!(matches!(open().lock(), Err(LockError::InUse { .. })));
    }

    #[test]
    fn a_lock_of_a_file_that_another_agent_removes_at_this_moment_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let open = || RuntimeDir::open(&dir.path().join("mytoken"), Owner::current()).unwrap();
        let path = dir.path().join("mytoken/agent.lock");
        // The other one takes the place of a killed agent, which has ended just now.
        let other = open();
        let turn = lock_file(&other.root, "agent", "agent.lock.turn").unwrap();
        std::thread::scope(|scope| {
            let started = scope.spawn(|| open().lock());
            while !fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
                std::thread::sleep(Duration::from_millis(2));
            }
            fs::remove_file(&path).unwrap();
            drop(turn);
            let _kept = started.join().unwrap().unwrap();
            assert!(matches!(open().lock(), Err(LockError::InUse { .. })));
        });
    }

    #[test]
    fn the_earlier_release_finds_the_process_in_the_lock() {
        let text = holder(std::process::id());
        assert_eq!(text[..16].trim().parse(), Ok(std::process::id()));
        assert!(!is_of_killed(&text), "it runs");
    }

    #[test]
    fn only_a_process_that_was_killed_shows_it() {
        let status = |state: &str, own: &str, shared: &str| {
            format!("Name:\tmytokend\nState:\t{state}\nSigQ:\t0/1\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0100\n")
        };
        let (none, kill, term) = ("0000000000000000", "0000000000000100", "0000000000004000");
        for (text, expected) in [
            (status("S (sleeping)", none, none), false),
            (status("D (disk sleep)", none, term), false),
            (status("D (disk sleep)", none, kill), true),
            (status("D (disk sleep)", kill, none), true),
            (status("Z (zombie)", none, none), true),
            (String::new(), false),
        ] {
            assert_eq!(shows_kill(&text), expected, "{text}");
        }
        assert!(!is_killed(std::process::id()));
    }
}
