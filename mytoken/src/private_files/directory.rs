// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open directory, and the files in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use zeroize::Zeroizing;

use super::error::FileError;
use super::identity::Owner;
use super::mode::{FileMode, settable};
use crate::random::random;

/// An open directory. All operations use its handle, so renaming a directory above it has no effect.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

const OPEN_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What a write does if the file exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfExists {
    Replace,
    Fail,
}

impl Directory {
    /// Opens the absolute `path` without following symbolic links. Each directory of the path must belong to root or to the caller, and
    /// others must not be able to write to it. A directory with the sticky bit, like `/tmp`, is accepted except as the last one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => names.push(name),
                _ => return Err(refused(path, "the path must be absolute and without \"..\"")),
            }
        }
        if !path.is_absolute() {
            return Err(refused(path, "the path must be absolute and without \"..\""));
        }
        let root = openat(AT_FDCWD, "/", OPEN_DIRECTORY, Mode::empty()).map_err(|errno| failed(path, errno))?;
        let mut here = Self { fd: root, path: PathBuf::from("/") };
        for name in names {
            here.check_writable_only_by_owner(true)?;
            let below = here.path.join(name);
            let fd = openat(&here.fd, name, OPEN_DIRECTORY, Mode::empty()).map_err(|errno| failed(&below, errno))?;
            here = Self { fd, path: below };
        }
        here.check_writable_only_by_owner(false)?;
        Ok(here)
    }

    /// The path under which it was opened, for messages and for the environment of a job or session.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory `name` in this one. It must belong to `owner` and have exactly `mode`.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn enter(&self, name: &str, owner: Owner, mode: u32) -> Result<Self, FileError> {
        let below = self.open_below(name)?;
        let stat = below.stat()?;
        let found = FileMode::of(&stat).permissions();
        if stat.st_uid != owner.uid || found != mode {
            return Err(refused(
                &below.path,
                &format!(
                    "it belongs to user {} with mode {found:04o}, expected user {} and mode {mode:04o}",
                    stat.st_uid, owner.uid
                ),
            ));
        }
        Ok(below)
    }

    /// Opens the directory `name` in this one. It may have any mode, but it must belong to root or to the caller, and others must not be
    /// able to write to it.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn step(&self, name: &str) -> Result<Self, FileError> {
        let below = self.open_below(name)?;
        below.check_writable_only_by_owner(false)?;
        Ok(below)
    }

    /// Opens the directory `name` in this one, and makes it if it is missing. An existing directory of the caller gets `owner` and `mode`,
    /// because an interrupted attempt may have left it. Any other directory must have this owner and mode already.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn make(&self, name: &str, owner: Owner, mode: u32) -> Result<Self, FileError> {
        let path = self.below(name)?;
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(&path, errno)),
        }
        let below = self.open_below(name)?;
        if below.stat()?.st_uid == Owner::current().uid {
            set_owner(&below.fd, owner, mode).map_err(|errno| failed(&path, errno))?;
        }
        self.enter(name, owner, mode)
    }

    /// Replaces the file `name`. A reader sees the old content or the new content, never a part of it. If it fails, the old file stays, and
    /// no other file is left behind.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write(&self, name: &str, bytes: &[u8], owner: Owner, mode: u32) -> Result<(), FileError> {
        self.put(name, bytes, owner, mode, IfExists::Replace, false)
    }

    /// Like [`Self::write`], for a caller that holds a lock against all other writers. The temporary file always has the same name: if a
    /// writer is killed, the next one replaces its file.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_locked(&self, name: &str, bytes: &[u8], owner: Owner, mode: u32) -> Result<(), FileError> {
        self.below(name)?;
        let temporary = format!(".{name}.new");
        self.remove(&temporary)?;
        self.put_by(&temporary, name, bytes, owner, mode, IfExists::Replace, false)
    }

    /// Like [`Self::write`]. After it returns, the file survives a power failure.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_durably(&self, name: &str, bytes: &[u8], owner: Owner, mode: u32) -> Result<(), FileError> {
        self.put(name, bytes, owner, mode, IfExists::Replace, true)
    }

    /// Reads the regular file `name`. It must belong to `owner`, have no permissions beyond `mode`, no second name (hard link) and at most
    /// `limit` bytes. `None` if there is none.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn read(
        &self,
        name: &str,
        owner: Owner,
        mode: u32,
        limit: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        let path = self.below(name)?;
        // O_NONBLOCK: a FIFO in the place of the file must not hang the reader.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed(&path, errno)),
        };
        let stat = fstat(&fd).map_err(|errno| failed(&path, errno))?;
        if !FileMode::of(&stat).is_regular() || stat.st_nlink != 1 {
            return Err(refused(&path, "it is not a regular file with one name"));
        }
        let found = FileMode::of(&stat).permissions();
        if stat.st_uid != owner.uid || found & !mode != 0 {
            return Err(refused(
                &path,
                &format!(
                    "it belongs to user {} with mode {found:04o}, expected user {} and at most {mode:04o}",
                    stat.st_uid, owner.uid
                ),
            ));
        }
        // The buffer has its full size from the start: a growing one would leave copies of the secret in freed memory. It has no more
        // than that, because all of it is wiped afterwards.
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > limit {
            return Err(refused(&path, &format!("it is longer than {limit} bytes")));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
        File::from(fd)
            .take(size as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| refused(&path, &error.to_string()))?;
        // The suite replaces its files and never appends to them.
        if bytes.len() > size { Err(refused(&path, "it grew while it was read")) } else { Ok(Some(bytes)) }
    }

    /// Removes the file `name`. Returns whether there was one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn remove(&self, name: &str) -> Result<bool, FileError> {
        self.unlink(name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes the empty directory `name`. Returns whether there was one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn remove_dir(&self, name: &str) -> Result<bool, FileError> {
        self.unlink(name, UnlinkatFlags::RemoveDir)
    }

    /// The names in this directory, unsorted. Names that are not UTF-8 are left out; this suite makes none.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn names(&self) -> Result<Vec<String>, FileError> {
        // A second handle, because reading a directory moves the handle's position.
        let mut dir =
            Dir::openat(&self.fd, ".", OPEN_DIRECTORY, Mode::empty()).map_err(|errno| failed(&self.path, errno))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|errno| failed(&self.path, errno))?;
            if let Ok(name) = entry.file_name().to_str() {
                if name != "." && name != ".." {
                    names.push(name.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// Whether the directory contains this name. It takes one system call, however many names there are.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn has(&self, name: &str) -> Result<bool, FileError> {
        let path = self.below(name)?;
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(failed(&path, errno)),
        }
    }

    /// Whether it is on a file system in memory, which no restart of the host keeps.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn is_in_memory(&self) -> Result<bool, FileError> {
        let found = fstatfs(&self.fd).map_err(|errno| failed(&self.path, errno))?;
        Ok(found.filesystem_type() == TMPFS_MAGIC)
    }

    /// The handle, for example to lock the directory.
    #[must_use]
    pub fn handle(&self) -> &OwnedFd {
        &self.fd
    }

    fn put(
        &self,
        name: &str,
        bytes: &[u8],
        owner: Owner,
        mode: u32,
        if_exists: IfExists,
        durable: bool,
    ) -> Result<(), FileError> {
        let temporary = format!(".{name}.{:016x}", random::<u64>());
        self.put_by(&temporary, name, bytes, owner, mode, if_exists, durable)
    }

    #[expect(clippy::too_many_arguments, reason = "private, for the writers above")]
    fn put_by(
        &self,
        temporary: &str,
        name: &str,
        bytes: &[u8],
        owner: Owner,
        mode: u32,
        if_exists: IfExists,
        durable: bool,
    ) -> Result<(), FileError> {
        let path = self.below(name)?;
        let fail = |errno| failed(&path, errno);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, temporary, flags, Mode::from_bits_truncate(0o600)).map_err(fail)?;
        let written =
            fill(fd, bytes, owner, mode, durable).map_err(|error| refused(&path, &error.to_string())).and_then(|()| {
                match if_exists {
                    IfExists::Replace => renameat(&self.fd, temporary, &self.fd, name),
                    IfExists::Fail => rename_new(&self.fd, temporary, name),
                }
                .map_err(fail)
            });
        if written.is_err() {
            let _ = unlinkat(&self.fd, temporary, UnlinkatFlags::NoRemoveDir);
        }
        written?;
        if durable { nix::unistd::fsync(&self.fd).map_err(fail) } else { Ok(()) }
    }

    fn unlink(&self, name: &str, flags: UnlinkatFlags) -> Result<bool, FileError> {
        let path = self.below(name)?;
        match unlinkat(&self.fd, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(failed(&path, errno)),
        }
    }

    fn open_below(&self, name: &str) -> Result<Self, FileError> {
        let path = self.below(name)?;
        let fd = openat(&self.fd, name, OPEN_DIRECTORY, Mode::empty()).map_err(|errno| failed(&path, errno))?;
        Ok(Self { fd, path })
    }

    fn below(&self, name: &str) -> Result<PathBuf, FileError> {
        let path = self.path.join(name);
        let one_component = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if one_component && name.len() <= 200 {
            Ok(path)
        } else {
            Err(refused(&self.path, "a file name in it must have one component and at most 200 bytes"))
        }
    }

    fn stat(&self) -> Result<FileStat, FileError> {
        fstat(&self.fd).map_err(|errno| failed(&self.path, errno))
    }

    fn check_writable_only_by_owner(&self, sticky_accepted: bool) -> Result<(), FileError> {
        let stat = self.stat()?;
        if stat.st_uid != 0 && stat.st_uid != Owner::current().uid {
            return Err(refused(&self.path, &format!("it belongs to user {}", stat.st_uid)));
        }
        let found = FileMode::of(&stat).permissions();
        let sticky = sticky_accepted && found & 0o1000 != 0;
        if found & 0o022 != 0 && !sticky {
            return Err(refused(&self.path, &format!("others can write to it (mode {found:04o})")));
        }
        Ok(())
    }
}

