// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small files that root keeps between logins: fetched keys and documents, and failures after which no request is sent for a while.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Deadline;
use crate::private_files::FileError;
use crate::private_files::{Directory, Owner, lock};

/// Directory of the host's cache.
pub const DIRECTORY: &str = "/var/cache/mytoken";

/// Directory when the first one cannot be used: a full disk or a wrong owner must not switch the limits off.
pub const SECOND_DIRECTORY: &str = "/run/mytoken/cache";

/// Directory for programs without `SSH_CONNECTION` (su). The caller of a set-uid program can stop it while it holds the lock or waits for
/// a server, and can limit its open files. What it records then must not affect logins over ssh.
pub const LOCAL_DIRECTORY: &str = "/run/mytoken/cache-local";

/// A user's cache, below the home directory.
pub const USER_DIRECTORY: &str = ".cache/mytoken";

/// Largest file that is read, in bytes.
const LIMIT: usize = 512 * 1024;

/// How long to wait for the lock. A process holds it to read and write one file, but a hundred logins may want it on a busy machine,
/// and polling keeps no queue.
const LOCK: Duration = Duration::from_secs(5);

/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(1);

/// The new content of a file, given the old one; `None` leaves it.
type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// A directory of mode 0700 for one owner, and a second one for when it cannot be written. Files that another user could
/// have written are not read.
#[derive(Debug, Clone)]
pub struct DiskCache {
    first: Place,
    second: Option<Place>,
}

/// A directory.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    owner: Owner,
    above: Above,
}

/// What happens to the directory above, when files are written.
#[derive(Debug, Clone, Copy)]
enum Above {
    /// It must exist.
    Exists,
    /// It gets this mode, and is made when it is missing.
    Mode(u32),
    /// It is made with this mode when it is missing, and stays as it is otherwise.
    MakeMissing(u32),
}

/// Bytes by name, for documents that one user or one process keeps for itself.
pub trait Storage: Send + Sync {
    /// The bytes of `name`, if there are any and no other user could have written them.
    fn read(&self, name: &str) -> Option<Vec<u8>>;

    /// Replaces the bytes of `name`.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError>;
}

/// The memory of this process.
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

    /// Without the lock, which some file systems of home directories do not have: the old content does not matter.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.first.open()?.write(name, bytes, self.first.owner, 0o600)
    }
}

impl DiskCache {
    /// The cache at `path`, which only `owner` may reach. Nothing is opened yet.
    #[must_use]
    pub fn new(path: &Path, owner: Owner) -> Self {
        Self { first: Place { path: path.to_owned(), owner, above: Above::Exists }, second: None }
    }

    /// The same, and the directory to use when that one cannot be written. What is above it is made with mode 0711.
    #[must_use]
    pub fn or(self, second: &Path) -> Self {
        let second = Place { path: second.to_owned(), owner: self.first.owner, above: Above::Mode(0o711) };
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
        let first = Place { path: PathBuf::from(LOCAL_DIRECTORY), owner: Owner::ROOT, above: Above::Mode(0o711) };
        Self { first, second: None }
    }

    /// The cache of the calling user in `home`, an absolute path without symbolic links.
    #[must_use]
    pub fn of_user(home: &Path) -> Self {
        let path = home.join(USER_DIRECTORY);
        Self { first: Place { path, owner: Owner::current(), above: Above::MakeMissing(0o700) }, second: None }
    }

