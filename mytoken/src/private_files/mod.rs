// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories and files that hold credentials, reached by handles only.
//!
//! A [`Directory`] is opened component by component without following symbolic links and checked by what was opened, never by
//! name. Files in it appear whole or not at all. There is no `chown` or `chmod` by path anywhere: between the check of a path and
//! its use the user could swap it.

mod directory;
mod error;
mod identity;
mod lock;

pub use directory::{Directory, Owner};
pub use error::FileError;
pub use identity::as_user;
pub use lock::{Lock, lock};
