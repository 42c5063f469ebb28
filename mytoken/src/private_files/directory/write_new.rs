// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes files that must not exist yet.

use super::{Directory, IfExists};
use crate::private_files::{FileError, Owner};

impl Directory {
    /// Like [`Self::write`], but fails if the file exists.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_new(&self, name: &str, bytes: &[u8], owner: Owner, mode: u32) -> Result<(), FileError> {
        self.put(name, bytes, owner, mode, IfExists::Fail, false)
    }

    /// Like [`Self::write_durably`], but fails if the file exists.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_new_durably(&self, name: &str, bytes: &[u8], owner: Owner, mode: u32) -> Result<(), FileError> {
        self.put(name, bytes, owner, mode, IfExists::Fail, true)
    }
}
