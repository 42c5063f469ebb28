// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file with the access token, in a directory of its own that only this user can enter.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mytoken::private_files::{Directory, FileError, Owner, is_private_directory};
use mytoken_wire::paths::bearer_token_file;
use tempfile::TempDir;

/// The directory. It is removed when this value is dropped.
pub struct TokenFile {
    directory: Directory,
    name: String,
    _removed: TempDir,
}

impl TokenFile {
    /// Makes the directory below `runtime` (`XDG_RUNTIME_DIR`) if that is private, else in `temporary`.
    ///
    /// # Errors
    /// A sentence about the directory.
    pub fn new(runtime: Option<PathBuf>, temporary: PathBuf) -> Result<Self, String> {
        let private = runtime.filter(|path| path.is_absolute() && is_private_directory(path));
        let parent = private.unwrap_or(temporary);
        let failed =
            |error: std::io::Error| format!("cannot make a private directory in {}: {error}", parent.display());
        let made = tempfile::Builder::new()
            .prefix("mytoken-run-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(failed)?;
        // A directory like /tmp may be a symbolic link of the administrator.
        let path = made.path().canonicalize().map_err(failed)?;
        let directory = Directory::open(&path).map_err(|error| error.to_string())?;
        Ok(Self { directory, name: bearer_token_file(Owner::current().uid), _removed: made })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// Replaces the token.
    ///
    /// # Errors
    /// [`FileError`]; the old token stays.
    pub fn write(&self, token: &str) -> Result<(), FileError> {
        self.directory.write(&self.name, token.as_bytes(), Owner::current(), 0o400)
    }

    /// Removes the token.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove(&self) -> Result<(), FileError> {
        self.directory.remove(&self.name).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_is_private_and_goes_with_its_directory() {
        let parent = tempfile::tempdir().unwrap();
        let file = TokenFile::new(None, parent.path().to_owned()).unwrap();
        file.write("one").unwrap();
        file.write("two").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "two");
        assert_eq!(std::fs::metadata(file.path()).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(std::fs::metadata(file.path().parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        file.remove().unwrap();
        file.remove().unwrap();
        file.write("three").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_runtime_directory_that_others_can_enter_is_not_used() {
        let (runtime, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = |mode| {
            std::fs::set_permissions(runtime.path(), Permissions::from_mode(mode)).unwrap();
            TokenFile::new(Some(runtime.path().to_owned()), temporary.path().to_owned()).unwrap()
        };
        assert!(made(0o700).path().starts_with(runtime.path()));
        assert!(made(0o755).path().starts_with(temporary.path()));
        assert!(TokenFile::new(None, "/no/such/directory".into()).is_err_and(|error| error.contains("/no/such")));
    }
}
