// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small files that are kept between processes: fetched keys and documents, and failures after which no request is sent for a while.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Deadline;
use crate::private_files::{Directory, FileError, Owner, lock};

/// Directory of the host's cache.
pub const DIRECTORY: &str = "/var/cache/mytoken";

/// Directory that is used if the first one cannot be used: a full disk or a wrong owner must not switch off the limits of logins.
pub const SECOND_DIRECTORY: &str = "/run/mytoken/cache";

/// Directory for programs without `SSH_CONNECTION` (su). The caller of a set-uid program can stop it while it holds the lock or waits for
/// a server, and can limit its open files. Such a caller must not affect logins over ssh.
pub const LOCAL_DIRECTORY: &str = "/run/mytoken/cache-local";

/// A user's cache, below the home directory.
pub const USER_DIRECTORY: &str = ".cache/mytoken";

/// Largest file that is read, in bytes.
const LIMIT: usize = 512 * 1024;

/// Time limit for getting the lock. A process holds the lock only to read and write one file. But on a busy machine a hundred logins may
/// want it, and polling gives them no order.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two attempts to get the lock.
const LOCK_POLL: Duration = Duration::from_millis(1);

/// Returns the new content of a file, given the old one; `None` leaves it as it is.
type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// A directory of mode 0700 for one owner, and optionally a second one that is used while the first cannot be written. Files that
/// another user could have written are not read.
#[derive(Debug, Clone)]
pub struct DiskCache {
    first: CacheDir,
    second: Option<CacheDir>,
}

/// One directory of the cache.
#[derive(Debug, Clone)]
struct CacheDir {
    path: PathBuf,
    owner: Owner,
    parent: ParentDir,
}

/// What a write does with the directory above.
#[derive(Debug, Clone, Copy)]
enum ParentDir {
    /// It must exist.
    MustExist,
    /// It is made if it is missing, and gets this mode in any case.
    SetMode(u32),
    /// It is made with this mode if it is missing. An existing one keeps its mode.
    CreateMissing(u32),
}

/// Bytes by name, for documents of one user or one process.
pub trait Storage: Send + Sync {
    /// The bytes of `name`. `None` if there are none or another user could have written them.
    fn read(&self, name: &str) -> Option<Vec<u8>>;

    /// Replaces the bytes of `name`.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError>;
}

/// A cache in the memory of this process.
#[derive(Debug, Default)]
pub struct MemoryCache(Mutex<HashMap<String, Vec<u8>>>);

impl MemoryCache {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryCache {
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.entries().get(name).cloned()
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.entries().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

impl Storage for DiskCache {
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        Self::read(self, name)
    }

    /// Writes without the lock: some file systems of home directories have no locks, and the old content does not matter.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.first.make()?.write(name, bytes, self.first.owner, 0o600)
    }
}

impl DiskCache {
    /// The cache at `path`, which only `owner` can access. Opens nothing.
    #[must_use]
    pub fn new(path: &Path, owner: Owner) -> Self {
        Self { first: CacheDir { path: path.to_owned(), owner, parent: ParentDir::MustExist }, second: None }
    }

    /// Adds the directory that is used while the first cannot be written. The directory above it is made with mode 0711.
    #[must_use]
    pub fn or(self, second: &Path) -> Self {
        let second = CacheDir { path: second.to_owned(), owner: self.first.owner, parent: ParentDir::SetMode(0o711) };
        Self { second: Some(second), ..self }
    }

    /// The cache of this host, for root.
    #[must_use]
    pub fn of_host() -> Self {
        Self::new(Path::new(DIRECTORY), Owner::ROOT).or(Path::new(SECOND_DIRECTORY))
    }

    /// The cache of programs that their caller can stop, for root.
    #[must_use]
    pub fn of_callers() -> Self {
        let path = PathBuf::from(LOCAL_DIRECTORY);
        let first = CacheDir { path, owner: Owner::ROOT, parent: ParentDir::SetMode(0o711) };
        Self { first, second: None }
    }

    /// The cache of the calling user in `home`, an absolute path without symbolic links.
    #[must_use]
    pub fn of_user(home: &Path) -> Self {
        let path = home.join(USER_DIRECTORY);
        let parent = ParentDir::CreateMissing(0o700);
        Self { first: CacheDir { path, owner: Owner::current(), parent }, second: None }
    }

