// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small files that root keeps between logins: fetched keys and documents, and what must not be asked again for a while.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Deadline;
use crate::files::FileError;
use crate::files::{Directory, Owner, lock};

/// Where the cache is.
pub const DIRECTORY: &str = "/var/cache/mytoken";

/// Where it is when that directory cannot be used: a memory that a full disk or a wrong owner switches off protects nobody.
pub const SECOND_DIRECTORY: &str = "/run/mytoken/cache";

/// Where programs without `SSH_CONNECTION` (su) keep theirs: who calls a set-uid program can stop it while it holds the lock or waits for a
/// server, and limit what it may open. What it then notes must not concern logins over ssh.
pub const LOCAL_DIRECTORY: &str = "/run/mytoken/cache-local";

/// Where a user's cache is in the home directory.
pub const USER_DIRECTORY: &str = ".cache/mytoken";

/// Largest file that is read, in bytes.
const LIMIT: usize = 512 * 1024;

/// How long the lock is waited for. It is held to read and write one file, but a hundred logins may want it on a machine that is busy,
/// and who asks again and again has no place in a queue.
const LOCK: Duration = Duration::from_secs(5);

/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(1);

/// What a file becomes, given what it is; `None` leaves it.
type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// A directory of mode 0700 for one owner, and a second one for when it cannot be written. Nothing is believed that another could
/// have written.
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
    /// The bytes of `name`, if there are any and nobody else could have written them.
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

    /// That of programs that their caller can stop, for root.
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

    /// What is wrong with the directories: of each that cannot be written its error.
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
    /// The directory as it is; nothing is made by those who only read.
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
        let wrong = || "it is no absolute path".to_owned();
        parts.ok_or_else(|| FileError::Unusable { path: self.path.display().to_string(), reason: wrong() })
    }

    fn read(&self, directory: &Directory, name: &str) -> Option<Vec<u8>> {
        directory.read(name, self.owner, 0o600, LIMIT).ok()?.map(|bytes| bytes.to_vec())
    }

    /// `content` tells what counts, given what lies here. Returns whether something was written.
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use nix::fcntl::{Flock, FlockArg};

    use super::*;

    fn patience() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[test]
    fn what_others_could_have_written_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
        assert_eq!(cache.read("a"), None);
        cache.write("a", b"x").unwrap();
        assert_eq!(cache.read("a").unwrap(), b"x");
        let file = dir.path().join("cache/a");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o646)).unwrap();
        assert_eq!(cache.read("a"), None);
        let foreign = DiskCache::new(&dir.path().join("cache"), Owner { uid: 4_242, gid: 4_242 });
        assert_eq!(foreign.read("a"), None);
    }

    #[test]
    fn what_the_first_directory_cannot_take_is_in_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("var/cache");
        std::fs::create_dir(dir.path().join("var")).unwrap();
        let cache = DiskCache::new(&first, Owner::current()).or(&dir.path().join("run/mytoken"));
        cache.write("a", b"1").unwrap();
        assert!(cache.faults().is_empty() && first.join("a").exists());

        std::fs::rename(dir.path().join("var"), dir.path().join("gone")).unwrap();
        let made = |path: &str| dir.path().join(path).exists();
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
        assert!(cache.read("a").is_none() && !made("run") && !made("var"), "who reads makes nothing");
        assert_eq!(cache.faults().len(), 1);
        cache.write("a", b"2").unwrap();
        assert_eq!(cache.read("a").unwrap(), b"2");

        std::fs::rename(dir.path().join("gone"), dir.path().join("var")).unwrap();
        assert_eq!(cache.read("a").unwrap(), b"2", "the newer one");
        let mut seen = None;
        cache
            .update("a", patience(), &mut |old| {
                seen = old.map(<[u8]>::to_vec);
                Some(b"3".to_vec())
            })
            .unwrap();
        assert_eq!(seen.unwrap(), b"2");
        assert!(!dir.path().join("run/mytoken/a").exists());
        assert_eq!(cache.read("a").unwrap(), b"3");
        cache.remove("a");
        assert_eq!(cache.read("a"), None);
    }

    #[test]
    fn what_lies_in_the_second_directory_stays_until_the_first_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = |path: &str| dir.path().join(path);
        std::fs::create_dir(here("var")).unwrap();
        let cache = DiskCache::new(&here("var/cache"), Owner::current()).or(&here("run/mytoken"));
        cache.write("a", b"old").unwrap();
        let second = cache.second.clone().unwrap();
        second.update("a", patience(), &|own| own, &mut |_| Some(b"new".to_vec())).unwrap();
        // Who only looks takes nothing away.
        let seen = |cache: &DiskCache| {
            let mut seen = None;
            let mut look = |old: Option<&[u8]>| {
                seen = old.map(<[u8]>::to_vec);
                None
            };
            cache.update("a", patience(), &mut look).unwrap();
            seen.unwrap()
        };
        assert_eq!((seen(&cache), seen(&cache)), (b"new".to_vec(), b"new".to_vec()));
        assert_eq!(cache.read("a").unwrap(), b"new");
        assert!(here("run/mytoken/a").exists());
        // Who comes late to the second directory, with the first one's content in hand, meets what another has written meanwhile.
        let mut late = None;
        let mut look = |old: Option<&[u8]>| {
            late = old.map(<[u8]>::to_vec);
            None
        };
        let written = second.update("a", patience(), &|own| own.or(Some(b"old".to_vec())), &mut look);
        assert!(!written.unwrap());
        assert_eq!(late.unwrap(), b"new");
    }

    #[test]
    fn a_users_cache_makes_the_directory_above_but_does_not_change_its_mode() {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let home = tempfile::tempdir().unwrap();
        let (above, own) = (home.path().join(".cache"), home.path().join(USER_DIRECTORY));
        let cache = DiskCache::of_user(home.path());
        assert!(Storage::read(&cache, "a").is_none() && !above.exists());
        cache.replace("a", b"1").unwrap();
        assert_eq!((mode(&above), mode(&own)), (0o700, 0o700));
        std::fs::set_permissions(&above, std::fs::Permissions::from_mode(0o755)).unwrap();
        cache.replace("a", b"2").unwrap();
        assert_eq!((mode(&above), mode(&own.join("a"))), (0o755, 0o600));
        assert_eq!(Storage::read(&cache, "a").unwrap(), b"2");
    }

    #[test]
    fn changes_of_many_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
        let count = |old: Option<&[u8]>| old.map_or(0, |old| std::str::from_utf8(old).unwrap().parse::<u32>().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let mut one_more = |old: Option<&[u8]>| Some((count(old) + 1).to_string().into_bytes());
                        cache.update("n", patience(), &mut one_more).unwrap();
                    }
                });
            }
        });
        assert_eq!(cache.read("n").unwrap(), b"80");
    }

    #[test]
    fn a_lock_that_is_not_given_back_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
        cache.write("a", b"1").unwrap();
        let held = std::fs::File::open(dir.path().join("cache")).unwrap();
        let held = Flock::lock(held, FlockArg::LockExclusive).unwrap();
        assert!(cache.write("a", b"2").unwrap_err().to_string().contains("locked"));
        drop(held);
        cache.write("a", b"2").unwrap();
    }
}
