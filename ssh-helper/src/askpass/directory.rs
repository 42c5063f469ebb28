// SPDX-License-Identifier: MIT OR Apache-2.0
//! A private directory for one run. It is locked while the run lives; what a killed run has left is removed by the next.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use tempfile::TempDir;

use super::message::PROGRAM;
use crate::error::Error;

/// Beginning of the directory's name.
const PREFIX: &str = "mytoken-ssh-";
/// Name of the socket in it.
pub const SOCKET_NAME: &str = "socket";
/// Most names that are looked at among others' temporary files, and most directories that are removed, so that a login does not wait.
const MOST_NAMES: usize = 10_000;
const MOST_REMOVED: usize = 100;

/// The directory and its lock.
pub struct PrivateDirectory {
    // Dropped before the lock: nobody else may remove it meanwhile.
    directory: TempDir,
    _lock: Option<Flock<File>>,
}

impl PrivateDirectory {
    /// Makes a directory that only this user can enter: in the login's runtime directory, else among the temporary files.
    pub fn make() -> Result<Self, Error> {
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && is_private(dir));
        let parent = runtime.unwrap_or_else(std::env::temp_dir);
        sweep(&parent);
        let told = || format!("cannot make a private directory in {}", parent.display());
        // Another run that is sweeping can take a directory that is not locked yet.
        for _ in 0..10 {
            let directory = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&parent)
                .map_err(Error::system(told()))?;
            let Ok(handle) = open(directory.path()) else { continue };
            let lock = match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => Some(lock),
                Err((_, Errno::EWOULDBLOCK)) => continue,
                // A file system without locks; there nobody sweeps either.
                Err(_) => None,
            };
            if directory.path().exists() {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(Error::System { what: told(), reason: "it is removed as soon as it is made".into() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Removes it.
    pub fn close(self) -> Result<(), Error> {
        self.directory.close().map_err(Error::system("cannot remove the askpass socket"))
    }
}

/// Removes the directories of runs that are gone. Whatever else has such a name stays.
fn sweep(parent: &Path) {
    // TMPDIR may be a link; below it nothing is followed.
    let parent_handle = File::options().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(parent);
    let (Ok(entries), Ok(handle)) = (std::fs::read_dir(parent), parent_handle) else { return };
    let names = entries.take(MOST_NAMES).flatten().map(|entry| entry.file_name());
    for name in names.filter(|name| name.as_bytes().starts_with(PREFIX.as_bytes())).take(MOST_REMOVED) {
        remove(&handle, &parent.join(&name), &name);
    }
}

fn remove(parent: &File, path: &Path, name: &OsStr) {
    let Ok(directory) = open(path) else { return };
    let own = directory.metadata().is_ok_and(|meta| meta.uid() == geteuid().as_raw() && meta.mode() & 0o7777 == 0o700);
    if !own {
        return;
    }
    let Ok(locked) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else { return };
    // By handles: nothing is followed, and only what a run makes is removed.
    for file in [SOCKET_NAME, PROGRAM] {
        let _ = unlinkat(&*locked, file, UnlinkatFlags::NoRemoveDir);
    }
    let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
}

/// A directory, never a link to one.
fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(path)
}

fn is_private(dir: &Path) -> bool {
    std::fs::metadata(dir)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw() && meta.mode() & 0o077 == 0)
}
