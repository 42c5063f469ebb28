// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removes records of logins that never opened a session: another factor failed, or the client went away.
//!
//! The name of a record decides; no record is opened. A login checks the records of its own account, at most [`ACCOUNT_LIMIT`]. Once a
//! minute a login also checks a few records of other accounts, unless the agent does it.

use mytoken::Clock;
use mytoken::private_files::Directory;
use mytoken::private_files::FileError;

use super::Handover;
use super::name::RecordName;
use super::record::AGE_LIMIT;

/// Most records of one account. A record exists for some milliseconds, until its session takes it.
pub const ACCOUNT_LIMIT: usize = 64;

/// Seconds between two sweeps by logins, of all processes of sshd together.
const SWEEP_INTERVAL: u64 = 60;

/// Most names that the sweep of a login checks. A record that it must keep waits for its session. With keyboard-interactive sshd has few
/// of these at a time, so the next sweep gets further. With the password method a record names sshd's listener, which keeps running
/// (SSH-02): such a record stays until [`AGE_LIMIT`], and many of them can stop the sweeps of logins at the same names. The agent's sweep
/// checks all.
const NAMES_LIMIT: usize = 200;

/// File with the time of the last sweep, in Unix seconds. No account's directory has this name.
const LAST_SWEEP: &str = "swept";

impl Handover {
    /// The sweep of a login: a few names, and only if the last sweep was more than a minute ago.
    pub fn sweep(&self, clock: &dyn Clock) {
        let Some(directory) = self.existing() else { return };
        if self.last_sweep(&directory).is_none_or(|last| clock.now().abs_diff(last) >= SWEEP_INTERVAL) {
            self.sweep_some(&directory, clock, NAMES_LIMIT);
        }
    }

    /// The sweep of the agent: all names.
    pub fn sweep_all(&self, clock: &dyn Clock) {
        if let Some(directory) = self.existing() {
            self.sweep_some(&directory, clock, usize::MAX);
        }
    }

    fn existing(&self) -> Option<Directory> {
        // Without logins there is no directory, and none is made.
        if self.directory.exists() { self.open().ok() } else { None }
    }

    fn last_sweep(&self, directory: &Directory) -> Option<u64> {
        let text = directory.read(LAST_SWEEP, self.owner, 0o600, 20).ok()??;
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    fn sweep_some(&self, directory: &Directory, clock: &dyn Clock, limit: usize) {
        let now = clock.now();
        // Written first, so that logins in the meantime do not sweep too.
        let _ = directory.write(LAST_SWEEP, now.to_string().as_bytes(), self.owner, 0o600);
        let mut left = limit;
        for name in directory.names().unwrap_or_default() {
            if left == 0 {
                return;
            }
            if name == LAST_SWEEP {
                continue;
            }
            left -= 1;
            match directory.enter(&name, self.owner, 0o700) {
                Ok(account) => {
                    let names = account.names().unwrap_or_default();
                    left = left.saturating_sub(names.len());
                    remove_orphans(&account, &names, now);
                    // Fails when the directory is not empty.
                    let _ = directory.remove_dir(&name);
                }
                // A file of an earlier version, or of another program.
                Err(_) if age_on_disk(directory, &name, now) > AGE_LIMIT => {
                    let _ = directory.remove(&name);
                }
                Err(_) => {}
            }
        }
    }

    /// The directory of an account, with room for one more record.
    pub(super) fn account_directory(&self, uid: u32, now: u64) -> Result<Directory, FileError> {
        let handover = self.open()?;
        let account = handover.make(&uid.to_string(), self.owner, 0o700)?;
        let names = account.names()?;
        if names.len() >= ACCOUNT_LIMIT {
            let removed = remove_orphans(&account, &names, now);
            if names.len() - removed >= ACCOUNT_LIMIT {
                return Err(FileError::Unusable {
                    path: account.path().display().to_string(),
                    reason: format!("{ACCOUNT_LIMIT} logins of this account are waiting for their session already"),
                });
            }
        }
        Ok(account)
    }
}

/// Removes records that are too old or that no process can take any more. Returns how many.
fn remove_orphans(account: &Directory, names: &[String], now: u64) -> usize {
    let obsolete = |name: &&String| match name.parse::<RecordName>() {
        Ok(record) => record.age(now) > AGE_LIMIT || record.is_orphan(),
        // An incomplete file whose writer died, or a file of another program. A writer needs less than ten minutes.
        Err(()) => age_on_disk(account, name, now) > AGE_LIMIT,
    };
    names.iter().filter(obsolete).filter(|name| account.remove(name).unwrap_or(false)).count()
}

fn age_on_disk(directory: &Directory, name: &str, now: u64) -> u64 {
    let modified = std::fs::symlink_metadata(directory.path().join(name)).and_then(|meta| meta.modified());
    let seconds = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    seconds.map_or(0, |since| now.saturating_sub(since.as_secs()))
}