    /// The file `name`; `None` when there is none or it cannot be trusted.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let read = |place: &Place| place.read(&place.look().ok()?, name);
        // A file in the second place is newer: a write that finds the first usable removes it.
        self.second.as_ref().and_then(read).or_else(|| read(&self.first))
    }

    /// Writes the file `name` whole.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.update(name, Deadline::after(LOCK), &mut |_| Some(bytes.to_vec()))
    }

    /// Replaces the file `name` by what `change` makes of it; `None` leaves it as it is. No other process changes the cache
    /// meanwhile, so `change` must not wait for anything. It is called again for the second directory. The lock is waited for until
    /// `patience`, but no longer than some seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`] when neither directory can be used.
    pub fn update(&self, name: &str, patience: Deadline, change: &mut Change<'_>) -> Result<(), FileError> {
        let Some(second) = &self.second else {
            return self.first.update(name, patience, &|own| own, change).map(drop);
        };
        let newer = second.look().ok().and_then(|directory| second.read(&directory, name));
        match self.first.update(name, patience, &|own| newer.clone().or(own), change) {
            Ok(written) => {
                if written && newer.is_some() {
                    let _ = second.open().and_then(|directory| directory.remove(name));
                }
                Ok(())
            }
            Err(error) => {
                let old = || self.first.read(&self.first.look().ok()?, name);
                // Another process may have been here since: what lies here under the lock counts.
                second.update(name, patience, &|own| own.or_else(old), change).map(drop).map_err(|_| error)
            }
        }
    }

    /// Removes the file `name`.
    pub fn remove(&self, name: &str) {
        for place in self.second.iter().chain([&self.first]) {
            let _ = place.look().and_then(|directory| directory.remove(name));
        }
    }

    /// The error of each directory that cannot be written.
    #[must_use]
    pub fn faults(&self) -> Vec<FileError> {
        let try_out = |place: &Place| {
            let directory = place.open()?;
            directory.write(".check", b"", place.owner, 0o600)?;
            directory.remove(".check").map(drop)
        };
        [Some(&self.first), self.second.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|place| try_out(place).err())
            .collect()
    }
}

impl Place {
    /// Opens the directory for reading; makes nothing.
    fn look(&self) -> Result<Directory, FileError> {
        let (above, name) = self.parts(&self.path)?;
        Directory::open(above)?.enter(name, self.owner, 0o700)
    }

    fn open(&self) -> Result<Directory, FileError> {
        let (above, name) = self.parts(&self.path)?;
        let make = |mode| {
            let (top, middle) = self.parts(above)?;
            Directory::open(top)?.make(middle, self.owner, mode)
        };
        let above = match self.above {
            Above::Exists => Directory::open(above)?,
            Above::Mode(mode) => make(mode)?,
            Above::MakeMissing(mode) => Directory::open(above).or_else(|_| make(mode))?,
        };
        above.make(name, self.owner, 0o700)
    }

    fn parts<'p>(&self, path: &'p Path) -> Result<(&'p Path, &'p str), FileError> {
        let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
        let wrong = || "it is not an absolute path".to_owned();
        parts.ok_or_else(|| FileError::Unusable { path: self.path.display().to_string(), reason: wrong() })
    }

    fn read(&self, directory: &Directory, name: &str) -> Option<Vec<u8>> {
        directory.read(name, self.owner, 0o600, LIMIT).ok()?.map(|bytes| bytes.to_vec())
    }

    /// `content` chooses the current content, given the content here. Returns whether something was written.
    fn update(
        &self,
        name: &str,
        patience: Deadline,
        content: &dyn Fn(Option<Vec<u8>>) -> Option<Vec<u8>>,
        change: &mut Change<'_>,
    ) -> Result<bool, FileError> {
        let directory = self.open()?;
        let failed = |reason: String| FileError::Unusable { path: self.path.display().to_string(), reason };
        let handle = directory.handle().try_clone().map_err(|error| failed(error.to_string()))?;
        let _lock = lock(handle, patience.at_most(LOCK), LOCK_POLL)
            .map_err(|errno| failed(format!("it cannot be locked: {}", errno.desc())))?;
        let new = change(content(self.read(&directory, name)).as_deref());
        if let Some(bytes) = &new {
            directory.write_alone(name, bytes, self.owner, 0o600)?;
        }
        Ok(new.is_some())
    }
}

/// A file name for something that belongs to `url`: `prefix-<16 hexadecimal digits>`.
#[must_use]
pub fn file_name(prefix: &str, url: &str) -> String {
    let digest = Sha256::digest(url.as_bytes());
    format!("{prefix}-{}", mytoken_wire::hex::encode(digest.get(..8).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
