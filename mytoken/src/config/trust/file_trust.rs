// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose files are trusted, and what makes a part of a path unsafe.

use std::path::Path;

use crate::config::error::ConfigError;
use crate::private_files::Owner;

/// The users whose files are read: one user, and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileTrust {
    owner: u32,
    /// Whether the path may contain a directory with the sticky bit to which all users can write.
    sticky: bool,
}

impl FileTrust {
    /// Only root's files, for `/etc/mytoken`. The path must not contain a directory like `/tmp`.
    pub const ROOT: Self = Self { owner: 0, sticky: false };

    /// Files of this user and of root, for a user's own configuration and for tests. The path may contain a directory like `/tmp`, because
    /// other users cannot rename or remove the user's files there.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self { owner: uid, sticky: true }
    }

    /// The trust of the calling user: [`Self::ROOT`] for root, else [`Self::user`].
    #[must_use]
    pub fn current() -> Self {
        let uid = Owner::current().uid;
        if uid == 0 { Self::ROOT } else { Self::user(uid) }
    }

    /// Why a part of the path with this owner and mode is not safe.
    pub(super) fn fault(self, part: PathPart, uid: u32, mode: u32) -> Option<Fault> {
        if uid != 0 && uid != self.owner {
            return Some(Fault::Owner(uid));
        }
        let sticky = self.sticky && part == PathPart::Directory && mode & 0o1000 != 0;
        (part != PathPart::Link && mode & 0o022 != 0 && !sticky).then_some(Fault::Writable(mode & 0o7777))
    }
}

/// A part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathPart {
    Directory,
    /// The mode of a link has no meaning.
    Link,
    File,
}

/// What is wrong with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It belongs to this other user.
    Owner(u32),
    /// Others can write to it; it has this mode.
    Writable(u32),
}

pub(super) fn unreadable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unreadable { file: path.display().to_string(), reason: reason.to_owned() }
}

pub(super) fn refused(path: &Path, reason: &str) -> ConfigError {
    mendable(path, reason, String::new())
}

/// The error for an unsafe file that the command `fix` makes safe.
pub(super) fn mendable(path: &Path, reason: &str, fix: String) -> ConfigError {
    ConfigError::Unsafe { file: path.display().to_string(), reason: reason.to_owned(), fix }
}
