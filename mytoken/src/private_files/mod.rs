// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories and files with credentials, which are accessed only through open handles.
//!
//! A [`Directory`] is opened component by component without following symbolic links. Owner and mode are read from the open handle, never
//! by name. A file in it appears whole or not at all. `chown` and `chmod` are never called with a path: between the check of a path
//! and its use, the user could replace the file.

mod directory;
mod error;
mod identity;
mod lock;
mod mode;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use directory::Directory;
pub use error::FileError;
pub use identity::Owner;
#[cfg(target_os = "linux")]
pub use identity::as_user;
pub use lock::{Lock, lock};
pub(crate) use mode::FileMode;

/// Whether `path` leads to a directory of the caller that no other user can use, as `XDG_RUNTIME_DIR` must be.
#[must_use]
pub fn is_private_directory(path: &Path) -> bool {
    let owner = Owner::current().uid;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == owner && meta.mode() & 0o077 == 0)
}
