// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files with access tokens, in a directory of their own that only this user can enter.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mytoken::private_files::{Directory, FileError, Owner, is_private_directory};
use mytoken_wire::FileName;
use mytoken_wire::paths::{bearer_token_file, named_token_file};
use tempfile::TempDir;

/// The directory. It is removed when this value is dropped.
pub struct TokenFiles {
    directory: Directory,
    _removed: TempDir,
}

impl TokenFiles {
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
        Ok(Self { directory, _removed: made })
    }

    /// The path of the main file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join(file_name(None))
    }

    /// Replaces the token of the main file, or of the further one with this name.
    ///
    /// # Errors
    /// [`FileError`]; the old token stays.
    pub fn write(&self, name: Option<&FileName>, token: &str) -> Result<(), FileError> {
        self.directory.write(&file_name(name), token.as_bytes(), Owner::current(), 0o400)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove(&self, name: Option<&FileName>) -> Result<(), FileError> {
        self.directory.remove(&file_name(name)).map(drop)
    }
}

fn file_name(name: Option<&FileName>) -> String {
    let uid = Owner::current().uid;
    name.map_or_else(|| bearer_token_file(uid), |name| named_token_file(uid, name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_is_private_and_goes_with_its_directory() {
        let parent = tempfile::tempdir().unwrap();
        let file = TokenFiles::new(None, parent.path().to_owned()).unwrap();
        file.write(None, "one").unwrap();
        file.write(None, "two").unwrap();
        let ce = FileName::parse("ce").unwrap();
        file.write(Some(&ce), "further").unwrap();
        let further = format!("{}-ce", file.path().display());
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "two");
        assert_eq!(std::fs::read_to_string(&further).unwrap(), "further");
        assert_eq!(std::fs::metadata(file.path()).unwrap().mode() & 0o7777, 0o400);
        assert_eq!(std::fs::metadata(file.path().parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        file.remove(None).unwrap();
        file.remove(None).unwrap();
        assert!(std::path::Path::new(&further).exists());
        file.write(None, "three").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_runtime_directory_that_others_can_enter_is_not_used() {
        let (runtime, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = |mode| {
            std::fs::set_permissions(runtime.path(), Permissions::from_mode(mode)).unwrap();
            TokenFiles::new(Some(runtime.path().to_owned()), temporary.path().to_owned()).unwrap()
        };
        assert!(made(0o700).path().starts_with(runtime.path()));
        assert!(made(0o755).path().starts_with(temporary.path()));
        assert!(TokenFiles::new(None, "/no/such/directory".into()).is_err_and(|error| error.contains("/no/such")));
    }
}
