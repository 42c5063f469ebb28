// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows changes of the files by other processes.

use std::sync::{MutexGuard, TryLockError};
use std::time::Duration;

use mytoken::private_files::FileError;
use nix::sys::stat::fstat;

use super::{Entries, LOOK, MODE, Register, Standing, entry};
use crate::broker::identity::register::NodeEntry;

/// A change within this time before a scan may have happened during it: the times of files advance in steps of milliseconds.
const UNSURE_MILLIS: u64 = 1000;

/// Scans take at most this share of the time.
const SHARE: u32 = 20;

/// What is known about the directory.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Time of its last change before the last scan. `None`: it has to be scanned.
    changed: Option<Change>,
    /// When to look again, as elapsed time.
    next: Duration,
}

impl Followed {
    /// Whether the files have to be read at the next look, whatever the directory's time is.
    pub(super) fn is_to_be_read(&self) -> bool {
        self.changed.is_none()
    }
}

/// Seconds and nanoseconds of the last changes of the directory's names and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    names: (i64, i64),
    attributes: (i64, i64),
}

impl Register {
    /// Whether it is time for [`Self::follow`]. It does not wait for the disk, nor for anybody who does.
    #[must_use]
    pub fn is_look_due(&self) -> bool {
        self.try_hold().is_some_and(|followed| self.clock.elapsed() >= followed.next)
    }

    /// Reads the files if the directory has changed since it was read. Does nothing if another thread does it, or if it is too early. It
    /// waits for the disk.
    pub fn follow(&self) {
        let Some(mut followed) = self.try_hold() else { return };
        if self.clock.elapsed() < followed.next {
            return;
        }
        followed.next = self.clock.elapsed() + LOOK;
        if followed.is_to_be_read() || self.change().is_none_or(|change| Some(change) != followed.changed) {
            // What was known stays, and the next look tries again.
            let fault = self.scan(&mut followed).err();
            *self.fault() = fault;
        }
    }

    /// `None`: another thread reads or writes files.
    fn try_hold(&self) -> Option<MutexGuard<'_, Followed>> {
        match self.followed.try_lock() {
            Ok(followed) => Some(followed),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Reads all files.
    pub(super) fn scan(&self, followed: &mut Followed) -> Result<(), FileError> {
        let begin = self.clock.elapsed();
        followed.changed = None;
        // Before the files are read: a change in between is seen by the next look.
        let change = self.change();
        let now = self.clock.unix_millis();
        let mut entries = Entries::new();
        for name in self.directory.names()? {
            let Some(node) = entry::node_of(&name) else { continue };
            let standing = match self.directory.read(&name, self.owner, MODE, entry::LIMIT) {
                // It was removed a moment ago.
                Ok(None) => continue,
                Ok(Some(bytes)) => match NodeEntry::parse(&bytes, &node) {
                    Ok(entry) => Standing::Entry(entry),
                    Err(reason) => Standing::Unreadable(self.unreadable(&name, &reason).to_string()),
                },
                Err(error) => Standing::Unreadable(error.to_string()),
            };
            entries.insert(node, standing);
        }
        *self.write_entries() = entries;
        followed.changed = change.filter(|change| change.is_long_before(now));
        let end = self.clock.elapsed();
        followed.next = end + LOOK.max(end.saturating_sub(begin).saturating_mul(SHARE));
        Ok(())
    }

    fn change(&self) -> Option<Change> {
        let stat = fstat(self.directory.handle()).ok()?;
        #[allow(clippy::useless_conversion, reason = "32 bits on some systems")]
        let time = |seconds, nanoseconds| (i64::from(seconds), i64::from(nanoseconds));
        Some(Change {
            names: time(stat.st_mtime, stat.st_mtime_nsec),
            attributes: time(stat.st_ctime, stat.st_ctime_nsec),
        })
    }
}

impl Change {
    /// Whether no change at `now` (Unix milliseconds) or later could have the same time.
    fn is_long_before(self, now: u64) -> bool {
        let seconds = self.names.0.max(self.attributes.0);
        u64::try_from(seconds).is_ok_and(|seconds| (seconds + 1).saturating_mul(1000) + UNSURE_MILLIS <= now)
    }
}
