// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that several processes change, each with a lock.

use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::{Directory, IfExists, failed, refused};
use crate::Deadline;
use crate::private_files::mode::FileMode;
use crate::private_files::{FileError, Lock, Owner, lock};

impl Directory {
    /// Like [`Self::write_locked`]. After it returns, the file survives a power failure.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_locked_durably(&self, name: &str, bytes: &[u8], owner: Owner, mode: u32) -> Result<(), FileError> {
        self.below(name)?;
        let temporary = format!(".{name}.new");
        self.remove(&temporary)?;
        self.put_by(&temporary, name, bytes, owner, mode, IfExists::Replace, true)
    }

    /// Waits for the lock of the file `name`, and makes the file if it is missing. It stays: whoever waits for it has
    /// it open. Trying again takes `interval`.
    ///
    /// # Errors
    /// [`FileError::Unusable`], also if another process holds the lock until the deadline.
    pub fn lock_file(&self, name: &str, deadline: Deadline, interval: Duration) -> Result<Lock, FileError> {
        let path = self.below(name)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd =
            openat(&self.fd, name, flags, Mode::from_bits_truncate(0o600)).map_err(|errno| failed(&path, errno))?;
        let stat = fstat(&fd).map_err(|errno| failed(&path, errno))?;
        if !FileMode::of(&stat).is_regular() {
            return Err(refused(&path, "it is not a regular file"));
        }
        lock(fd, deadline, interval).map_err(|errno| failed(&path, errno))
    }
}
