// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moves an entry to another directory.

use nix::fcntl::renameat;

use super::{Directory, failed};
use crate::private_files::FileError;

impl Directory {
    /// Moves the entry `name`, of whatever kind, to the directory `to` on the same file system, and replaces a file that is called `new`
    /// there. Links are not followed.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn move_to(&self, name: &str, to: &Self, new: &str) -> Result<(), FileError> {
        let path = self.below(name)?;
        to.below(new)?;
        renameat(&self.fd, name, &to.fd, new).map_err(|errno| failed(&path, errno))
    }
}
