// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers the Slurm plugin: a step of a job starts, and a job has ended. Jobs with the same credential share a lease.

use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken_wire::agent::{Answer, EventKind, JobEnd, JobStart, JobState, Started};

use super::credential_service::{Admitted, Denied};
use super::file_queue::FilePlace;
use super::lease::{Ends, Lease, LeaseCredential, LeaseKey, NamedFile, Phase};
use super::lease_table::LeaseTable;
use super::named_files::{FilesOfJob, started_files, take_files};
use super::{Agent, millis, token_files};
use crate::jobs::job_start::StartRefusal;
use crate::jobs::{EventHistory, JobWindow, job_start, remove_at, renew_at};
use crate::log::Level;

impl Agent {
    pub(super) fn job_start(&self, start: &JobStart) -> Started {
        let begin = self.clock.elapsed();
        // A step from outside the job brings no credential; one that got no answer may have brought it.
        if start.sealed.is_none() {
            self.take_missed_start(start.job);
        }
        let known = self.note_step(&mut self.leases(), start);
        let is_first = known.is_none();
        let key = known.unwrap_or_else(|| self.new_job(start));
        Started { is_first, ..self.first_answer(&key, start.job, begin) }
    }

    /// The same without an answer.
    pub(super) fn begin_job(&self, start: &JobStart) {
        if self.note_step(&mut self.leases(), start).is_none() {
            self.new_job(start);
        }
    }

    /// The key of the lease that answers for a step, from which the lease learns that the job runs.
    pub(super) fn note_step(&self, table: &mut LeaseTable, start: &JobStart) -> Option<LeaseKey> {
        let key = table.of_job(start.job).filter(|lease| answers_for(lease, start))?.key.clone();
        let job = table.get_mut(&key)?.jobs.get_mut(&start.job)?;
        (job.began, job.last_seen) = (job.began.max(start.at), self.now());
        Some(key)
    }

    /// Adds a job that starts here to the lease of its submission. A submission without a lease gets one: refused, or due for its first
    /// token.
    fn new_job(&self, start: &JobStart) -> LeaseKey {
        let now = self.now();
        let brought = self.brought(start);
        let lacks_credential = brought.is_err();
        let opened = brought.unwrap_or_else(|missing| {
            let reason = missing.to_string();
            Err(Denied { reason, required: false, is_final: true, has_retired_key: false })
        });
        let mut table = self.leases();
        // Another step of the job may have been faster.
        if let Some(key) = self.note_step(&mut table, start) {
            return key;
        }
        if let (Err(_), Some(handle)) = (&opened, &start.handle) {
            self.doubt_submission(&mut table, start.uid, handle);
        }
        let handle = opened.as_ref().map_or(start.handle.as_deref(), |(admitted, _)| Some(&admitted.handle));
        let replacing = handle.and_then(|handle| replacing(&table, start, handle));
        let mut earlier = self.leave_earlier_lease(&mut table, start);
        let key = replacing.unwrap_or_else(|| match &opened {
            Ok((admitted, _)) => LeaseKey::Submission { uid: start.uid, handle: admitted.handle.clone() },
            Err(_) => LeaseKey::Job(start.job),
        });
        let mut unwanted = Vec::new();
        let joined = match table.get_mut(&key).filter(|lease| !matches!(lease.phase, Phase::Finished { .. })) {
            // The submission was made on this host, and its first job starts here.
            Some(lease) if lease.progress.is_some() && lease.jobs.is_empty() => false,
            Some(lease) => {
                self.join(lease, start, earlier.file, now);
                lease.jobs.entry(start.job).and_modify(|job| job.is_stale = earlier.is_stale);
                unwanted = Self::take_over_files(lease, start.job, std::mem::take(&mut earlier.files));
                true
            }
            None => false,
        };
        if !joined {
            let mut lease = Lease::new(key.clone(), Owner { uid: start.uid, gid: start.gid }, "-", now);
            // A requeued job keeps its id (SLURM-28).
            if let Some(finished) = table.get(&key).filter(|finished| finished.uid == start.uid) {
                lease.history = finished.history.clone();
                lease.made_here = finished.made_here;
            } else if let Some(history) = earlier.history {
                lease.history = history;
            }
            lease.lacks_credential = lacks_credential;
            lease.add_job(start.job, start.gid, start.array_job, now);
            lease.jobs.entry(start.job).and_modify(|job| {
                (job.file, job.name, job.script) = (earlier.file, start.name, start.step == BATCH_STEP);
                (job.began, job.needs_directory) = (start.at, start.has_credential());
                job.is_stale = earlier.is_stale;
            });
            lease.files_due = true;
            self.begin_lease(&mut lease, opened, now);
            unwanted = Self::take_over_files(&mut lease, start.job, earlier.files);
            table.insert(lease);
        }
        table.files.remove_further(start.uid, start.job, unwanted);
        self.lease_changed(&mut table, &key);
        key
    }

