// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a function with a user's identity for file operations, in one thread.

#[cfg(target_os = "linux")]
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

#[cfg(target_os = "linux")]
use super::error::FileError;

/// The owner of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// Root.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// The identity of the calling thread for file operations. A call with an invalid id changes nothing and returns the current id
    /// (setfsuid(2)).
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn current() -> Self {
        Self { uid: setfsuid(Uid::from_raw(u32::MAX)).as_raw(), gid: setfsgid(Gid::from_raw(u32::MAX)).as_raw() }
    }

    /// The identity of the process. Other systems have none for a single thread.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn current() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

/// Runs `work` with the file-system identity of `owner`: new files belong to the user, and the thread has only the user's rights. The
/// former identity is restored before this returns, also after a panic.
///
/// `setfsuid` and `setfsgid` change only the calling thread. `seteuid` would change all threads of sshd or slurmstepd, because glibc
/// applies it to every thread (SSH-30). The supplementary groups stay root's; they give no access to directories of mode 0700.
///
/// # Errors
/// [`FileError::Identity`] if the process is neither root nor `owner`, and the errors of `work`.
#[cfg(target_os = "linux")]
pub fn as_user<T>(owner: Owner, work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    let guard = Guard::enter(owner)?;
    let result = work();
    let former = guard.former;
    drop(guard);
    if Owner::current() == former { result } else { Err(FileError::Identity { uid: former.uid }) }
}

#[cfg(target_os = "linux")]
struct Guard {
    former: Owner,
}

#[cfg(target_os = "linux")]
impl Guard {
    fn enter(owner: Owner) -> Result<Self, FileError> {
        let guard = Self { former: Owner::current() };
        set(owner);
        // The calls report no error, so the identity is read again.
        if Owner::current() == owner { Ok(guard) } else { Err(FileError::Identity { uid: owner.uid }) }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Guard {
    fn drop(&mut self) {
        set(self.former);
    }
}

#[cfg(target_os = "linux")]
fn set(owner: Owner) {
    setfsgid(Gid::from_raw(owner.gid));
    setfsuid(Uid::from_raw(owner.uid));
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::skipped::skip;

    const NOBODY: Owner = Owner { uid: 65_534, gid: 65_534 };

    #[test]
    fn any_user_can_act_with_its_own_identity() {
        let before = Owner::current();
        assert_eq!(as_user(before, || Ok(Owner::current())), Ok(before));
        assert_eq!(Owner::current(), before);
    }

    #[test]
    fn the_former_identity_is_restored_even_after_a_panic() {
        let before = Owner::current();
        if before.uid != 0 {
            return skip("only root can act as another").unwrap();
        }
        assert_eq!(as_user(NOBODY, || Ok(Owner::current())).unwrap(), NOBODY);
        assert_eq!(Owner::current(), before);
        let _ = catch_unwind(AssertUnwindSafe(|| as_user(NOBODY, || -> Result<(), FileError> { panic!("injected") })));
        assert_eq!(Owner::current(), before);
    }

    #[test]
    fn other_threads_keep_their_identity() {
        let before = Owner::current();
        if before.uid != 0 {
            return skip("only root can act as another").unwrap();
        }
        as_user(NOBODY, || {
            let other = std::thread::spawn(|| {
                // A new thread inherits the identity of its creator. A thread that existed before keeps its own.
                Owner::current()
            });
            assert_eq!(other.join().unwrap(), NOBODY);
            Ok(())
        })
        .unwrap();
        let (start, started) = std::sync::mpsc::channel::<()>();
        let older = std::thread::spawn(move || {
            started.recv().unwrap();
            Owner::current()
        });
        as_user(NOBODY, || {
            start.send(()).unwrap();
            assert_eq!(older.join().unwrap(), before);
            Ok(())
        })
        .unwrap();
    }
}
