// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that several processes change, each with a lock.

use super::{Directory, IfExists};
use crate::private_files::{FileError, Owner};

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
}
