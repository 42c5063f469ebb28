// SPDX-License-Identifier: MIT OR Apache-2.0
//! A private directory for one run. The run holds a lock on it. The next run removes directories of runs that were
//! killed.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use tempfile::TempDir;

use mytoken::private_files::is_private_directory;

use super::message::ASKPASS_NAME;
use crate::error::Error;
use crate::stand_in::links;

/// Start of the directory's name.
const PREFIX: &str = "mytoken-ssh-";
/// Name of the socket in the directory.
pub const SOCKET_NAME: &str = "socket";
/// Name of the page of a login in the directory.
pub const PAGE_NAME: &str = "login.html";
/// How many names of the parent directory are read, so that a full temporary directory does not delay the login.
const MAX_SCANNED: usize = 10_000;
/// How many old directories one run removes, for the same reason.
const MAX_REMOVED: usize = 100;

/// The directory and its lock.
pub struct PrivateDirectory {
    // Field order: the directory is dropped before the lock, so no other run removes it at the same time.
    directory: TempDir,
    _lock: Option<Flock<File>>,
}

impl PrivateDirectory {
    /// Creates a directory that only this user can enter: below `XDG_RUNTIME_DIR`, else in the temporary directory.
    pub fn create() -> Result<Self, Error> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute() && is_private_directory(dir));
        let parent = runtime.unwrap_or_else(std::env::temp_dir);
        remove_abandoned(&parent);
        let action = || format!("cannot create a private directory in {}", parent.display());
        // Another run may remove the directory before it is locked. Then a new one is created.
        for _ in 0..10 {
            let directory = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&parent)
                .map_err(Error::system(action()))?;
            let Ok(handle) = open_directory(directory.path()) else { continue };
            let lock = match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => Some(lock),
                Err((_, Errno::EWOULDBLOCK)) => continue,
                // A file system without locks. There no run removes the directories of others.
                Err(_) => None,
            };
            if directory.path().exists() {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(Error::System { action: action(), reason: "another process keeps removing it".into() })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Removes the directory.
    pub fn close(self) -> Result<(), Error> {
        self.directory.close().map_err(Error::system("cannot remove the askpass socket"))
    }
}

/// Removes the directories that killed runs have left. Other files and directories with such a name stay.
fn remove_abandoned(parent: &Path) {
    // TMPDIR itself may be a symbolic link. Links inside it are not followed.
    let parent_handle = File::options().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(parent);
    let (Ok(entries), Ok(handle)) = (std::fs::read_dir(parent), parent_handle) else { return };
    let names = entries.take(MAX_SCANNED).flatten().map(|entry| entry.file_name());
    for name in names.filter(|name| name.as_bytes().starts_with(PREFIX.as_bytes())).take(MAX_REMOVED) {
        remove_if_abandoned(&handle, &parent.join(&name), &name);
    }
}

fn remove_if_abandoned(parent: &File, path: &Path, name: &OsStr) {
    let Ok(directory) = open_directory(path) else { return };
    let own = directory.metadata().is_ok_and(|meta| meta.uid() == geteuid().as_raw() && meta.mode() & 0o7777 == 0o700);
    if !own {
        return;
    }
    let Ok(locked) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) else { return };
    // By handle, so that no link is followed, and by name, so that only files of a run are removed.
    for file in [SOCKET_NAME, ASKPASS_NAME, PAGE_NAME].into_iter().chain(links::names()) {
        let _ = unlinkat(&*locked, file, UnlinkatFlags::NoRemoveDir);
    }
    let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
}

/// Opens a directory, and fails on a symbolic link.
fn open_directory(path: &Path) -> std::io::Result<File> {
    File::options().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(path)
}
