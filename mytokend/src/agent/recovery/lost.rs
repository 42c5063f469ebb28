// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access tokens of an earlier run that have no lease which this agent can read. Each gets one that removes it when it expires.

use std::collections::HashSet;

use mytoken::private_files::Owner;
use mytoken::time_format;

use super::looks::{Found, Place};
use crate::agent::file_queue::FilePlace;
use crate::agent::lease::{AdmittedFile, CurrentToken, Lease, LeaseKey, NamedFile, Phase};
use crate::agent::lease_table::LeaseTable;
use crate::agent::name;
use crate::agent::runtime_dir::{Left, UnreadableRecord};
use crate::log::{Level, Log};

/// How long a lease that only removes the token of a session is kept after the token's end, in milliseconds. The user may hold
/// the file.
const REMOVAL_TIME: u64 = 86_400_000;

/// Why a session has no lease, and a job perhaps.
const UNREADABLE: &str = "its stored lease cannot be read";

/// The jobs and sessions of an earlier run that have no lease which this agent can read.
pub struct Lost {
    /// Why a job has no lease.
    why: &'static str,
    /// Those with a record that cannot be read.
    unreadable: HashSet<LeaseKey>,
    /// Their records could not be put aside. Only a change of the new lease replaces them.
    unstored: HashSet<LeaseKey>,
}

impl Lost {
    /// With these records, those that an earlier start has put aside, and the leases that could be read.
    pub(super) fn new(records: &[UnreadableRecord], earlier: Vec<LeaseKey>, table: &LeaseTable) -> Self {
        let lost = |record: &&UnreadableRecord| record.key.as_ref().is_some_and(|key| table.get(key).is_none());
        let (mut unreadable, mut unstored) = (HashSet::new(), HashSet::new());
        for record in records.iter().filter(lost) {
            unreadable.extend(record.key.clone());
            unstored.extend(record.key.clone().filter(|_| record.kept.is_err()));
        }
        // Perhaps the agent ended before it had looked for the token of a session. A job is found by its directory.
        let is_lost = |key: &LeaseKey| matches!(key, LeaseKey::Session(_)) && table.get(key).is_none();
        unreadable.extend(earlier.into_iter().filter(is_lost));
        let why = if records.is_empty() { "there is no stored lease of it" } else { UNREADABLE };
        Self { why, unreadable, unstored }
    }

    /// The sessions.
    pub(super) fn sessions(&self) -> Vec<String> {
        let id = |key: &LeaseKey| if let LeaseKey::Session(session) = key { Some(session.clone()) } else { None };
        self.unreadable.iter().filter_map(id).collect()
    }

    /// Whether a job has a record that cannot be read.
    pub(super) fn has_job(&self, job: u32) -> bool {
        self.unreadable.contains(&LeaseKey::Job(job))
    }

    /// Gives the access tokens that were found in a place leases of their own. Returns the keys of those that are to be stored:
    /// by them the next start knows the job or session, also after the token's end. `now` is Unix milliseconds.
    pub(super) fn take(
        &self,
        table: &mut LeaseTable,
        (place, found): (Place, Found),
        now: u64,
        log: &Log,
    ) -> Vec<LeaseKey> {
        if let Place::Job(job) = place {
            // It has begun or ended since the look.
            let place = FilePlace::Job(job);
            if table.runs_at(&place) || table.files.has_work(&place) || table.files.is_left(&place) {
                return Vec::new();
            }
        }
        match (place, found) {
            (Place::Job(job), Ok(found)) if found.is_empty() => {
                end_directory(table, job, log);
                Vec::new()
            }
            (_, Ok(found)) => found.into_iter().filter_map(|found| self.keep(table, found, now, log)).collect(),
            (Place::Job(job), Err(error)) => {
                let text = format!("job {job}: its directory cannot be read, and stays until the job ends: {error}");
                log.line(Level::Warning, &text);
                Vec::new()
            }
            (Place::Sessions(uid), Err(error)) => {
                let text =
                    format!("user {uid}: the sessions cannot be looked at, and their access tokens stay: {error}");
                log.line_of(uid, Level::Warning, &text);
                Vec::new()
            }
        }
    }

