// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent makes of the files that an earlier run left: stored leases, records that it cannot read, and access tokens without a
//! lease.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mytoken::private_files::{FileError, Owner};
use mytoken::time_format;

use super::lease::{CurrentToken, Lease, LeaseKey, Phase};
use super::lease_table::LeaseTable;
use super::name;
use super::runtime_dir::{LeftToken, Records, RuntimeDir, UnreadableRecord};
use crate::log::{Level, Log};

/// Maximum number of unreadable records with a log line of their own.
const MOST_LINES: usize = 8;

/// The leases of an earlier run. `now` is Unix milliseconds.
///
/// # Errors
/// [`FileError::Unusable`] when `runtime_dir` cannot be listed.
pub fn recover(runtime_dir: &RuntimeDir, now: u64, log: &Log) -> Result<LeaseTable, FileError> {
    let Records { leases, readable_again, unreadable, removed } = runtime_dir.load_records()?;
    let mut leases: HashMap<LeaseKey, Lease> = leases.into_iter().map(|lease| (lease.key.clone(), lease)).collect();
    // The newest of several is the one to read; the others then belong to an earlier run.
    for (file, lease) in readable_again.into_iter().rev() {
        read_again(runtime_dir, &mut leases, (&file, lease), now, log);
    }
    tell_unreadable(&unreadable, removed, log);
    for UnreadableRecord { key, kept, .. } in unreadable {
        let Some(key) = key else { continue };
        let left = match &key {
            LeaseKey::Job(job) => runtime_dir.left_in_job(*job, now / 1000),
            LeaseKey::Session(session) => runtime_dir.left_in_session(session, now / 1000),
        };
        // Without a directory the job or session has nothing here.
        let Ok(Some(left)) = left else { continue };
        let lease = keep_token(&mut leases, (key, left), "its stored lease cannot be read", now, log);
        // Not if the record is still in that place.
        if let (Some(lease), true) = (lease, kept.is_ok()) {
            store(runtime_dir, lease, log);
        }
    }
    for job in runtime_dir.jobs()? {
        let key = LeaseKey::Job(job);
        match leases.get(&key) {
            Some(lease) if lease.is_running() => continue,
            Some(_) => {}
            None => {
                if let Ok(Some(left)) = runtime_dir.left_in_job(job, now / 1000) {
                    let lease = keep_token(&mut leases, (key, left), "there is no stored lease of it", now, log);
                    if let Some(lease) = lease {
                        store(runtime_dir, lease, log);
                    }
                    continue;
                }
            }
        }
        match runtime_dir.remove_job(job) {
            Ok(_) => log
                .line(Level::Info, &format!("job {job}: removed its directory, because no stored lease belongs to it")),
            Err(error) => log.line(
                Level::Error,
                &format!(
                    "job {job}: its directory belongs to no stored lease, but cannot be removed: {error}; remove it"
                ),
            ),
        }
    }
    let mut table = LeaseTable::default();
    for mut lease in leases.into_values() {
        lease.last_seen = now;
        table.insert(lease);
    }
    Ok(table)
}

/// A lease that another version could not read takes its place again, unless there is a newer one.
fn read_again(
    runtime_dir: &RuntimeDir,
    leases: &mut HashMap<LeaseKey, Lease>,
    (file, lease): (&str, Lease),
    now: u64,
    log: &Log,
) {
    let stored = match take_back(leases.get(&lease.key), lease, now) {
        Some(lease) => {
            log.line(Level::Info, &format!("{}: its lease, which was kept in {file}, can be read again", name(&lease)));
            let stored = runtime_dir.store_lease(&lease);
            leases.insert(lease.key.clone(), lease);
            stored
        }
        None => {
            log.line(Level::Info, &format!("{file} was removed: a newer lease of the same job or session is there"));
            Ok(())
        }
    };
    if let Err(error) = stored.and_then(|()| runtime_dir.delete_kept(file)) {
        log.line(Level::Warning, &error.to_string());
    }
}

/// The lease that is in force when `kept` can be read again; `None` if it is not needed any more. `stored` is the lease of the same job or
/// session that the agent had in the meantime.
fn take_back(stored: Option<&Lease>, mut kept: Lease, now: u64) -> Option<Lease> {
    let Some(stored) = stored else { return Some(kept) };
    let replaces = stored.lacks_credential && stored.credential.is_none() && stored.uid == kept.uid;
    if !replaces || kept.credential.is_none() {
        return None;
    }
    if stored.is_running() {
        kept.token = stored.token;
    } else if kept.is_running() && matches!(kept.key, LeaseKey::Job(_)) {
        // The job ended in the meantime, and nobody could revoke its sub-token.
        kept.token = None;
        kept.phase = Phase::Ended { due: now, tries: 0 };
    }
    Some(kept)
}

