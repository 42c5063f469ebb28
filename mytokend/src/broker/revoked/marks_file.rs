// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file with what was revoked, in the broker's runtime directory: a restart must not forget it, and a reboot may.

use mytoken::private_files::{Directory, FileError, Owner};

use crate::agent::budget::kept_for_next_run::Keep;

/// Its name.
const NAME: &str = "revocations.json";

/// Its mode.
const MODE: u32 = 0o600;

/// Its largest size in bytes.
const LIMIT: usize = 4 * 1024 * 1024;

/// The file.
pub struct MarksFile {
    directory: Directory,
    owner: Owner,
}

impl MarksFile {
    /// The file in this directory, of which the caller holds the lock.
    #[must_use]
    pub fn new(directory: Directory, owner: Owner) -> Self {
        Self { directory, owner }
    }

    /// What was written to it last, if anything was.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.directory.read(NAME, self.owner, MODE, LIMIT)?.map(|bytes| bytes.to_vec()))
    }
}

impl Keep for MarksFile {
    fn keep(&self, marks: &[u8]) -> Result<(), FileError> {
        self.directory.write_locked(NAME, marks, self.owner, MODE)
    }
}
