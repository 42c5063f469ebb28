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

pub use directory::Directory;
pub use error::FileError;
pub use identity::{Owner, as_user};
pub use lock::{Lock, lock};
