// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out `mytokenctl renew` and `mytokenctl revoke`: for the owner of a job, and for root.

use std::collections::HashMap;
use std::time::Duration;

use mytoken_wire::agent::{Answer, EventKind, Renew, Revoke};
use mytoken_wire::{FileName, JobName};

use super::file_queue::FilePlace;
use super::lease::{Action, Ends, Lease, LeaseKey, NamedFile, Phase};
use super::lease_table::LeaseTable;
use super::looks::{seen, written};
use super::{Agent, millis, token_files};
use crate::log::Level;

/// How long a caller waits for the mytoken server.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// On request, a lease gets at most one access token in this time: each one is a request to the mytoken server.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// A file of a job that the agent has written.
struct WrittenFile {
    job: u32,
    /// `None`: the main file.
    name: Option<FileName>,
    /// Expiry of its access token, Unix seconds.
    exp: u64,
}

/// Who asks, and for whose jobs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// The user.
    pub uid: u32,
    /// Whether it is root.
    pub trusted: bool,
}

impl Caller {
    /// Whether this caller may act on the lease.
    pub(super) fn may(self, lease: &Lease) -> bool {
        self.trusted || lease.uid == self.uid
    }
}

impl Agent {
    pub(super) fn renew_on_request(&self, request: &Renew, caller: Caller) -> Answer {
        if request.all && !caller.trusted {
            return Answer::Error("only root may renew the access tokens of all users".to_owned());
        }
        let own = |lease: &Lease| request.all || request.job.is_some() || lease.uid == caller.uid;
        let chosen = |lease: &Lease| caller.may(lease) && own(lease) && request.job.is_none_or(|job| runs(lease, job));
        let begin = self.clock.elapsed();
        let table = self.leases();
        let running: Vec<&Lease> = table.leases().filter(|lease| is_here(lease) && chosen(lease)).collect();
        let renewable = |lease: &&&Lease| lease.is_running() && lease.credential.is_some();
        let keys: Vec<LeaseKey> = running.iter().filter(renewable).map(|lease| lease.key.clone()).collect();
        if keys.is_empty() {
            let reason = running.first().and_then(|lease| lease.reason.clone());
            let without = || reason.unwrap_or_else(|| "it has no credential".to_owned());
            let text = if running.is_empty() {
                none_here(request.job, &self.node)
            } else {
                format!("nothing can be renewed: {}", without())
            };
            return Answer::Error(text);
        }
        drop(table);
        let lost = self.lost_files(&keys);
        let mut table = self.leases();
        let now = self.now();
        let waits: Vec<Option<Duration>> = keys
            .iter()
            .map(|key| self.renew_soon(&mut table, key, lost.get(key).map_or(&[][..], Vec::as_slice), now))
            .collect();
        drop(table);
        // The files that were missing are written all the same.
        if let Some(wait) =
            waits.into_iter().collect::<Option<Vec<Duration>>>().and_then(|waits| waits.into_iter().min())
        {
            self.wait_until(&keys, begin, |_| true);
            return Answer::Error(format!(
                "your share of this host's requests to the mytoken server is used up for the next {} s; until then each token is renewed \
                 at its time",
                wait.as_secs().saturating_add(1)
            ));
        }
        self.wait_until(&keys, begin, |lease| {
            let waits = |file: &NamedFile| file.requests.count() > 0 || file.due.is_some_and(|due| due <= now);
            lease.is_closed()
                || lease.requests.count() == 0
                    && !matches!(lease.phase, Phase::Active { due } if due <= now)
                    && !lease.files.iter().any(waits)
        });
        Answer::Status(self.list(|lease, job| {
            keys.contains(&lease.key)
                && job.is_none_or(|job| lease.runs(job))
                && request.job.is_none_or(|asked| job.is_some_and(|job| asked.means(job, job_name(lease, job))))
        }))
    }

