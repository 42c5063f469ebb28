// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file with the counts of requests, for the agent's next run.

use mytoken::private_files::{Directory, FileError, Owner};
use mytoken_login::open_runtime_dir;
use zeroize::Zeroizing;

use super::RuntimeDir;
use crate::agent::budget::kept_for_next_run::Keep;

/// Its name.
const NAME: &str = "requests.json";

/// Its largest size in bytes.
const LIMIT: usize = 4 * 1024 * 1024;

/// The file.
pub struct BudgetFile {
    root: Directory,
    owner: Owner,
}

impl RuntimeDir {
    /// The file.
    ///
    /// # Errors
    /// [`FileError::Unusable`] when the directory cannot be opened.
    pub fn budget_file(&self) -> Result<BudgetFile, FileError> {
        Ok(BudgetFile::new(open_runtime_dir(self.root.path(), self.owner)?, self.owner))
    }
}

impl BudgetFile {
    /// The file in this directory.
    #[must_use]
    pub fn new(root: Directory, owner: Owner) -> Self {
        Self { root, owner }
    }

    /// What was written to it last, if anything was.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        self.root.read(NAME, self.owner, 0o600, LIMIT)
    }
}

impl Keep for BudgetFile {
    fn keep(&self, counts: &[u8]) -> Result<(), FileError> {
        self.root.write_locked(NAME, counts, self.owner, 0o600)
    }
}
