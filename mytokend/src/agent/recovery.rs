// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent makes of the files that an earlier run left: stored leases, records that it cannot read, and access tokens without a
//! lease.

mod late;
mod looks;
mod lost;
mod unreadable;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mytoken::private_files::FileError;
use mytoken_wire::agent::JobStart;

use super::credential_service::CredentialService;
use super::lease::{CurrentToken, Lease, LeaseCredential, LeaseKey, NamedFile, Phase};
use super::lease_table::LeaseTable;
use super::name;
use super::runtime_dir::{Records, RuntimeDir};
use super::store::LeaseRecords as _;
use crate::log::{Level, Log};
pub use late::Late;
use looks::{Look, Looks, Place, RuntimeLook};
use lost::{Lost, end_directory};
use unreadable::tell_unreadable;

/// Longest wait of the start for all looks at token files together.
const PATIENCE: Duration = Duration::from_secs(2);

/// When an earlier run is taken up.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Unix milliseconds.
    pub now: u64,
    /// The time of day minus elapsed time, in milliseconds: the time of day may have been set since the leases were stored.
    pub offset: i64,
}

/// The leases of an earlier run. Access tokens without one get leases of their own. Also returns the looks for such tokens that
/// take long.
///
/// # Errors
/// [`FileError::Unusable`] when `runtime_dir` cannot be listed.
pub fn recover(
    runtime_dir: &Arc<RuntimeDir>,
    moment: Moment,
    log: &Log,
) -> Result<(LeaseTable, Option<Late>), FileError> {
    let look = |sessions| -> Box<dyn Look> {
        Box::new(RuntimeLook { runtime_dir: Arc::clone(runtime_dir), sessions, now: moment.now / 1000 })
    };
    recover_with(runtime_dir, moment, PATIENCE, look, log)
}

/// The same with other looks. `look` gets the sessions that are looked for.
fn recover_with(
    runtime_dir: &RuntimeDir,
    moment: Moment,
    patience: Duration,
    look: impl FnOnce(Vec<String>) -> Box<dyn Look>,
    log: &Log,
) -> Result<(LeaseTable, Option<Late>), FileError> {
    let now = moment.now;
    let Records { leases: records, readable_again, unreadable, still_unreadable, removed } =
        runtime_dir.load_records()?;
    let mut leases = HashMap::new();
    let mut earlier_forms = Vec::new();
    for record in records {
        let stored = record.key.clone();
        let lease = in_present(record, moment);
        if lease.key != stored {
            earlier_forms.push((stored, lease.key.clone()));
        }
        add(&mut leases, lease);
    }
    // After all jobs of a submission have come together.
    for (stored, key) in earlier_forms {
        if let Some(lease) = leases.get(&key) {
            if let Err(error) = runtime_dir.store_lease(lease).and_then(|()| runtime_dir.delete(&stored)) {
                log.line(Level::Warning, &error.to_string());
            }
        }
    }
    // The newest of several is the one to read; the others then belong to an earlier run.
    for (file, lease) in readable_again.into_iter().rev() {
        read_again(runtime_dir, &mut leases, (&file, in_present(lease, moment)), now, log);
    }
    tell_unreadable(&unreadable, removed, log);
    let mut table = LeaseTable::default();
    leases.into_values().for_each(|lease| table.insert(lease));
    let lost = Lost::new(&unreadable, still_unreadable, &table);
    let places = places(runtime_dir, &lost, &mut table, log)?;
    let mut looks = Looks::begin(look(lost.sessions()), &places);
    for found in looks.wait(patience) {
        for key in lost.take(&mut table, found, now, log) {
            if let Some(Err(error)) = table.get(&key).map(|lease| runtime_dir.store_lease(lease)) {
                log.line(Level::Warning, &error.to_string());
            }
        }
    }
    Ok((table, Late::new(looks, lost, log)))
}