    /// Takes the job out of a lease that does not answer for it: a lease of another user, of an earlier run, or without a credential. The
    /// file of another user goes with it; that of the same user stays until it is replaced or expires.
    fn leave_earlier_lease(&self, table: &mut LeaseTable, start: &JobStart) -> EarlierLease {
        let Some(earlier) = table.of_job(start.job) else { return EarlierLease::default() };
        let (key, uid, same_user) = (earlier.key.clone(), earlier.uid, earlier.uid == start.uid);
        let file = earlier.jobs.get(&start.job).and_then(|job| job.file).filter(|_| same_user);
        let files = table.get_mut(&key).map(|lease| take_files(lease, start.job)).filter(|_| same_user);
        let files = files.unwrap_or_default();
        let is_stale = same_user && file.is_none();
        if table.get(&key).is_some_and(|earlier| earlier.runs(start.job)) {
            if !same_user {
                table.files.end(uid, &FilePlace::Job(start.job));
            }
            self.end_job(table, start.job);
        }
        let Some(lease) = table.get_mut(&key) else { return EarlierLease::default() };
        lease.jobs.remove(&start.job);
        if !matches!(key, LeaseKey::Job(_)) {
            return EarlierLease { history: None, file, is_stale, files };
        }
        let history = same_user.then(|| lease.history.clone());
        self.delete(table, &key);
        EarlierLease { history, file, is_stale, files }
    }

    /// What a starting job brings: a sealed text, or the handle of one that the brokers keep.
    fn brought(&self, start: &JobStart) -> Result<Result<(Admitted, LeaseCredential), Denied>, StartRefusal> {
        let service = &self.configured().service;
        match (job_start::sealed_of(start), &start.handle) {
            (Ok(sealed), _) => {
                let admitted = service.admit(start, sealed);
                Ok(admitted.map(|admitted| (admitted, LeaseCredential::Sealed(sealed.to_owned()))))
            }
            (Err(lost @ StartRefusal::Lost), Some(handle)) => {
                let (uid, handle) = (start.uid, handle.clone());
                let registered = service.registered(start).ok_or(lost)?;
                Ok(Ok((registered, LeaseCredential::Registered { uid, handle })))
            }
            (Err(missing), _) => Err(missing),
        }
    }

    pub(super) fn begin_lease(&self, lease: &mut Lease, opened: Result<(Admitted, LeaseCredential), Denied>, now: u64) {
        match opened {
            Ok((admitted, credential)) => {
                lease.credential = Some(credential);
                self.take_content(lease, admitted, now);
            }
            Err(denied) => {
                lease.required = denied.required;
                self.log.line_of(
                    lease.uid,
                    Level::Warning,
                    &format!("{}: refused: {}", super::name(lease), denied.reason),
                );
                lease.refuse(now, denied.reason);
            }
        }
    }

    /// Takes over what the credential says.
    pub(super) fn take_content(&self, lease: &mut Lease, admitted: Admitted, now: u64) {
        lease.is_unopened = admitted.is_provisional;
        lease.asks_broker |= admitted.is_provisional;
        lease.profile = admitted.profile;
        lease.handle = admitted.handle;
        lease.required = admitted.required;
        lease.until = (!admitted.is_provisional).then_some(admitted.exp);
        lease.windows = admitted.windows;
        lease.set_start_windows(admitted.start_windows, now);
        lease.lane = admitted.lane;
        lease.limited_uses = admitted.limited_uses;
        lease.submitted = admitted.submitted;
        lease.followed = admitted.followed;
        lease.files = admitted.files.into_iter().map(|file| NamedFile::new(file, now)).collect();
        self.record(lease, Level::Info, EventKind::Opened, admitted.description);
        self.tell_refused_files(lease);
    }

