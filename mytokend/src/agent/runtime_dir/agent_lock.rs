// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lock of a runtime directory: two agents would renew each other's tokens and overwrite each other's leases. A broker has one, too.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::{Directory, Lock, lock};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

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

impl RuntimeDir {
    /// Locks the directory until the lock is dropped, or this process ends in whatever way.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lock(&self) -> Result<Lock, LockError> {
        lock_directory(&self.root, "agent")
    }
}

/// Locks the runtime directory of a program, "agent" or "broker", until the lock is dropped or this process ends in whatever way. The
/// locked file, `PROGRAM.lock`, contains the id of the process that has the lock, or of the last one.
///
/// # Errors
/// [`LockError`].
pub fn lock_directory(root: &Directory, program: &'static str) -> Result<Lock, LockError> {
    let name = format!("{program}.lock");
    let path = root.path().join(&name).display().to_string();
    let failed = |errno| LockError::Failed { path: path.clone(), errno };
    // Not opened for writing alone: the process id in it is read when the lock is taken.
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = openat(root.handle(), name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    let reader = file.try_clone().map_err(|error| failed(errno_of(&error)))?;
    match lock(file, Deadline::after(PATIENCE), Duration::from_millis(50)) {
        Ok(lock) => {
            // Without it the other one's message lacks the process id.
            let mut file = File::from(reader);
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(lock)
        }
        Err(Errno::EAGAIN) => {
            let mut pid = String::new();
            let _ = File::from(reader).take(16).read_to_string(&mut pid);
            let path = root.path().display().to_string();
            Err(LockError::InUse { program, path, pid: pid.trim().parse().ok() })
        }
        Err(errno) => Err(failed(errno)),
    }
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
        assert!(open().lock().is_ok());
    }
}
