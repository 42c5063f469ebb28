// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acting on files as a user, for one thread and one piece of work.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::FileError;
use super::Owner;

/// Does `work` with the file-system identity of `owner`: what the thread creates belongs to the user, and what the user may not
/// touch it may not touch either. The former identity is back when this returns, also after a panic.
///
/// `setfsuid` and `setfsgid` concern the calling thread only. `seteuid` would change every thread of sshd or slurmstepd, because
/// glibc broadcasts it (SSH-30). The supplementary groups stay root's; in directories of mode 0700 they open nothing.
///
/// # Errors
/// [`FileError::Identity`] when the process may not act as `owner` (it is neither root nor `owner`), and what `work` fails with.
pub fn as_user<T>(owner: Owner, work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    let guard = Guard::enter(owner)?;
    let result = work();
    let former = guard.former;
    drop(guard);
    if current() == former { result } else { Err(FileError::Identity { uid: former.uid }) }
}

/// The thread's file-system identity. An invalid id changes nothing and returns the present one (setfsuid(2)).
pub(super) fn current() -> Owner {
    Owner { uid: setfsuid(Uid::from_raw(u32::MAX)).as_raw(), gid: setfsgid(Gid::from_raw(u32::MAX)).as_raw() }
}

struct Guard {
    former: Owner,
}

impl Guard {
    fn enter(owner: Owner) -> Result<Self, FileError> {
        let guard = Self { former: current() };
        set(owner);
        // Neither call reports an error: only asking again shows whether it worked.
        if current() == owner { Ok(guard) } else { Err(FileError::Identity { uid: owner.uid }) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        set(self.former);
    }
}

fn set(owner: Owner) {
    setfsgid(Gid::from_raw(owner.gid));
    setfsuid(Uid::from_raw(owner.uid));
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::skipped::skip;

    const NOBODY: Owner = Owner { uid: 65_534, gid: 65_534 };

    #[test]
    fn everybody_may_act_as_himself() {
        let before = current();
        assert_eq!(as_user(before, || Ok(current())), Ok(before));
        assert_eq!(current(), before);
    }

    #[test]
    fn the_former_identity_is_back_afterwards_also_after_a_panic() {
        let before = current();
        if before.uid != 0 {
            return skip("only root can act as another").unwrap();
        }
        assert_eq!(as_user(NOBODY, || Ok(current())).unwrap(), NOBODY);
        assert_eq!(current(), before);
        let _ = catch_unwind(AssertUnwindSafe(|| as_user(NOBODY, || -> Result<(), FileError> { panic!("injected") })));
        assert_eq!(current(), before);
    }

    #[test]
    fn other_threads_keep_their_identity() {
        let before = current();
        if before.uid != 0 {
            return skip("only root can act as another").unwrap();
        }
        as_user(NOBODY, || {
            let other = std::thread::spawn(|| {
                // A thread inherits its creator's identity; one that existed before is not touched.
                current()
            });
            assert_eq!(other.join().unwrap(), NOBODY);
            Ok(())
        })
        .unwrap();
        let (tell, hear) = std::sync::mpsc::channel::<()>();
        let standing = std::thread::spawn(move || {
            hear.recv().unwrap();
            current()
        });
        as_user(NOBODY, || {
            tell.send(()).unwrap();
            assert_eq!(standing.join().unwrap(), before);
            Ok(())
        })
        .unwrap();
    }
}