    /// A further job of the submission starts here. It gets the access token that the others have.
    fn join(&self, lease: &mut Lease, start: &JobStart, file: Option<u64>, now: u64) {
        lease.add_job(start.job, start.gid, start.array_job, now);
        lease.jobs.entry(start.job).and_modify(|job| {
            (job.file, job.name, job.script) = (file, start.name, start.step == BATCH_STEP);
            (job.began, job.needs_directory) = (start.at, start.has_credential());
        });
        if matches!(lease.phase, Phase::Ended { .. }) && lease.ends != Ends::OnRequest {
            lease.reason = None;
            let due = lease.token.map_or(now, |token| renew_at(token.exp, token.lifetime, (self.draw)()));
            let begin = lease.waits_until.map(|begin| self.first_request(lease, begin));
            lease.phase = Phase::Active { due: begin.unwrap_or(due) };
        }
        self.record(
            lease,
            Level::Info,
            EventKind::Joined,
            format!("job {} of the same submission starts here", start.job),
        );
        lease.files_due = true;
    }

    /// Waits for the end of the first request for a token, at most [`super::Intervals::start_deadline`] after `begin`, the arrival of the
    /// step's request.
    fn first_answer(&self, key: &LeaseKey, job: u32, begin: Duration) -> Started {
        let mut table = self.leases();
        loop {
            let Some(lease) = table.get(key).filter(|lease| lease.runs(job)) else {
                return Started {
                    path: String::new(),
                    state: JobState::Failed,
                    reason: Some("the job ended before its first access token arrived".to_owned()),
                    required: false,
                    files: Vec::new(),
                    is_first: false,
                };
            };
            let state = lease.state(Some(job));
            let window = lease.told_window_of(job);
            // The answer means what is on disk. A token in the file stays until it expires, also while the next one is written.
            let place = FilePlace::Job(job);
            let has_token =
                state == JobState::Ready && !table.files.is_ended(&place) && holds_token(lease, job, self.now());
            let is_busy = !has_token && table.files.has_work(&place);
            let undecided = is_busy
                || match window {
                    JobWindow::Asking => true,
                    JobWindow::Closed { .. } | JobWindow::Over => false,
                    JobWindow::Always | JobWindow::Open { .. } => {
                        state == JobState::Pending && lease.failures == 0 && lease.reason.is_none()
                            || state != JobState::Failed && lease.files.iter().any(|file| file.is_undecided(job))
                    }
                };
            let reason = || window.reason().or_else(|| lease.reason.clone());
            let waited = self.clock.elapsed().saturating_sub(begin);
            let deadline = self.configured().intervals.start_deadline;
            let left = deadline.checked_sub(waited).filter(|left| undecided && !left.is_zero());
            let Some(left) = left else {
                let reason = match state {
                    JobState::Ready => None,
                    JobState::Pending if is_busy => Some(reason().unwrap_or_else(|| token_files::HANGS.to_owned())),
                    JobState::Pending => Some(reason().unwrap_or_else(|| {
                        "the mytoken server has not answered yet; the file appears after its answer".to_owned()
                    })),
                    JobState::Failed => reason(),
                };
                let path = self.runtime_dir.job_token_path(job, lease.uid).display().to_string();
                let files = started_files(lease, job);
                return Started { path, state, reason, required: lease.required, files, is_first: false };
            };
            table =
                self.changed.wait_timeout(table, left).map_or_else(|poison| poison.into_inner().0, |(table, _)| table);
        }
    }

    pub(super) fn job_end(&self, end: &JobEnd) -> Answer {
        if !self.end_of_job(end) {
            return Answer::Done {};
        }
        if !self.wait_for_removal(&FilePlace::Job(end.job)) {
            let text = format!("job {}: its files are not removed yet: {}", end.job, token_files::HANGS);
            self.log.line(Level::Warning, &text);
        }
        if self.leases().files.is_left(&FilePlace::Job(end.job)) {
            return Answer::Error(format!("job {}: its files could not be removed; the agent tries again", end.job));
        }
        Answer::Done {}
    }

    /// The same without an answer. Returns whether files are removed.
    pub(super) fn end_of_job(&self, end: &JobEnd) -> bool {
        self.take_missed_start(end.job);
        let place = FilePlace::Job(end.job);
        // That of an unknown job may be from an earlier run of the agent. One that cannot be looked at is removed, too.
        let has_directory = self.runtime_dir.has_job(end.job).unwrap_or(true);
        let mut table = self.leases();
        if let (Some(nodes), Some(key)) = (&end.nodes, table.of_job(end.job).map(|lease| lease.key.clone())) {
            if let Some(lease) = table.get_mut(&key).filter(|lease| lease.runs(end.job)) {
                let script = lease.jobs.get(&end.job).is_some_and(|job| job.script);
                // When its job is requeued, a replacing credential does not come to further nodes.
                if lease.stands_for.is_none() || !lease.known.has(end.job) {
                    lease.known.remember_own(end.job, nodes, &self.node, script);
                }
            }
        }
        if is_of_earlier_run(&table, end) {
            let text = format!("job {}: the end of an earlier run was told late; the job runs again", end.job);
            self.log.line(Level::Info, &text);
            return false;
        }
        let uid = table.of_job(end.job).map(|lease| lease.uid);
        let has_files = has_directory || uid.is_some() || table.files.has_work(&place);
        if has_files {
            table.files.end(uid.unwrap_or(UNKNOWN), &place);
            self.files_queued.notify_all();
        }
        self.end_job(&mut table, end.job);
        drop(table);
        if !has_files {
            self.runtime_dir.remove_kept_missed(end.job);
        }
        has_files
    }

