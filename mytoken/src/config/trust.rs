// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads configuration files only if no user except root and their owner can change them.
//!
//! Symbolic links are followed, because configuration management makes them. Every directory and link of the path, and of a link's target,
//! must be as safe as the file: whoever can change one of them can choose the file. Each component of the path is opened below the handle
//! of the one before ([`path_walk`]), so the file that was checked is the file that is read.

mod entry;
mod file_trust;
mod path_walk;

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mytoken_wire::shell_word;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

pub use file_trust::FileTrust;

use file_trust::{mendable, refused, unreadable};
use path_walk::{Found, open_checked};

use super::error::ConfigError;

/// Largest file in bytes. A configuration file has a page or two, and a map file has one line per person.
const LIMIT: u64 = 16 * 1024 * 1024;

impl FileTrust {
    /// Reads a text file, after checking that no other user can change it or a directory of its path.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if it cannot be read, [`ConfigError::Unsafe`] if others could have written it, [`ConfigError::Invalid`]
    /// with its line if it is not UTF-8.
    pub fn read(self, path: &Path) -> Result<String, ConfigError> {
        let bytes = self.read_bytes(path)?;
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::Invalid { place: format!("{}:{line}", path.display()), problem: "it is not UTF-8".to_owned() }
        })
    }

    /// As [`Self::read`]; `None` if there is no file, not even a link.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_optional(self, path: &Path) -> Result<Option<String>, ConfigError> {
        match open_checked(self, path)? {
            Found::Missing(_) => Ok(None),
            _ => self.read(path).map(Some),
        }
    }

    /// As [`Self::read`], but accepts bytes that are not UTF-8. For files of which the other lines must still be read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_bytes(self, path: &Path) -> Result<Vec<u8>, ConfigError> {
        let file = match open_checked(self, path)? {
            Found::File { file, .. } => file,
            Found::Directory { .. } => return Err(refused(path, "it is a directory")),
            Found::Missing(missing) | Found::Dangling(missing) => return Err(absent(path, &missing)),
        };
        let mut bytes = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error.to_string()))?;
        if bytes.len() as u64 > LIMIT { Err(unreadable(path, "it is larger than 16 MiB")) } else { Ok(bytes) }
    }

    /// Reads a file with a secret of at most `limit` bytes, as [`Self::read`]. Besides, other users must have no right to read it, and it
    /// must have only one name. `None` if there is no file, not even a link.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_private(self, path: &Path, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
        let (file, meta) = match open_checked(self, path)? {
            Found::File { file, meta } => (file, meta),
            Found::Directory { .. } => return Err(refused(path, "it is a directory")),
            Found::Missing(_) => return Ok(None),
            Found::Dangling(missing) => return Err(absent(path, &missing)),
        };
        if meta.mode() & 0o7177 != 0 {
            let mode = meta.mode() & 0o7777;
            let reason = format!("it has mode {mode:04o}, expected at most 0600");
            return Err(mendable(path, &reason, format!("chmod 600 {}", shell_word(&path.to_string_lossy()))));
        }
        if meta.nlink() != 1 {
            return Err(refused(path, "it has a second name (hard link)"));
        }
        // The buffer has its full size from the start: a growing one would leave copies of the secret in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error.to_string()))?;
        if bytes.len() > limit {
            Err(refused(path, &format!("it is longer than {limit} bytes")))
        } else {
            Ok(Some(bytes))
        }
    }

    /// Checks a file that another program reads. A missing file is not an error; that program reports it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check_file(self, path: &Path) -> Result<(), ConfigError> {
        match open_checked(self, path)? {
            Found::Missing(_) | Found::Dangling(_) | Found::File { .. } => Ok(()),
            Found::Directory { .. } => Err(refused(path, "it is a directory")),
        }
    }

    /// The names in a directory; `None` if the directory does not exist. A link whose target does not exist is an error: nobody knows
    /// what the directory would say.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn names(self, path: &Path) -> Result<Option<Vec<OsString>>, ConfigError> {
        let failed = |errno: Errno| unreadable(path, &std::io::Error::from(errno).to_string());
        let handle = match open_checked(self, path)? {
            Found::Missing(_) => return Ok(None),
            Found::Dangling(missing) => return Err(absent(path, &missing)),
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

    /// The real path of a directory, without links.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn directory(self, path: &Path) -> Result<PathBuf, ConfigError> {
        match open_checked(self, path)? {
            Found::Directory { path, .. } => Ok(path),
            Found::File { .. } => Err(refused(path, "it is not a directory")),
            Found::Missing(missing) | Found::Dangling(missing) => Err(absent(path, &missing)),
        }
    }
}

/// Whether there is nothing at `path`: no file, no link, and no link above it whose target is missing.
#[must_use]
pub fn is_missing(path: &Path) -> bool {
    let leads_nowhere = |part: &Path| part.is_symlink() && !part.exists();
    matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
        && !path.ancestors().any(leads_nowhere)
}

fn absent(path: &Path, missing: &Path) -> ConfigError {
    let reason = std::io::Error::from(Errno::ENOENT).to_string();
    if path == missing {
        unreadable(path, &reason)
    } else {
        unreadable(path, &format!("{}: {reason}", missing.display()))
    }
}

#[cfg(test)]
mod tests;