    /// Has files written that are lost, and plans a request for a new token at once. Returns the time to wait if the owner's share of the
    /// requests is used up.
    fn renew_soon(&self, table: &mut LeaseTable, key: &LeaseKey, lost: &[WrittenFile], now: u64) -> Option<Duration> {
        let lease = table.get_mut(key)?;
        let (mut is_missing, mut further) = (false, Vec::new());
        for WrittenFile { job, name, exp, .. } in lost {
            // Not if something else was written meanwhile.
            match name {
                None => {
                    if let Some(own) = lease.jobs.get_mut(job).filter(|own| own.file == Some(*exp)) {
                        own.file = None;
                        is_missing = true;
                    }
                }
                Some(name) => {
                    let file = lease.files.iter_mut().find(|file| file.name == *name);
                    if let Some(file) = file.filter(|file| file.written.get(job) == Some(exp)) {
                        file.written.remove(job);
                        further.push(name.clone());
                    }
                }
            }
        }
        lease.files_due = true;
        let recent = lease.requested.is_some_and(|last| last.saturating_add(millis(PAUSE)) > now);
        // The request for the main file may be under way already.
        let free = lease.requests.count() == 0;
        let asks = !lease.is_closed()
            && (free || !lease.files.is_empty())
            && (!recent || is_missing && lease.token_text.is_none());
        let wait = if asks { self.wait_for_share(lease) } else { None };
        if asks && wait.is_none() {
            lease.requested = Some(now);
            if free {
                lease.asked = Some(lease.phase);
                lease.phase = Phase::Active { due: now };
            }
        }
        let may_ask = wait.is_none() && !lease.is_closed();
        Self::renew_files_soon(lease, &further, recent, may_ask, now);
        self.lease_changed(table, key);
        wait
    }

    /// The files that the agent has written for jobs of these leases, and that hold no valid token any more. Those of which nobody sees that
    /// in time are not lost. The caller does not hold the lease table.
    fn lost_files(&self, keys: &[LeaseKey]) -> HashMap<LeaseKey, Vec<WrittenFile>> {
        let asked: Vec<(u32, FilePlace)> = {
            let table = self.leases();
            let jobs = |lease: &'_ Lease| -> Vec<(u32, FilePlace)> {
                let has_files = lease.running_jobs().filter(|job| !written(lease, *job).is_empty());
                let places = has_files.map(FilePlace::Job);
                // A thread is about to write some of the others.
                places.filter(|place| !table.files.is_running(place)).map(|place| (lease.uid, place)).collect()
            };
            keys.iter().filter_map(|key| table.get(key)).flat_map(jobs).collect()
        };
        self.look_at(&asked);
        let table = self.leases();
        let is_asked = |job: u32| asked.iter().any(|(_, place)| *place == FilePlace::Job(job));
        let lost = |lease: &Lease| -> Vec<WrittenFile> {
            lease.running_jobs().filter(|job| is_asked(*job)).flat_map(|job| lost_of_job(&table, lease, job)).collect()
        };
        keys.iter().filter_map(|key| table.get(key)).map(|lease| (lease.key.clone(), lost(lease))).collect()
    }

    pub(super) fn revoke_on_request(&self, request: &Revoke, caller: Caller) -> Answer {
        let begin = self.clock.elapsed();
        let mut table = self.leases();
        let chosen = |lease: &&Lease| caller.may(lease) && runs(lease, request.job);
        let keys: Vec<LeaseKey> = table.leases().filter(chosen).map(|lease| lease.key.clone()).collect();
        if keys.is_empty() {
            return Answer::Error(none_here(Some(request.job), &self.node));
        }
        for key in &keys {
            self.give_back(&mut table, key, &format!("user {} revokes the credential", caller.uid));
        }
        drop(table);
        if !self.wait_until(&keys, begin, |lease| !lease.revoking) {
            let table = self.leases();
            if keys.iter().filter_map(|key| table.get(key)).any(|lease| table.has_file_work(lease)) {
                let job = request.job;
                return Answer::Error(format!(
                    "the access token of job {job} is still in the file: {}",
                    token_files::HANGS
                ));
            }
        }
        Answer::Status(self.list(|lease, job| keys.contains(&lease.key) && job.is_some_and(|job| lease.runs(job))))
    }

    /// Has the access tokens of the lease removed from its files, and its sub-token revoked until that is done.
    pub(super) fn give_back(&self, table: &mut LeaseTable, key: &LeaseKey, why: &str) {
        let is_held_up = table.get(key).is_some_and(|lease| table.is_held_up(lease, self.clock.elapsed()));
        let Some(lease) = table.get_mut(key) else { return };
        if lease.credential.is_none() || lease.ends == Ends::OnRequest {
            return;
        }
        for job in lease.jobs.values_mut() {
            job.file = None;
        }
        (lease.token, lease.token_text, lease.write_due, lease.waits_until) = (None, None, None, None);
        lease.files.iter_mut().for_each(NamedFile::clear);
        lease.remove_stale();
        lease.remove_stale_further();
        let later = if is_held_up { "; the access token is removed when the file system answers" } else { "" };
        self.record(lease, Level::Info, EventKind::Removed, format!("{why}{later}"));
        lease.reason = Some("the credential was revoked on request".to_owned());
        lease.ends = Ends::OnRequest;
        // Settled again if the agent ends before the revocation, or if that fails.
        lease.phase = Phase::Ended { due: self.now(), tries: 0, revoke: None };
        table.enqueue(key, Action::Revoke);
        self.queued.notify_all();
        self.lease_changed(table, key);
    }

    /// Waits until `done` holds for each of the leases and their files are as they should be, at most [`PATIENCE`] after `begin`. Returns
    /// whether that came.
    pub(super) fn wait_until(&self, keys: &[LeaseKey], begin: Duration, done: impl Fn(&Lease) -> bool) -> bool {
        let mut table = self.leases();
        while keys.iter().filter_map(|key| table.get(key)).any(|lease| !done(lease) || table.has_file_work(lease)) {
            let waited = self.clock.elapsed().saturating_sub(begin);
            let Some(left) = PATIENCE.checked_sub(waited).filter(|left| !left.is_zero()) else { return false };
            table =
                self.changed.wait_timeout(table, left).map_or_else(|poison| poison.into_inner().0, |(table, _)| table);
        }
        true
    }
}

