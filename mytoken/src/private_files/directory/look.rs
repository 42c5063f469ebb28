// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells whether a directory could be made or written to, and changes nothing.

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{AccessFlags, faccessat};

use super::{Directory, failed};
use crate::private_files::{FileError, Owner};

impl Directory {
    /// Opens the directory `name` in this one if [`Directory::make`] could use it. `None` if there is none.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn look(&self, name: &str, owner: Owner, mode: u32) -> Result<Option<Self>, FileError> {
        if !self.has(name)? {
            return Ok(None);
        }
        let below = self.open_below(name)?;
        // The caller's own gets the owner and the mode.
        if below.stat()?.st_uid == Owner::current().uid {
            return Ok(Some(below));
        }
        self.enter(name, owner, mode).map(Some)
    }

    /// Whether this process could make a file in this directory: the kernel allows it, and there is room.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn could_write(&self) -> Result<(), FileError> {
        let allowed = faccessat(&self.fd, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS);
        allowed.map_err(|errno| failed(&self.path, errno))?;
        let space = fstatvfs(&self.fd).map_err(|errno| failed(&self.path, errno))?;
        // Some file systems do not count blocks or files.
        let full = |all, free| all > 0 && free == 0;
        if full(space.blocks(), space.blocks_free()) || full(space.files(), space.files_free()) {
            return Err(failed(&self.path, Errno::ENOSPC));
        }
        Ok(())
    }

    /// Bytes that are free on its file system. `None`: the file system does not count them.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    #[allow(clippy::useless_conversion, reason = "32 bits on some systems")]
    pub fn free_bytes(&self) -> Result<Option<u64>, FileError> {
        let space = fstatvfs(&self.fd).map_err(|errno| failed(&self.path, errno))?;
        let free = u64::from(space.blocks_free()).saturating_mul(u64::from(space.fragment_size()));
        Ok((space.blocks() > 0).then_some(free))
    }
}
