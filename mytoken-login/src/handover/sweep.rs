// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is left of logins that never came to a session: another factor failed, or the client went away.
//!
//! Records are removed by their names; none is opened. A login looks at its own account's records only, at most
//! [`ACCOUNT_LIMIT`] of them, and once a minute, where no agent does it, at a few of the others'.

use mytoken::Clock;
use mytoken::files::Directory;
use mytoken::files::FileError;

use super::{AGE_LIMIT, Handover, Name};

/// Most records of one account. Each waits for its session for some milliseconds.
pub const ACCOUNT_LIMIT: usize = 64;

/// Seconds between two sweeps by logins, of all processes of sshd together.
const PAUSE: u64 = 60;

/// Most names that a login's sweep looks at. What it looks at and may not remove waits for a session, and of these sshd lets only a few
/// exist with keyboard-interactive, so the next sweep comes further. With the password method a record names sshd's listener (SSH-02), which
/// lives on: such ones wait for their age, and meanwhile many of them can keep a login's sweep from coming further. The agent's looks at all.
const GLANCES: usize = 200;

/// When the last sweep was, Unix seconds. Not a name that an account's directory can have.
const MARKER: &str = "swept";

impl Handover {
    /// A login's sweep: small, and only when nobody swept for a minute.
    pub fn sweep(&self, clock: &dyn Clock) {
        let Some(directory) = self.existing() else { return };
        if self.swept(&directory).is_none_or(|last| clock.now().abs_diff(last) >= PAUSE) {
            self.sweep_some(&directory, clock, GLANCES);
        }
    }

    /// The agent's sweep: everything.
    pub fn sweep_all(&self, clock: &dyn Clock) {
        if let Some(directory) = self.existing() {
            self.sweep_some(&directory, clock, usize::MAX);
        }
    }

    fn existing(&self) -> Option<Directory> {
        // A node without logins has none, and needs none.
        if self.directory.exists() { self.open().ok() } else { None }
    }

    fn swept(&self, directory: &Directory) -> Option<u64> {
        let text = directory.read(MARKER, self.owner, 0o600, 20).ok()??;
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    fn sweep_some(&self, directory: &Directory, clock: &dyn Clock, glances: usize) {
        let now = clock.now();
        // First of all, so that the logins that come meanwhile leave it to this one.
        let _ = directory.write(MARKER, now.to_string().as_bytes(), self.owner, 0o600);
        let mut left = glances;
        for name in directory.names().unwrap_or_default() {
            if left == 0 {
                return;
            }
            if name == MARKER {
                continue;
            }
            left -= 1;
            match directory.enter(&name, self.owner, 0o700) {
                Ok(account) => {
                    let names = account.names().unwrap_or_default();
                    left = left.saturating_sub(names.len());
                    remove_orphans(&account, &names, now);
                    // Fails when something is left in it, or was put there in this moment.
                    let _ = directory.remove_dir(&name);
                }
                // What an earlier version wrote, or nothing of ours.
                Err(_) if age_on_disk(directory, &name, now) > AGE_LIMIT => {
                    let _ = directory.remove(&name);
                }
                Err(_) => {}
            }
        }
    }

    /// The directory of an account with room for one more record.
    pub(super) fn room(&self, uid: u32, now: u64) -> Result<Directory, FileError> {
        let handover = self.open()?;
        let account = handover.make(&uid.to_string(), self.owner, 0o700)?;
        let names = account.names()?;
        if names.len() >= ACCOUNT_LIMIT {
            let removed = remove_orphans(&account, &names, now);
            if names.len() - removed >= ACCOUNT_LIMIT {
                return Err(FileError::Unusable {
                    path: account.path().display().to_string(),
                    reason: format!("{ACCOUNT_LIMIT} logins of this account wait for their session already"),
                });
            }
        }
        Ok(account)
    }
}

/// Removes records that nobody can take any more or that are too old; how many.
fn remove_orphans(account: &Directory, names: &[String], now: u64) -> usize {
    let over = |name: &&String| match name.parse::<Name>() {
        Ok(record) => record.age(now) > AGE_LIMIT || record.is_orphan(),
        // The half of a file whose writer died, or nothing of ours; a writer needs no ten minutes.
        Err(()) => age_on_disk(account, name, now) > AGE_LIMIT,
    };
    names.iter().filter(over).filter(|name| account.remove(name).unwrap_or(false)).count()
}

fn age_on_disk(directory: &Directory, name: &str, now: u64) -> u64 {
    let modified = std::fs::symlink_metadata(directory.path().join(name)).and_then(|meta| meta.modified());
    let seconds = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    seconds.map_or(0, |since| now.saturating_sub(since.as_secs()))
}
