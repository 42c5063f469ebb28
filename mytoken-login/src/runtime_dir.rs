// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runtime directory `/run/mytoken` and directories in it. The process that needs one first makes it: the PAM module or the agent.

use std::path::Path;

use mytoken::private_files::{Directory, FileError, Owner};

/// Opens the runtime directory at `path`, and makes it when it is missing: of `owner`, mode 0711.
///
/// # Errors
/// [`FileError::Unusable`].
pub fn open_runtime_dir(path: &Path, owner: Owner) -> Result<Directory, FileError> {
    let (above, name) = split(path)?;
    Directory::open(above)?.make(name, owner, 0o711)
}

/// Opens a directory in the runtime directory, and makes it when it is missing: for `owner` alone.
pub(crate) fn open_private_dir(path: &Path, owner: Owner) -> Result<Directory, FileError> {
    let (above, name) = split(path)?;
    open_runtime_dir(above, owner)?.make(name, owner, 0o700)
}

fn split(path: &Path) -> Result<(&Path, &str), FileError> {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent().zip(name).ok_or_else(|| FileError::Unusable {
        path: path.display().to_string(),
        reason: "the path must end in the name of a directory".to_owned(),
    })
}
