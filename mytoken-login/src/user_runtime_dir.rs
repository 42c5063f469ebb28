// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's runtime directory `/run/user/<uid>`, which `pam_systemd` makes, and which logind removes after the user's last session.

use std::path::Path;

use mytoken::private_files::{Directory, FileError, Owner, as_user};

/// Where the users' runtime directories are.
pub const USERS: &str = "/run/user";

/// The suite's directory in a user's runtime directory.
const OWN: &str = "mytoken";

/// The directory with the sessions of `owner` below `users`. It is the user's, mode 0700. `None`: the user has no runtime directory, or,
/// unless `make` says that it is made, no directory of this suite in it.
///
/// # Errors
/// [`FileError::Unusable`] if the runtime directory is not the user's, is open to others or is not in memory; [`FileError::Identity`].
pub fn user_sessions(users: &Path, owner: Owner, make: bool) -> Result<Option<Directory>, FileError> {
    let uid = owner.uid.to_string();
    if !users.is_dir() {
        return Ok(None);
    }
    let users = Directory::open(users)?;
    if !users.has(&uid)? {
        return Ok(None);
    }
    let runtime = users.enter(&uid, owner, 0o700)?;
    if !runtime.is_in_memory()? {
        let (path, reason) = (runtime.path().display().to_string(), "it is not on a tmpfs".to_owned());
        return Err(FileError::Unusable { path, reason });
    }
    // The user may put anything there at any time, so only the rights of the user are used.
    as_user(owner, || {
        if make {
            return runtime.make(OWN, owner, 0o700).map(Some);
        }
        if runtime.has(OWN)? { runtime.enter(OWN, owner, 0o700).map(Some) } else { Ok(None) }
    })
}