/// Where access tokens without a lease may be. The directories of jobs that have ended are removed.
fn places(runtime_dir: &RuntimeDir, lost: &Lost, table: &mut LeaseTable, log: &Log) -> Result<Vec<Place>, FileError> {
    let mut places = Vec::new();
    if !lost.sessions().is_empty() {
        match runtime_dir.session_users() {
            Ok(users) => places.extend(users.into_iter().map(Place::Sessions)),
            Err(error) => log.line(Level::Warning, &error.to_string()),
        }
    }
    for job in runtime_dir.jobs()? {
        match table.of_job(job) {
            Some(lease) if lease.runs(job) => {}
            Some(_) if !lost.has_job(job) => end_directory(table, job, log),
            _ => places.push(Place::Job(job)),
        }
    }
    Ok(places)
}

/// Adds what earlier releases did not store of a credential: its lane, its windows, whether its uses are limited, and its further
/// files. What these hold is for a thread to find out ([`Lease::doubt_files`]): their users can make a look hang (KERN-01).
pub fn complete(table: &mut LeaseTable, service: &dyn CredentialService, now: u64) {
    let lacks = |lease: &Lease| lease.files.is_empty() || lease.start_windows.is_empty();
    let is_incomplete = |lease: &Lease| lease.lane.is_empty() || lacks(lease) && lease.is_running();
    let mut completed = Vec::new();
    for lease in table.leases_mut().filter(|lease| is_incomplete(lease)) {
        match &lease.credential {
            Some(LeaseCredential::Mytoken(renewal)) => {
                if lease.lane.is_empty() {
                    lease.lane = service.lane_of(renewal);
                }
            }
            Some(LeaseCredential::Sealed(sealed)) => {
                let job = lease.jobs.keys().next().copied().unwrap_or_default();
                let start = JobStart { job, uid: lease.uid, gid: lease.gid, ..JobStart::default() };
                // If it is refused now, the next request for a token says why.
                let admitted = service.admit(&start, sealed).ok();
                lease.asks_broker |= admitted.as_ref().is_some_and(|admitted| admitted.is_provisional);
                if let Some(admitted) = admitted.filter(|admitted| !admitted.is_provisional) {
                    (lease.lane, lease.windows) = (admitted.lane, admitted.windows);
                    lease.limited_uses = admitted.limited_uses;
                    if lease.start_windows.is_empty() {
                        lease.set_start_windows(admitted.start_windows, now);
                    }
                    if lease.files.is_empty() {
                        lease.files = admitted.files.into_iter().map(|file| NamedFile::new(file, now)).collect();
                    }
                    completed.push(lease.key.clone());
                }
            }
            Some(LeaseCredential::Registered { .. } | LeaseCredential::SubToken { .. }) | None => {}
        }
    }
    completed.iter().for_each(|key| table.schedule(key));
}

fn in_present(record: Lease, moment: Moment) -> Lease {
    let mut lease = record.in_present_form(moment.now);
    if let Some(stored) = lease.clock_offset {
        lease.follow_jump(moment.offset.saturating_sub(stored), moment.offset, u64::MAX);
    }
    lease
}

/// Adds a stored lease. Release 0.1.0 stored one for each job of a submission: they become one.
fn add(leases: &mut HashMap<LeaseKey, Lease>, lease: Lease) {
    let Some(other) = leases.remove(&lease.key) else {
        leases.insert(lease.key.clone(), lease);
        return;
    };
    let (mut kept, other) = if lease.is_running() { (lease, other) } else { (other, lease) };
    kept.jobs.extend(other.jobs);
    kept.leaders.extend(other.leaders);
    leases.insert(kept.key.clone(), kept);
}

