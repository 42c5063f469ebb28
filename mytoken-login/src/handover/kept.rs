// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that this version cannot read are kept in another directory: a delegated mytoken in them is valid until it expires, and an
//! administrator can read and revoke it.

use mytoken::private_files::{Directory, FileError};

use super::{Handover, RecordError};

/// Directory of the records that could not be read, beside those of the accounts. No account's directory has this name.
pub const UNREADABLE: &str = "unreadable";

/// Most records in it. The oldest ones make room.
const MOST_KEPT: usize = 64;

impl Handover {
    /// Moves the record `name` of the account `uid` aside. It cannot be taken any more.
    pub(super) fn keep(
        &self,
        handover: &Directory,
        (account, uid, name): (&Directory, &str, &str),
        reason: &RecordError,
    ) -> RecordError {
        let kept = || -> Result<String, FileError> {
            let directory = handover.make(UNREADABLE, self.owner, 0o700)?;
            let mut names = directory.names()?;
            let written = |name: &String| {
                std::fs::symlink_metadata(directory.path().join(name)).and_then(|meta| meta.modified()).ok()
            };
            names.sort_by_cached_key(written);
            for oldest in names.iter().take((names.len() + 1).saturating_sub(MOST_KEPT)) {
                directory.remove(oldest)?;
            }
            let new = format!("{uid}-{name}");
            account.move_to(name, &directory, &new)?;
            Ok(directory.path().join(new).display().to_string())
        };
        let fate =
            kept().map_or_else(|error| format!("it cannot be kept: {error}"), |path| format!("it is kept as {path}"));
        RecordError::Unreadable { reason: reason.to_string(), fate }
    }
}
