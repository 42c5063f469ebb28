// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which configuration files are believed: only those that nobody but their owner can change.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

/// Whose files are believed. The owner is always joined by root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileTrust {
    owner: u32,
}

/// A configuration file is a page or two; more is a mistake or an attack.
const LIMIT: u64 = 1024 * 1024;

impl FileTrust {
    /// Root's files only: what `/etc/mytoken` needs.
    pub const ROOT: Self = Self { owner: 0 };

    /// Files of this user or of root: a user's own configuration, and tests.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self { owner: uid }
    }

    /// Reads a text file after checking that the file and every directory above it can be changed by nobody else.
    ///
    /// # Errors
    /// [`Error::ConfigUnreadable`] when it cannot be read, [`Error::ConfigUnsafe`] when others could have written it.
    pub fn read(self, path: &Path) -> Result<String, Error> {
        let unreadable = |error: std::io::Error| unreadable(path, &error);
        // O_NONBLOCK: a FIFO in the place of the file must not hang a login.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(unsafe_file(path, "it is not a regular file"));
        }
        self.check(path, meta.uid(), meta.mode(), false)?;
        self.check_above(path)?;
        let mut text = String::new();
        file.take(LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > LIMIT {
            return Err(Error::ConfigUnreadable {
                file: path.display().to_string(),
                reason: "it is larger than 1 MiB".to_owned(),
            });
        }
        Ok(text)
    }

    /// Checks a file that others read: that nobody else can change it, whatever symbolic links of the distribution lead to it. One
    /// that is missing is told by whoever needs it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn check_file(self, path: &Path) -> Result<(), Error> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(path, &error)),
        };
        let meta = real.metadata().map_err(|error| unreadable(&real, &error))?;
        self.check(&real, meta.uid(), meta.mode(), false)?;
        self.check_above(&real)?;
        self.check_above(path)
    }

    fn check_above(self, path: &Path) -> Result<(), Error> {
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let meta = above.metadata().map_err(|error| unreadable(path, &error))?;
            self.check(above, meta.uid(), meta.mode(), true)?;
        }
        Ok(())
    }

    fn check(self, path: &Path, uid: u32, mode: u32, directory: bool) -> Result<(), Error> {
        if uid != 0 && uid != self.owner {
            return Err(unsafe_file(path, &format!("it belongs to user {uid}; it must belong to root")));
        }
        let sticky_directory = directory && mode & libc::S_ISVTX != 0;
        if mode & 0o022 != 0 && !sticky_directory {
            return Err(unsafe_file(
                path,
                &format!("others can write it (mode {:04o}); run: chmod go-w {}", mode & 0o7777, path.display()),
            ));
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::ConfigUnreadable { file: path.display().to_string(), reason: error.to_string() }
}

fn unsafe_file(path: &Path, reason: &str) -> Error {
    Error::ConfigUnsafe { file: path.display().to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn me() -> FileTrust {
        FileTrust::user(nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.toml");
        fs::write(&path, "x = 1").unwrap();
        assert_eq!(me().read(&path).unwrap(), "x = 1");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let error = me().read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go-w"), "{error}");
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(me().read(&path), Err(Error::ConfigUnsafe { .. })));
    }

    #[test]
    fn what_a_link_leads_to_must_be_as_safe() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("ca.pem"), dir.path().join("link.pem"));
        symlink(&file, &link).unwrap();
        assert!(me().check_file(&link).is_ok(), "what is missing is told where it is needed");
        fs::write(&file, "x").unwrap();
        assert!(me().check_file(&link).is_ok());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(me().check_file(&link), Err(Error::ConfigUnsafe { .. })));
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.toml");
        symlink("/etc/hostname", &path).unwrap();
        assert!(me().read(&path).is_err());
    }
}