    /// Ends a job whose files are to be removed. After the last job of the submission on this node, the query is scheduled that decides on
    /// revocation.
    pub(super) fn end_job(&self, table: &mut LeaseTable, job: u32) {
        let Some(key) = table.of_job(job).filter(|lease| lease.runs(job)).map(|lease| lease.key.clone()) else {
            return;
        };
        let (place, elapsed) = (FilePlace::Job(job), self.clock.elapsed());
        let is_held_up = table.get(&key).is_some_and(|lease| table.files.is_held_up(lease.uid, &place, elapsed));
        let Some(lease) = table.get_mut(&key) else { return };
        let now = self.now();
        if let Some(ended) = lease.jobs.get_mut(&job) {
            (ended.running, ended.file) = (false, None);
        }
        drop(take_files(lease, job));
        let text = if is_held_up {
            format!("job {job} ended on this node; its access token is removed when the file system answers")
        } else {
            format!("job {job} ended on this node; its access token was removed")
        };
        self.record(lease, Level::Info, EventKind::Removed, text);
        if lease.running_jobs().next().is_none() {
            lease.reason = None;
            lease.write_due = None;
            let configured = self.configured();
            lease.phase = if lease.credential.is_some() {
                let due = now.saturating_add(millis(configured.intervals.settle_delay));
                Phase::Ended { due, tries: 0, revoke: None }
            } else {
                Phase::Finished { due: now.saturating_add(millis(configured.intervals.retention)) }
            };
        }
        self.lease_changed(table, &key);
        for key in table.surplus() {
            self.delete(table, &key);
        }
    }
}

/// What a lease leaves to another one that takes its job.
#[derive(Default)]
struct EarlierLease {
    history: Option<EventHistory>,
    /// Expiry of the access token in the job's file, Unix seconds.
    file: Option<u64>,
    /// The job's file may hold another one: a thread writes it at this moment, or is to remove it.
    is_stale: bool,
    files: FilesOfJob,
}

/// `SLURM_BATCH_SCRIPT`: the step that runs the script.
const BATCH_STEP: u32 = 0xffff_fffb;

/// Stands for the user of a job of which no lease is known.
const UNKNOWN: u32 = 0;

/// Whether this lease serves the step: the job runs under it, as the same user, and the step does not bring a credential that the lease
/// lacks.
fn answers_for(lease: &Lease, start: &JobStart) -> bool {
    let brings_credential = lease.lacks_credential && start.sealed.is_some();
    lease.runs(start.job) && lease.uid == start.uid && !brings_credential
}

/// Whether the job's file holds an access token that has not ended at `now`, Unix milliseconds.
fn holds_token(lease: &Lease, job: u32, now: u64) -> bool {
    lease.jobs.get(&job).and_then(|own| own.file).is_some_and(|exp| remove_at(exp) > now)
}

/// Whether a step of the job has begun after this end: the job was requeued, and the request or its record waited meanwhile. On a node, an
/// epilog comes before the next run.
fn is_of_earlier_run(table: &LeaseTable, end: &JobEnd) -> bool {
    let began = table.of_job(end.job).and_then(|lease| lease.jobs.get(&end.job)?.began);
    end.at.is_some_and(|end| began.is_some_and(|began| began > end))
}

/// The lease with the credential that has replaced `handle`, which the job brings. Its job was requeued: its environment is that of its
/// submission. While not every node of the job has confirmed it, the old credential is valid, and the new one ends with the job's run.
fn replacing(table: &LeaseTable, start: &JobStart, handle: &str) -> Option<LeaseKey> {
    let stands = |lease: &&Lease| {
        let stands_for = lease.stands_for.as_ref();
        stands_for.is_some_and(|own| own.job == start.job && own.handles.contains(handle))
            && lease.uid == start.uid
            && lease.ends == Ends::Submission
            && lease.credential.is_some()
    };
    table.leases().filter(stands).max_by_key(|lease| lease.generation).map(|lease| lease.key.clone())
}