/// Renames a file in a directory, and fails if the new name exists.
#[cfg(target_os = "linux")]
fn rename_new(directory: &OwnedFd, old: &str, new: &str) -> Result<(), Errno> {
    nix::fcntl::renameat2(directory, old, directory, new, nix::fcntl::RenameFlags::RENAME_NOREPLACE)
}

/// As on Linux, with POSIX alone. For a moment the file has two names, and [`Directory::read`] refuses it.
#[cfg(any(test, not(target_os = "linux")))]
fn link_new(directory: &OwnedFd, old: &str, new: &str) -> Result<(), Errno> {
    nix::unistd::linkat(directory, old, directory, new, AtFlags::empty())?;
    unlinkat(directory, old, UnlinkatFlags::NoRemoveDir)
}

#[cfg(not(target_os = "linux"))]
use link_new as rename_new;

fn fill(fd: OwnedFd, bytes: &[u8], owner: Owner, mode: u32, durable: bool) -> std::io::Result<()> {
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    set_owner(&file, owner, mode)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// Sets mode and owner. Always both: in a directory with the setgid bit, a new file has the directory's group.
fn set_owner<Fd: AsFd>(fd: Fd, owner: Owner, mode: u32) -> Result<(), Errno> {
    fchmod(&fd, settable(mode))?;
    fchown(&fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
}

fn failed(path: &Path, errno: Errno) -> FileError {
    let reason = match errno {
        Errno::ELOOP | Errno::EMLINK => "it is a symbolic link".to_owned(),
        Errno::ENOTDIR => "a part of the path is not a directory, or is a symbolic link".to_owned(),
        errno => std::io::Error::from(errno).to_string(),
    };
    FileError::Unusable { path: path.display().to_string(), reason }
}

fn refused(path: &Path, reason: &str) -> FileError {
    FileError::Unusable { path: path.display().to_string(), reason: reason.to_owned() }
}

mod locked;
mod look;
mod relocate;
#[cfg(test)]
mod tests;
mod write_new;
