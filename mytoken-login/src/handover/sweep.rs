// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removes records of logins that never opened a session: another factor failed, or the client went away.
//!
//! The name of a record decides; no record is opened. One whose mytoken is to be revoked stays for the agent, which reads it
//! ([`Handover::abandoned`]). Without an agent it is removed after [`REVOCABLE_LIMIT`]; its mytoken is then valid until it expires.
//!
//! A login checks the records of its own account, at most [`ACCOUNT_LIMIT`] and [`LEFT_LIMIT`]. Once a minute a login also checks a few records of other
//! accounts, unless the agent does it.

use mytoken::Clock;
use mytoken::private_files::{Directory, FileError};

use super::Handover;
use super::kept::UNREADABLE;
use super::name::{Content, RecordName};
use super::record::AGE_LIMIT;

/// Maximum number of records of one account that wait for their session. Such a record exists for some milliseconds, or, for a login with a
/// link, until its person has confirmed it.
pub const ACCOUNT_LIMIT: usize = 64;

/// Maximum number of records of one account that wait for the agent. They take no place of the logins. The records of links that were given
/// up are those of the account `nobody`; the budget of requests permits far fewer between two sweeps of the agent.
pub const LEFT_LIMIT: usize = 512;

/// How long a record whose mytoken is to be revoked waits for the agent, in seconds.
const REVOCABLE_LIMIT: u64 = 24 * 3600;

/// Seconds between two sweeps by logins, of all processes of sshd together.
const SWEEP_INTERVAL: u64 = 60;

/// Maximum number of names that the sweep of a login checks. Records that wait for their session stay and are checked again by the
/// next sweep. With keyboard-interactive they are few. With the password method a record names sshd's listener, which keeps running
/// (SSH-02), so the record stays until [`AGE_LIMIT`]. Many such records can use up each sweep of a login. The agent's sweep checks all
/// names.
const NAMES_LIMIT: usize = 200;

/// File with the time of the last sweep, in Unix seconds. No account's directory has this name.
const LAST_SWEEP: &str = "swept";

impl Handover {
    /// The sweep of a login: a few names, and only if the last sweep was more than a minute ago.
    pub fn sweep(&self, clock: &dyn Clock) {
        let Some(directory) = self.open_existing() else { return };
        if self.read_last_sweep(&directory).is_none_or(|last| clock.now().abs_diff(last) >= SWEEP_INTERVAL) {
            self.sweep_names(&directory, clock, NAMES_LIMIT);
        }
    }

    /// The sweep of the agent: all names.
    pub fn sweep_all(&self, clock: &dyn Clock) {
        if let Some(directory) = self.open_existing() {
            self.sweep_names(&directory, clock, usize::MAX);
        }
    }

    pub(super) fn open_existing(&self) -> Option<Directory> {
        // Before the first login there is no directory. A sweep does not make it.
        if self.directory.exists() { self.open().ok() } else { None }
    }

    fn read_last_sweep(&self, directory: &Directory) -> Option<u64> {
        let text = directory.read(LAST_SWEEP, self.owner, 0o600, 20).ok()??;
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    fn sweep_names(&self, directory: &Directory, clock: &dyn Clock, limit: usize) {
        let now = clock.now();
        // Written first, so that logins in the meantime do not sweep too.
        let _ = directory.write(LAST_SWEEP, now.to_string().as_bytes(), self.owner, 0o600);
        let mut remaining = limit;
        for name in directory.names().unwrap_or_default() {
            if remaining == 0 {
                return;
            }
            if name == LAST_SWEEP || name == UNREADABLE {
                continue;
            }
            remaining -= 1;
            match directory.enter(&name, self.owner, 0o700) {
                Ok(account) => {
                    let names = account.names().unwrap_or_default();
                    remaining = remaining.saturating_sub(names.len());
                    // One of a session is as old as the session.
                    let is_given_up = |record: &RecordName| {
                        record.content() != Content::OfSession && record.age(now) > REVOCABLE_LIMIT
                    };
                    remove_orphans(&account, &names, now, is_given_up);
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

    /// Makes the directory of an account, and room for one more record in it. `is_left`: the record is for the agent from its begin.
    pub(super) fn make_account_directory(&self, uid: u32, now: u64, is_left: bool) -> Result<Directory, FileError> {
        let handover = self.open()?;
        let account = handover.make(&uid.to_string(), self.owner, 0o700)?;
        let names = account.names()?;
        if names.len() < ACCOUNT_LIMIT {
            return Ok(account);
        }
        remove_orphans(&account, &names, now, |_| false);
        let names = account.names()?;
        let (left, others): (Vec<_>, Vec<_>) = names
            .iter()
            .map(|name| (name, name.parse::<RecordName>().ok()))
            .partition(|(_, record)| record.as_ref().is_some_and(|record| is_for_agent(record, now)));
        let left = make_room_for_agent(&account, left, now);
        let (full, what) = if is_left {
            (left >= LEFT_LIMIT, format!("{LEFT_LIMIT} records of this account are waiting for the agent already"))
        } else {
            let waiting = format!("{ACCOUNT_LIMIT} logins of this account are waiting for their session already");
            (others.len() >= ACCOUNT_LIMIT, waiting)
        };
        if full {
            return Err(FileError::Unusable { path: account.path().display().to_string(), reason: what });
        }
        Ok(account)
    }
}

/// Whether the agent will revoke the mytoken of the record, now or at the end of its session. No login waits for it.
fn is_for_agent(record: &RecordName, now: u64) -> bool {
    match record.content() {
        Content::Plain => false,
        Content::Revocable | Content::OfLogin => record.is_obsolete(now),
        Content::OfSession => true,
    }
}

/// Removes the oldest records for the agent, except those of sessions that run, until there is room for one more. So many wait only where
/// no agent runs, and then nobody revokes their mytokens. Returns how many are left.
fn make_room_for_agent(account: &Directory, left: Vec<(&String, Option<RecordName>)>, now: u64) -> usize {
    let surplus = (left.len() + 1).saturating_sub(LEFT_LIMIT);
    if surplus == 0 {
        return left.len();
    }
    let count = left.len();
    let mut obsolete: Vec<(u64, &String)> = left
        .into_iter()
        .filter_map(|(name, record)| {
            record.filter(|record| record.is_obsolete(now)).map(|record| (record.age(now), name))
        })
        .collect();
    obsolete.sort_unstable();
    let oldest = obsolete.into_iter().rev().take(surplus);
    count - oldest.filter(|(_, name)| account.remove(name).unwrap_or(false)).count()
}

/// Removes records that are too old or that no process can take any more; those with a mytoken to revoke only if `is_given_up` says so.
fn remove_orphans(account: &Directory, names: &[String], now: u64, is_given_up: impl Fn(&RecordName) -> bool) {
    let obsolete = |name: &&String| match name.parse::<RecordName>() {
        Ok(record) => record.is_obsolete(now) && (record.content() == Content::Plain || is_given_up(&record)),
        // An incomplete file whose writer died, or a file of another program. A writer needs less than ten minutes.
        Err(()) => age_on_disk(account, name, now) > AGE_LIMIT,
    };
    for name in names.iter().filter(obsolete) {
        // The next sweep tries it again.
        let _ = account.remove(name);
    }
}

fn age_on_disk(directory: &Directory, name: &str, now: u64) -> u64 {
    let modified = std::fs::symlink_metadata(directory.path().join(name)).and_then(|meta| meta.modified());
    let seconds = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    seconds.map_or(0, |since| now.saturating_sub(since.as_secs()))
}