    /// The content of the file `name`; `None` if there is none or another user could have written it.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let read = |dir: &CacheDir| dir.read(&dir.open().ok()?, name);
        // A file in the second directory is newer: a successful write to the first directory removes it.
        self.second.as_ref().and_then(read).or_else(|| read(&self.first))
    }

    /// Replaces the file `name`.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.update(name, Deadline::after(LOCK_TIMEOUT), &mut |_| Some(bytes.to_vec()))
    }

    /// Replaces the content of the file `name` by the result of `change`; `None` leaves the file as it is. The cache is locked meanwhile,
    /// so `change` must not block. If the first directory cannot be written, `change` is called again for the second. This waits for
    /// the lock until `deadline`, but at most a few seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`] if neither directory can be used.
    pub fn update(&self, name: &str, deadline: Deadline, change: &mut Change<'_>) -> Result<(), FileError> {
        let Some(second) = &self.second else {
            return self.first.update(name, deadline, &|own| own, change).map(drop);
        };
        let newer = second.open().ok().and_then(|directory| second.read(&directory, name));
        match self.first.update(name, deadline, &|own| newer.clone().or(own), change) {
            Ok(written) => {
                if written && newer.is_some() {
                    let _ = second.make().and_then(|directory| directory.remove(name));
                }
                Ok(())
            }
            Err(error) => {
                let old = || self.first.read(&self.first.open().ok()?, name);
                // Another process may have written the file since `newer` was read. Its content under the lock counts.
                second.update(name, deadline, &|own| own.or_else(old), change).map(drop).map_err(|_| error)
            }
        }
    }

    /// Removes the file `name`.
    pub fn remove(&self, name: &str) {
        for dir in self.second.iter().chain([&self.first]) {
            let _ = dir.open().and_then(|directory| directory.remove(name));
        }
    }

    /// Looks at both directories, and makes nothing. Returns an error for each that a write could not use.
    #[must_use]
    pub fn check(&self) -> Vec<FileError> {
        [Some(&self.first), self.second.as_ref()].into_iter().flatten().filter_map(|dir| dir.check().err()).collect()
    }
}

impl CacheDir {
    /// Opens the directory; does not make it.
    fn open(&self) -> Result<Directory, FileError> {
        let (parent, name) = self.split(&self.path)?;
        Directory::open(parent)?.enter(name, self.owner, 0o700)
    }

    /// Opens the directory; makes it if it is missing.
    fn make(&self) -> Result<Directory, FileError> {
        let (parent, name) = self.split(&self.path)?;
        let make_parent = |mode| {
            let (grandparent, name) = self.split(parent)?;
            Directory::open(grandparent)?.make(name, self.owner, mode)
        };
        let parent = match self.parent {
            ParentDir::MustExist => Directory::open(parent)?,
            ParentDir::SetMode(mode) => make_parent(mode)?,
            ParentDir::CreateMissing(mode) => Directory::open(parent).or_else(|_| make_parent(mode))?,
        };
        parent.make(name, self.owner, 0o700)
    }

    /// Whether [`Self::make`] and a write would succeed.
    fn check(&self) -> Result<(), FileError> {
        let (parent, name) = self.split(&self.path)?;
        let parent = match self.parent {
            ParentDir::MustExist => Directory::open(parent)?,
            ParentDir::SetMode(mode) | ParentDir::CreateMissing(mode) => {
                let (above, name) = self.split(parent)?;
                let above = Directory::open(above)?;
                match above.look(name, self.owner, mode)? {
                    Some(parent) => parent,
                    None => return above.could_write(),
                }
            }
        };
        parent.look(name, self.owner, 0o700)?.unwrap_or(parent).could_write()
    }

    /// Splits a path into its parent directory and its last name.
    fn split<'p>(&self, path: &'p Path) -> Result<(&'p Path, &'p str), FileError> {
        let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
        let wrong = || "it is not an absolute path".to_owned();
        parts.ok_or_else(|| FileError::Unusable { path: self.path.display().to_string(), reason: wrong() })
    }

    fn read(&self, directory: &Directory, name: &str) -> Option<Vec<u8>> {
        directory.read(name, self.owner, 0o600, LIMIT).ok()?.map(|bytes| bytes.to_vec())
    }

    /// Applies `change` to the current content, which `content` chooses, given the content in this directory. Returns whether the file
    /// was written.
    fn update(
        &self,
        name: &str,
        deadline: Deadline,
        content: &dyn Fn(Option<Vec<u8>>) -> Option<Vec<u8>>,
        change: &mut Change<'_>,
    ) -> Result<bool, FileError> {
        let directory = self.make()?;
        let failed = |reason: String| FileError::Unusable { path: self.path.display().to_string(), reason };
        let handle = directory.handle().try_clone().map_err(|error| failed(error.to_string()))?;
        let _lock = lock(handle, deadline.at_most(LOCK_TIMEOUT), LOCK_POLL)
            .map_err(|errno| failed(format!("it cannot be locked: {}", errno.desc())))?;
        let new = change(content(self.read(&directory, name)).as_deref());
        if let Some(bytes) = &new {
            directory.write_locked(name, bytes, self.owner, 0o600)?;
        }
        Ok(new.is_some())
    }
}

/// The file name for a document from `url`: `prefix-<16 hexadecimal digits>`.
#[must_use]
pub fn file_name(prefix: &str, url: &str) -> String {
    let digest = Sha256::digest(url.as_bytes());
    format!("{prefix}-{}", mytoken_wire::hex::encode(digest.get(..8).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
