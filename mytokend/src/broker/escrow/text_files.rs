// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of the kept texts. Each call waits for the disk.

use std::fmt;

use mytoken::private_files::{Directory, FileError, Owner};

/// Mode of the files.
const MODE: u32 = 0o600;

/// Largest file: a sealed text has at most 16 KiB.
const LIMIT: usize = 24 * 1024;

/// Where the texts are.
pub trait TextFiles: fmt::Debug + Send + Sync {
    /// The names of all files.
    ///
    /// # Errors
    /// [`FileError`].
    fn names(&self) -> Result<Vec<String>, FileError>;

    /// The content of a file. `None` if there is none.
    ///
    /// # Errors
    /// [`FileError`].
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError>;

    /// Writes a file whole or not at all. After it returns, the file survives a power failure.
    ///
    /// # Errors
    /// [`FileError`].
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError>;

    /// Removes a file. It is no error if there is none.
    ///
    /// # Errors
    /// [`FileError`].
    fn remove(&self, name: &str) -> Result<(), FileError>;
}

/// A directory on the disk.
#[derive(Debug)]
pub struct TextDirectory {
    directory: Directory,
    owner: Owner,
}

impl TextDirectory {
    /// The files of `owner` in this directory.
    #[must_use]
    pub fn new(directory: Directory, owner: Owner) -> Self {
        Self { directory, owner }
    }
}

impl TextFiles for TextDirectory {
    fn names(&self) -> Result<Vec<String>, FileError> {
        self.directory.names()
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        // Ciphertext: the copy need not be wiped.
        Ok(self.directory.read(name, self.owner, MODE, LIMIT)?.map(|bytes| bytes.to_vec()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.directory.write_durably(name, bytes, self.owner, MODE)
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        self.directory.remove(name).map(drop)
    }
}