    /// Makes a lease of access tokens that have none. Returns its key if it is to be stored.
    fn keep(&self, table: &mut LeaseTable, (key, left): (LeaseKey, Left), now: u64, log: &Log) -> Option<LeaseKey> {
        if table.get(&key).is_some() {
            return None;
        }
        let why = if matches!(key, LeaseKey::Session(_)) { UNREADABLE } else { self.why };
        let ends = time_format::short(left.end().saturating_sub(now / 1000));
        let lease = lease_of_token(key.clone(), left, why, now);
        let text = format!("{}: {why}; its access token stays until it expires in {ends}", name(&lease));
        log.line_of(lease.uid, Level::Warning, &text);
        table.insert(lease);
        (!self.unstored.contains(&key)).then_some(key)
    }
}

/// Has the directory of a job removed that runs under no lease. Not here: that may take for ever.
pub(super) fn end_directory(table: &mut LeaseTable, job: u32, log: &Log) {
    log.line(Level::Info, &format!("job {job}: its directory is removed, because it runs under no stored lease"));
    let uid = table.of_job(job).map_or(0, |lease| lease.uid);
    table.files.end(uid, &FilePlace::Job(job));
}

/// A lease that removes an access token when it expires. A job's next step may bring a credential for further ones.
fn lease_of_token(key: LeaseKey, left: Left, why: &str, now: u64) -> Lease {
    let (Owner { uid, gid }, exp) = (left.owner(), left.end());
    let is_job = matches!(key, LeaseKey::Job(_));
    let lifetime = exp.saturating_sub(now / 1000);
    let mut lease = Lease::new(key, Owner { uid, gid }, "-", now);
    let advice =
        if is_job { ", so its access token is not renewed; its next step brings the credential again" } else { "" };
    let why = format!("{why}{advice}");
    lease.refuse(now, why.clone());
    lease.lacks_credential = true;
    if let Left::Session(left) = &left {
        lease.place = left.place;
    }
    if let (LeaseKey::Job(job), Left::Job(left)) = (&lease.key, left) {
        let job = *job;
        lease.add_job(job, gid, None, now);
        lease.jobs.entry(job).and_modify(|job| job.file = left.main);
        for (name, exp) in left.files {
            let admitted = AdmittedFile { name, windows: Vec::new(), refused: Some(why.clone()) };
            let written = [(job, exp)].into();
            lease.files.push(NamedFile { written, ..NamedFile::new(admitted, now) });
        }
    } else {
        lease.token = Some(CurrentToken { exp, lifetime });
        // The PAM module removes the files of a session that ends. After the token's end only its removal is left to be done.
        lease.phase = Phase::Finished { due: exp.saturating_mul(1000).saturating_add(REMOVAL_TIME) };
    }
    lease
}

#[cfg(test)]
pub(super) mod tests {
    use mytoken_wire::agent::SessionPlace;

    use super::*;
    use crate::agent::lease::Action;
    use crate::agent::runtime_dir::{LeftInJob, LeftToken};

    const NOW: u64 = 1_000_000;

    /// A lease of a token that expires at 2,000.
    pub(in crate::agent::recovery) fn of_token(key: LeaseKey) -> Lease {
        let owner = Owner { uid: 7, gid: 7 };
        let left = match key {
            LeaseKey::Job(_) => Left::Job(LeftInJob { owner, main: Some(2_000), files: Vec::new() }),
            _ => Left::Session(LeftToken { owner, exp: 2_000, place: SessionPlace::User }),
        };
        lease_of_token(key, left, "because", NOW)
    }

    #[test]
    fn a_token_without_a_lease_is_removed_when_it_expires() {
        for key in [LeaseKey::Job(1), LeaseKey::Session("0".repeat(32))] {
            let lease = of_token(key);
            assert_eq!(lease.next_action(), Some((1_999_750, Action::Expire)), "{lease:?}");
            let is_session = matches!(lease.key, LeaseKey::Session(_));
            assert_eq!(lease.place == SessionPlace::User, is_session, "it is removed where it was found");
            assert!(lease.reason.is_some_and(|reason| reason.starts_with("because")));
        }
    }
}
