// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of the token store. It is private and accessed by one handle. After a crash, either the old file or the new one exists.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};
use zeroize::Zeroizing;

use crate::Deadline;
use crate::private_files::{Lock, lock};
use crate::token_store::StoreError;

/// Largest file in bytes. A stored token with its clauses has a few KiB.
const LIMIT: u64 = 256 * 1024;
const LOCK: &str = ".lock";
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The steps of a write. Tests interrupt [`Disk::replace_with`] after each step, like a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteStep {
    Created,
    HalfWritten,
    Written,
    Synced,
    Renamed,
}

/// The store's directory.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    handle: OwnedFd,
}

/// Reserved disk space for a file that will be written.
#[derive(Debug)]
pub(super) struct Reservation {
    file: File,
    /// Its name until it takes the place of a stored file.
    temporary: String,
}

/// What a file that is being written will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// An entry of a login, an import or a note. One that a killed process has left is worth nothing.
    Entry,
    /// The successor of the stored token. What a killed process has left says that the token was in use, and may be the only copy.
    Successor,
}

impl Disk {
    /// Opens the directory. A missing one is made with mode 0700.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| unusable(path, &error))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = open(path, flags, Mode::empty()).map_err(|error| match error {
            // Linux returns ENOTDIR for a symbolic link if both flags are set, FreeBSD EMLINK.
            Errno::ELOOP | Errno::EMLINK | Errno::ENOTDIR => {
                unsafe_path(path, "it is not a directory but a link or a file")
            }
            error => unusable(path, &error.into()),
        })?;
        let file = File::from(handle);
        check_private(path, &file)?;
        Ok(Self { path: path.to_owned(), handle: file.into() })
    }

    /// The content of a file, `None` if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let path = self.path.join(name);
        // O_NONBLOCK: a FIFO instead of the file must not block the reader.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP | Errno::EMLINK) => return Err(unsafe_path(&path, "it is a symbolic link")),
            Err(error) => return Err(unusable(&path, &error.into())),
        };
        let meta = check_private(&path, &file)?;
        if !meta.is_file() {
            return Err(unsafe_path(&path, "it is not a regular file"));
        }
        if meta.len() > LIMIT {
            return Err(damaged(&path, "it is larger than any token"));
        }
        // The buffer has its full size from the start: a growing one would leave copies of the token in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1));
        file.take(LIMIT).read_to_end(&mut bytes).map_err(|error| unusable(&path, &error))?;
        Ok(Some(bytes))
    }

    /// Reserves disk space for a file of `size` bytes. Writing into the reserved file needs no further space, except on file systems that
    /// copy blocks on write (btrfs, zfs). The caller holds the lock until [`Disk::replace_in`] or [`Disk::release`].
    pub(super) fn reserve(&self, name: &str, coming: Coming, size: usize) -> Result<Reservation, StoreError> {
        let new = temporary(name, coming);
        // Random bytes, because some file systems compress zeros or store no blocks for them.
        let mut filler = vec![0_u8; size];
        rand::fill(&mut filler[..]);
        let reserved = self.create(&new).and_then(|mut file| {
            file.write_all(&filler)?;
            file.sync_all()?;
            fsync(&self.handle)?;
            Ok(Reservation { file, temporary: new.clone() })
        });
        reserved.map_err(|error| {
            let _ = unlinkat(&self.handle, new.as_str(), UnlinkatFlags::NoRemoveDir);
            let reason = format!("there is no room for a new token ({error}); the server was not asked for one");
            StoreError::Unusable { path: self.path.join(name).display().to_string(), reason }
        })
    }

    /// Whether there is space for a successor: somebody who holds the lock uses the token, or a process was killed while it did.
    pub(super) fn has_successor(&self, name: &str) -> bool {
        self.path.join(temporary(name, Coming::Successor)).symlink_metadata().is_ok()
    }

    /// What a killed process has written of a successor.
    pub(super) fn read_successor(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.read(&temporary(name, Coming::Successor))
    }

    /// Puts a successor that a killed process has written into its place. The caller holds the lock.
    pub(super) fn take_successor(&self, name: &str) -> Result<(), StoreError> {
        renameat(&self.handle, temporary(name, Coming::Successor).as_str(), &self.handle, name)
            .and_then(|()| fsync(&self.handle))
            .map_err(|error| unusable(&self.path.join(name), &error.into()))
    }

    /// Removes what a killed process has left of a successor. The caller holds the lock.
    pub(super) fn forget_successor(&self, name: &str) {
        let _ = unlinkat(&self.handle, temporary(name, Coming::Successor).as_str(), UnlinkatFlags::NoRemoveDir);
    }

    /// Frees reserved space that was not used.
    pub(super) fn release(&self, reservation: Reservation) {
        let Reservation { file, temporary } = reservation;
        drop(file);
        let _ = unlinkat(&self.handle, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }

    /// Replaces the content of a file. The new content is durable when this returns. The caller holds the lock.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace_with(name, None, bytes, &mut |_| Ok(()))
    }

    /// As [`Disk::replace`], in reserved space.
    pub(super) fn replace_in(&self, name: &str, reservation: Reservation, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace_with(name, Some(reservation), bytes, &mut |_| Ok(()))
    }

    /// As [`Disk::replace`], but calls `after_step` after each step and stops if that fails.
    pub(super) fn replace_with(
        &self,
        name: &str,
        reservation: Option<Reservation>,
        bytes: &[u8],
        after_step: &mut dyn FnMut(WriteStep) -> std::io::Result<()>,
    ) -> Result<(), StoreError> {
        let (new, file) = match reservation {
            Some(Reservation { file, temporary }) => (temporary, Ok(file)),
            None => {
                let new = temporary(name, Coming::Entry);
                let file = self.create(&new);
                (new, file)
            }
        };
        file.and_then(|file| write(file, bytes, after_step))
            .and_then(|()| {
                renameat(&self.handle, new.as_str(), &self.handle, name)?;
                after_step(WriteStep::Renamed)?;
                Ok(fsync(&self.handle)?)
            })
            .map_err(|error| unusable(&self.path.join(name), &error))
    }

    fn create(&self, new: &str) -> std::io::Result<File> {
        // Only the holder of the lock writes here, so an existing file was left by a crash.
        match unlinkat(&self.handle, new, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.handle, new, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Removes a file durably. Returns whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let unusable = |error: Errno| unusable(&self.path.join(name), &error.into());
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(&self.handle).map(|()| true).map_err(unusable),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(unusable(error)),
        }
    }

    /// Waits for the lock of the whole store.
    pub(super) fn lock(&self, deadline: Deadline) -> Result<Lock, StoreError> {
        let path = self.path.join(LOCK);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = openat(&self.handle, LOCK, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| unusable(&path, &error.into()))?;
        lock(handle, deadline, LOCK_POLL).map_err(|errno| match errno {
            Errno::EAGAIN => StoreError::Busy { path: path.display().to_string() },
            errno => unusable(&path, &errno.into()),
        })
    }

    /// Names of the stored files, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let unusable = |error: std::io::Error| unusable(&self.path, &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(unusable)? {
            let name = entry.map_err(unusable)?.file_name();
            names.extend(
                name.to_str().filter(|name| name.ends_with(".json") && !name.starts_with('.')).map(str::to_owned),
            );
        }
        names.sort();
        Ok(names)
    }

    /// A file's path, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The name under which a file is written before it is renamed to `name`.