/// Makes a lease of an access token that has none. Returns it.
fn keep_token<'a>(
    leases: &'a mut HashMap<LeaseKey, Lease>,
    (key, left): (LeaseKey, LeftToken),
    why: &str,
    now: u64,
    log: &Log,
) -> Option<&'a Lease> {
    let Entry::Vacant(place) = leases.entry(key) else { return None };
    let lease = lease_of_token(place.key().clone(), left, why, now);
    let ends = time_format::short(left.exp.saturating_sub(now / 1000));
    let text = format!("{}: {why}; its access token stays until it expires in {ends}", name(&lease));
    log.line_of(lease.uid, Level::Warning, &text);
    Some(place.insert(lease))
}

/// Stores a lease of a token, so that the next start knows the job or session, also after the token's end.
fn store(runtime_dir: &RuntimeDir, lease: &Lease, log: &Log) {
    if let Err(error) = runtime_dir.store_lease(lease) {
        log.line(Level::Warning, &error.to_string());
    }
}

/// A lease that removes an access token when it expires. A job's next step may bring a credential for further ones.
fn lease_of_token(key: LeaseKey, left: LeftToken, why: &str, now: u64) -> Lease {
    let Owner { uid, gid } = left.owner;
    let is_job = matches!(key, LeaseKey::Job(_));
    let lifetime = left.exp.saturating_sub(now / 1000);
    let mut lease = Lease::new(key, Owner { uid, gid }, "-", now);
    let advice =
        if is_job { ", so its access token is not renewed; its next step brings the credential again" } else { "" };
    lease.refuse(now, format!("{why}{advice}"));
    lease.lacks_credential = true;
    lease.token = Some(CurrentToken { exp: left.exp, lifetime });
    if !is_job {
        // The PAM module removes the files of a session that ends. After the token's end nothing is left to be done.
        lease.phase = Phase::Finished { due: left.exp.saturating_mul(1000).saturating_add(1) };
    }
    lease
}

fn tell_unreadable(unreadable: &[UnreadableRecord], removed: usize, log: &Log) {
    for UnreadableRecord { path, reason, kept, .. } in unreadable.iter().take(MOST_LINES) {
        let text = match kept {
            Ok(kept) => format!(
                "{} is not a lease that this agent can use: {reason}; it is now {}, where a later version of the agent looks for it; remove it \
                 when no job or session needs it",
                path.display(),
                kept.display()
            ),
            Err(error) => format!(
                "{} is not a lease that this agent can use: {reason}; it stays there ({error}); move it away",
                path.display()
            ),
        };
        log.line(Level::Warning, &text);
    }
    if let Some(more) = unreadable.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        log.line(Level::Warning, &format!("{more} more stored leases cannot be used and are kept in the same way"));
    }
    if removed > 0 {
        log.line(Level::Warning, &format!("the oldest {removed} of the kept leases were removed to make room"));
    }
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;

    use super::*;
    use crate::agent::lease::{Action, LeaseCredential};

    const NOW: u64 = 1_000_000;

    fn with_credential() -> Lease {
        let mut lease = Lease::new(LeaseKey::Job(1), Owner { uid: 7, gid: 7 }, "default", 0);
        lease.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
        lease
    }

    fn of_token(key: LeaseKey) -> Lease {
        lease_of_token(key, LeftToken { owner: Owner { uid: 7, gid: 7 }, exp: 2_000 }, "because", NOW)
    }

    #[test]
    fn a_kept_lease_comes_back_unless_a_newer_one_has_a_credential() {
        assert_eq!(take_back(None, with_credential(), NOW).unwrap().phase, Phase::Active { due: 0 });
        assert!(take_back(Some(&with_credential()), with_credential(), NOW).is_none());
        let running = of_token(LeaseKey::Job(1));
        let back = take_back(Some(&running), with_credential(), NOW).unwrap();
        assert_eq!((back.phase, back.token.map(|token| token.exp)), (Phase::Active { due: 0 }, Some(2_000)));
        let foreign = Lease { uid: 8, ..running.clone() };
        assert!(take_back(Some(&foreign), with_credential(), NOW).is_none());
        let ended = Lease { phase: Phase::Finished { due: 9 }, token: None, ..running };
        let back = take_back(Some(&ended), with_credential(), NOW).unwrap();
        assert_eq!((back.phase, back.token), (Phase::Ended { due: NOW, tries: 0 }, None));
    }

    #[test]
    fn a_token_without_a_lease_is_removed_when_it_expires() {
        for key in [LeaseKey::Job(1), LeaseKey::Session("0".repeat(32))] {
            let lease = of_token(key);
            assert_eq!(lease.next_action(), Some((2_000_000, Action::Expire)), "{lease:?}");
            assert!(lease.reason.is_some_and(|reason| reason.starts_with("because")));
        }
    }
}
