// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files of the configuration are read: only those that no user except their owner and root can change.
//!
//! Symbolic links are followed, for configuration management makes them. Every directory and every link of the path must be as
//! safe as the file, also those that a link leads to: a user who can change one of them chooses the file. Each component of the path is
//! opened by a descriptor ([`path_walk`]), so the file that was checked is the file that is read.

mod path_walk;

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

use self::path_walk::{Found, open_checked};
use super::ConfigError;
use crate::private_files::Owner;

/// Whose files are read: those of one user and of root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileTrust {
    owner: u32,
    /// Whether a directory with the sticky bit, which every user can write, may be a part of the path.
    sticky: bool,
}

/// A configuration file is a page or two, a map file has a line for each person; more is a mistake or an attack.
const LIMIT: u64 = 16 * 1024 * 1024;

impl FileTrust {
    /// Root's files only: what `/etc/mytoken` needs. A directory like `/tmp` is never on the way to them.
    pub const ROOT: Self = Self { owner: 0, sticky: false };

    /// Files of this user or of root: a user's own configuration, and tests. A home may lie below a directory like `/tmp`, where
    /// no other user can rename or remove it.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self { owner: uid, sticky: true }
    }

    /// Root's files for root, else this user's.
    #[must_use]
    pub fn current() -> Self {
        let uid = Owner::current().uid;
        if uid == 0 { Self::ROOT } else { Self::user(uid) }
    }

    /// Reads a text file after checking that no other user can change it or a directory of its path.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when it cannot be read, [`ConfigError::Unsafe`] when others could have written it.
    pub fn read(self, path: &Path) -> Result<String, ConfigError> {
        let bytes = self.read_bytes(path)?;
        String::from_utf8(bytes).map_err(|_| unreadable(path, "it is not UTF-8"))
    }

    /// As [`Self::read`], for files in which a wrong byte must not spoil the rest.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_bytes(self, path: &Path) -> Result<Vec<u8>, ConfigError> {
        let file = match open_checked(self, path)? {
            Found::File { file, .. } => file,
            Found::Directory { .. } => return Err(refused(path, "it is a directory")),
            Found::Missing(missing) => return Err(absent(path, &missing)),
        };
        let mut bytes = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error.to_string()))?;
        if bytes.len() as u64 > LIMIT { Err(unreadable(path, "it is larger than 16 MiB")) } else { Ok(bytes) }
    }

    /// Reads a file with a secret of at most `limit` bytes: as [`Self::read`]; besides, no other user may read it and it must have one name.
    /// `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_private(self, path: &Path, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
        let (file, meta) = match open_checked(self, path)? {
            Found::File { file, meta } => (file, meta),
            Found::Directory { .. } => return Err(refused(path, "it is a directory")),
            Found::Missing(_) => return Ok(None),
        };
        if meta.mode() & 0o7177 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(refused(path, &format!("it has mode {mode:04o}, expected at most 0600")));
        }
        if meta.nlink() != 1 {
            return Err(refused(path, "it has a second name (hard link)"));
        }
        // Room for everything at once: a growing vector would leave copies of the secret in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error.to_string()))?;
        if bytes.len() > limit {
            Err(refused(path, &format!("it is longer than {limit} bytes")))
        } else {
            Ok(Some(bytes))
        }
    }

    /// Checks a file that others read. A missing one is no error here: the program that needs it reports it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check_file(self, path: &Path) -> Result<(), ConfigError> {
        match open_checked(self, path)? {
            Found::Missing(_) | Found::File { .. } => Ok(()),
            Found::Directory { .. } => Err(refused(path, "it is a directory")),
        }
    }

    /// The names in a directory; `None` when there is no such directory.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn names(self, path: &Path) -> Result<Option<Vec<OsString>>, ConfigError> {
        let failed = |errno: Errno| unreadable(path, &std::io::Error::from(errno).to_string());
        let handle = match open_checked(self, path)? {
            Found::Missing(_) => return Ok(None),
            Found::File { .. } => return Err(refused(path, "it is not a directory")),
            Found::Directory { handle, .. } => handle,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&handle, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(std::os::unix::ffi::OsStringExt::from_vec(name.to_vec()));
            }
        }
        Ok(Some(names))
    }

    /// Where a directory is, without links in its path.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn directory(self, path: &Path) -> Result<PathBuf, ConfigError> {
        match open_checked(self, path)? {
            Found::Directory { path, .. } => Ok(path),
            Found::File { .. } => Err(refused(path, "it is not a directory")),
            Found::Missing(missing) => Err(absent(path, &missing)),
        }
    }

    /// Why a part of the path with this owner and mode is not safe.
    fn fault(self, part: Part, uid: u32, mode: u32) -> Option<Fault> {
        if uid != 0 && uid != self.owner {
            return Some(Fault::Owner(uid));
        }
        let sticky = self.sticky && part == Part::Directory && mode & libc::S_ISVTX != 0;
        (part != Part::Link && mode & 0o022 != 0 && !sticky).then_some(Fault::Writable(mode & 0o7777))
    }
}

/// A part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Directory,
    /// Its mode means nothing.
    Link,
    File,
}

/// What is wrong with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It belongs to this user.
    Owner(u32),
    /// Others can write it: its mode.
    Writable(u32),
}

fn absent(path: &Path, missing: &Path) -> ConfigError {
    let reason = std::io::Error::from(Errno::ENOENT).to_string();
    if path == missing {
        unreadable(path, &reason)
    } else {
        unreadable(path, &format!("{}: {reason}", missing.display()))
    }
}

fn unreadable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unreadable { file: path.display().to_string(), reason: reason.to_owned() }
}

fn refused(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unsafe { file: path.display().to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