fn temporary(name: &str, coming: Coming) -> String {
    match coming {
        Coming::Entry => format!(".new-{name}"),
        Coming::Successor => format!(".next-{name}"),
    }
}

/// Overwrites the content of the file, so that its disk space is used again.
fn write(
    mut file: File,
    bytes: &[u8],
    after_step: &mut dyn FnMut(WriteStep) -> std::io::Result<()>,
) -> std::io::Result<()> {
    after_step(WriteStep::Created)?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.rewind()?;
    file.write_all(first)?;
    after_step(WriteStep::HalfWritten)?;
    file.write_all(second)?;
    file.set_len(bytes.len() as u64)?;
    after_step(WriteStep::Written)?;
    file.sync_all()?;
    after_step(WriteStep::Synced)
}

/// Checks that other users can neither read the file nor write to it; by writing they could replace the user's token.
fn check_private(path: &Path, file: &File) -> Result<std::fs::Metadata, StoreError> {
    let meta = file.metadata().map_err(|error| unusable(path, &error))?;
    if meta.uid() != geteuid().as_raw() {
        return Err(unsafe_path(path, &format!("it belongs to user {}, not to you", meta.uid())));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(unsafe_path(
            path,
            &format!("others can access it (mode {mode:04o}); run: chmod go= {}", path.display()),
        ));
    }
    Ok(meta)
}

fn unsafe_path(path: &Path, reason: &str) -> StoreError {
    StoreError::Unsafe { path: path.display().to_string(), reason: reason.to_owned() }
}

fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unusable { path: path.display().to_string(), reason: error.to_string() }
}

pub(super) fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), reason: reason.to_owned() }
}
