// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories of this suite that may not exist yet.

use std::path::Path;

use mytoken::Error;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, FileError, Owner};

/// Opens a directory, and makes it and missing ones above it with mode 0755. It may be behind a symbolic link; nobody but root and `me` may be
/// able to write to it.
///
/// # Errors
/// [`FileError::Unusable`], or an error of the configuration if others could have changed the path.
pub fn open_or_make(dir: &Path, me: Owner) -> Result<Directory, Error> {
    if dir.is_relative() {
        return Err(refused(dir, "the path must be absolute"));
    }
    if dir.exists() {
        // /etc/mytoken may be a symbolic link. Its target must be as safe as for the programs that read the keys.
        return Ok(Directory::open(&FileTrust::user(me.uid).directory(dir)?)?);
    }
    let (above, name) = split(dir)?;
    Ok(open_or_make(above, me)?.make(name, me, 0o755)?)
}

/// Opens a directory, and makes it with mode 0700 if it is missing. The one above it must exist.
///
/// # Errors
/// [`FileError::Unusable`].
pub fn open_private(dir: &Path, me: Owner) -> Result<Directory, Error> {
    let (above, name) = split(dir)?;
    Ok(Directory::open(above)?.make(name, me, 0o700)?)
}

fn split(dir: &Path) -> Result<(&Path, &str), Error> {
    let name = dir.file_name().and_then(|name| name.to_str());
    dir.parent().zip(name).ok_or_else(|| refused(dir, "the path must end in the name of a directory"))
}

fn refused(path: &Path, reason: &str) -> Error {
    Error::File(FileError::Unusable { path: path.display().to_string(), reason: reason.to_owned() })
}
