// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories below `/run/mytoken`. They are made when the agent has not made them.

use std::path::Path;

use mytoken::private_files::{Directory, FileError, Owner};

/// The runtime directory itself, mode 0711.
pub(crate) fn open_runtime_dir(path: &Path, owner: Owner) -> Result<Directory, FileError> {
    let (above, name) = split(path)?;
    Directory::open(above)?.make(name, owner, 0o711)
}

/// A directory in the runtime directory, for `owner` alone.
pub(crate) fn open_private_dir(path: &Path, owner: Owner) -> Result<Directory, FileError> {
    let (above, name) = split(path)?;
    open_runtime_dir(above, owner)?.make(name, owner, 0o700)
}

fn split(path: &Path) -> Result<(&Path, &str), FileError> {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent().zip(name).ok_or_else(|| FileError::Unusable {
        path: path.display().to_string(),
        reason: "the path is not absolute".to_owned(),
    })
}