/// A lease that another version could not read takes its place again, unless there is a newer one.
fn read_again(
    runtime_dir: &RuntimeDir,
    leases: &mut HashMap<LeaseKey, Lease>,
    (file, lease): (&str, Lease),
    now: u64,
    log: &Log,
) {
    let stored = match take_back(leases, lease, now) {
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

/// The lease that is in force when `kept` can be read again; `None` if it is not needed any more. In the meantime the agent may have had
/// leases of its jobs, or of its session, that only remove the access token when it expires.
fn take_back(leases: &mut HashMap<LeaseKey, Lease>, mut kept: Lease, now: u64) -> Option<Lease> {
    let only_removes = |lease: &Lease| lease.lacks_credential && lease.credential.is_none() && lease.uid == kept.uid;
    if leases.get(&kept.key).is_some_and(|stored| !only_removes(stored) || kept.credential.is_none()) {
        return None;
    }
    if let Some(stored) = leases.get(&kept.key) {
        kept.token = stored.token;
    }
    for (id, job) in &mut kept.jobs {
        let key = LeaseKey::Job(*id);
        if let Some(stored) = leases.get(&key).filter(|stored| only_removes(stored)) {
            job.file = stored.jobs.get(id).and_then(|job| job.file);
            for file in &mut kept.files {
                let on_disk = stored.files.iter().find(|stored| stored.name == file.name);
                match on_disk.and_then(|stored| stored.written.get(id)) {
                    Some(exp) => drop(file.written.insert(*id, *exp)),
                    None => drop(file.written.remove(id)),
                }
            }
            job.running &= stored.runs(*id);
            leases.remove(&key);
        }
    }
    if !matches!(kept.key, LeaseKey::Session(_)) {
        let lifetime = kept.token.map(|token| token.lifetime);
        let in_file = kept.jobs.values().filter_map(|job| job.file).min();
        kept.token =
            in_file.map(|exp| CurrentToken { exp, lifetime: lifetime.unwrap_or(exp.saturating_sub(now / 1000)) });
        if kept.is_running() && kept.running_jobs().next().is_none() {
            // The jobs ended in the meantime, and nobody could revoke the sub-token.
            kept.phase = Phase::Ended { due: now, tries: 0, revoke: None };
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;

    use super::lost::tests::of_token;
    use super::*;

    const NOW: u64 = 1_000_000;

    fn with_credential() -> Lease {
        let key = LeaseKey::Submission { uid: 7, handle: "h".into() };
        let mut lease = Lease::new(key, Owner { uid: 7, gid: 7 }, "default", 0);
        lease.credential = Some(LeaseCredential::Sealed("mt1.x".into()));
        lease.add_job(1, 7, None, 0);
        lease
    }

    fn take_back_beside(leases: &[Lease]) -> (Option<Lease>, usize) {
        let mut leases = leases.iter().map(|lease| (lease.key.clone(), lease.clone())).collect();
        let back = take_back(&mut leases, with_credential(), NOW);
        (back, leases.len())
    }

    #[test]
    fn a_kept_lease_comes_back_unless_a_newer_one_has_a_credential() {
        assert_eq!(take_back_beside(&[]).0.unwrap().phase, Phase::Active { due: 0 });
        assert!(take_back_beside(&[with_credential()]).0.is_none());
        let running = of_token(LeaseKey::Job(1));
        let (back, others) = take_back_beside(std::slice::from_ref(&running));
        let back = back.unwrap();
        assert_eq!((back.phase, back.jobs[&1].file, others), (Phase::Active { due: 0 }, Some(2_000), 0));
        let foreign = Lease { uid: 8, ..running.clone() };
        let (back, others) = take_back_beside(&[foreign]);
        assert_eq!((back.unwrap().jobs[&1].file, others), (None, 1), "a lease of another user stays beside it");
        let mut ended = running;
        ended.jobs.get_mut(&1).unwrap().running = false;
        let back = take_back_beside(&[ended]).0.unwrap();
        assert_eq!(back.phase, Phase::Ended { due: NOW, tries: 0, revoke: None });
    }

    #[test]
    fn the_jobs_of_one_submission_become_one_lease() {
        let mut leases = HashMap::new();
        for job in [1, 2] {
            let mut lease = with_credential();
            lease.jobs.clear();
            lease.add_job(job, 7, Some(9), 0);
            add(&mut leases, lease);
        }
        let lease = leases.into_values().next().unwrap();
        assert_eq!(lease.running_jobs().collect::<Vec<_>>(), [1, 2]);
    }
}