/// The files of a job that should hold an access token, and did not when a thread looked.
fn lost_of_job(table: &LeaseTable, lease: &Lease, job: u32) -> Vec<WrittenFile> {
    let Some(seen) = seen(table, lease, &FilePlace::Job(job)) else { return Vec::new() };
    let lost = written(lease, job).into_iter().filter(|name| !seen.contains(name));
    let file = |name: Option<FileName>| {
        let exp = match &name {
            None => lease.jobs.get(&job)?.file?,
            Some(name) => *lease.files.iter().find(|file| file.name == *name)?.written.get(&job)?,
        };
        Some(WrittenFile { job, name, exp })
    };
    lost.filter_map(file).collect()
}

/// Whether the session, or a job of the lease, runs here.
fn is_here(lease: &Lease) -> bool {
    match lease.key {
        LeaseKey::Session(_) => lease.is_running(),
        LeaseKey::Job(_) | LeaseKey::Submission { .. } => lease.running_jobs().next().is_some(),
    }
}

pub(super) fn job_name(lease: &Lease, job: u32) -> Option<JobName> {
    lease.jobs.get(&job).and_then(|job| job.name)
}

/// Whether a job that `asked` means runs here under this lease.
pub(super) fn runs(lease: &Lease, asked: JobName) -> bool {
    lease.running_jobs().any(|job| asked.means(job, job_name(lease, job)))
}

/// Says that the agent knows no such job.
pub(super) fn none_here(job: Option<JobName>, node: &str) -> String {
    match job {
        Some(job) => format!(
            "no job {job} of yours with a credential runs on {node}; on its node: srun --jobid={job} --overlap mytokenctl ..."
        ),
        None => format!("no job or session of yours with a credential runs on {node}"),
    }
}
