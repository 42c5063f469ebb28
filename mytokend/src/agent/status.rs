// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers `mytokenctl status`. Threads look at the files of tokens after the lease table was unlocked.

use std::sync::PoisonError;

use mytoken_wire::agent::{
    Answer, Condition, Event, FileStatus, JobStatus, LINE_LIMIT, RefusedReload, Status, StatusQuery,
};
use mytoken_wire::{FileName, printable};

use super::Agent;
use super::condition::{Facts, condition};
use super::file_queue::FilePlace;
use super::lease::{Lease, LeaseKey, NamedFile, Phase};
use super::looks::{Files, seen};
use super::token_files::HANGS;
use crate::jobs::JobWindow;

/// A list of at most this length shows all events of its entries. One user on one node rarely has more, and it fits into one line.
const SHORT_LIST: usize = 8;

/// Number of events of each entry in a longer list.
const EVENTS_IN_LIST: usize = 2;

/// Room for the budgets of requests, in bytes.
const BUDGETS: usize = 8 * 1024;

/// Longest reason of a refused reload, in characters.
const REASON: usize = 500;

/// Room for it, in bytes: a character has at most four.
const RELOAD: usize = 4 * REASON + 64;

/// What one entry of the list needs from its lease.
struct Entry {
    status: JobStatus,
    key: LeaseKey,
    uid: u32,
    /// Where its files are.
    place: Option<FilePlace>,
    phase: Phase,
    written: bool,
    /// A thread changes its files, perhaps for ever: then a look at them hangs, too.
    is_busy: bool,
    /// The files in which a thread has seen an access token that can be used.
    seen: Option<Files>,
    window: JobWindow,
    failing_since: Option<u64>,
    files: Vec<NamedFile>,
    /// All events, of which `status` may have the last ones only.
    events: Vec<Event>,
}

impl Agent {
    /// Takes note of a reload that was refused for this reason. [`Self::configure`] forgets it.
    pub fn refuse_reload(&self, reason: &str) {
        let refused = RefusedReload { time: self.clock.unix_millis() / 1000, reason: printable(reason, REASON) };
        *self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }

    fn refused_reload(&self) -> Option<RefusedReload> {
        self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn status(&self, query: &StatusQuery, caller: u32, trusted: bool) -> Answer {
        if query.all && !trusted {
            return Answer::Error("only root may see the jobs and sessions of all users".to_owned());
        }
        let only = (!trusted || !(query.all || query.job.is_some())).then_some(caller);
        let status = self.list(|lease, job| {
            let asked = query.job.is_none_or(|asked| {
                let name = job.and_then(|job| lease.jobs.get(&job)).and_then(|job| job.name);
                job.is_some_and(|job| asked.means(job, name))
            });
            asked && only.is_none_or(|uid| uid == lease.uid)
        });
        let budgets = if query.job.is_none() { self.budgets_for((!trusted).then_some(caller)) } else { Vec::new() };
        let refused_reload = if trusted { self.refused_reload() } else { None };
        Answer::Status(Status { budgets, refused_reload, ..status })
    }

    /// The jobs and sessions that `chosen` chooses. Its second argument is the job; `None` is the session.
    pub(super) fn list(&self, chosen: impl Fn(&Lease, Option<u32>) -> bool) -> Status {
        let mut entries: Vec<Entry> = {
            let table = self.leases();
            let all = table.leases().flat_map(jobs_of);
            let mut chosen: Vec<(&Lease, Option<u32>)> = all.filter(|(lease, job)| chosen(lease, *job)).collect();
            chosen.sort_by_key(|(lease, own)| (lease.first_event(), *own));
            let events = if chosen.len() <= SHORT_LIST { usize::MAX } else { EVENTS_IN_LIST };
            let entry = |(lease, own): (&Lease, Option<u32>)| {
                let mut entry = self.entry(lease, own, events);
                entry.is_busy = entry.place.as_ref().is_some_and(|place| table.files.is_running(place));
                let hangs = entry.place.as_ref().is_some_and(|place| table.files.hangs(place));
                if entry.status.running && hangs {
                    let reason = format!("the token files cannot be changed: {HANGS}");
                    // The reason why there is no token is still one.
                    let other = entry.status.reason.take().map(|other| format!("; {other}")).unwrap_or_default();
                    entry.status.reason = Some(reason + &other);
                }
                entry
            };
            chosen.into_iter().map(entry).collect()
        };
        let omitted = oldest_to_omit(&entries);
        entries.drain(..omitted);
        self.look_at_files(&mut entries);
        Status {
            node: self.node.clone(),
            jobs: entries.into_iter().map(|entry| self.judged(entry)).collect(),
            omitted,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            keys: self.configured().service.key_ids(),
            budgets: Vec::new(),
            refused_reload: None,
        }
    }

    /// Looks what is in the files. What is not seen in time is as the leases say.
    fn look_at_files(&self, entries: &mut [Entry]) {
        let asked = entries.iter().filter(|entry| entry.is_looked_at());
        let asked: Vec<(u32, FilePlace)> = asked.filter_map(|entry| Some((entry.uid, entry.place.clone()?))).collect();
        self.look_at(&asked);
        let table = self.leases();
        for entry in entries.iter_mut().filter(|entry| entry.is_looked_at()) {
            let (lease, place) = (table.get(&entry.key), entry.place.as_ref());
            entry.seen = lease.zip(place).and_then(|(lease, place)| seen(&table, lease, place));
        }
    }

    /// One job of the lease, or the session, with the last `most` events.
    fn entry(&self, lease: &Lease, job: Option<u32>, most: usize) -> Entry {
        let events = lease.history.events();
        let own = job.and_then(|job| lease.jobs.get(&job));
        let (session, file) = match (&lease.key, job) {
            (LeaseKey::Session(session), _) => {
                (Some(session.clone()), Some(self.runtime_dir.session_token_path(session, lease.uid, lease.place)))
            }
            (_, job) => (None, job.map(|job| self.runtime_dir.job_token_path(job, lease.uid))),
        };
        let token_until =
            if session.is_some() { lease.token.map(|token| token.exp) } else { own.and_then(|job| job.file) };
        let running = own.map_or(session.is_some() && lease.is_running(), |job| job.running);
        let window = own.map_or(JobWindow::Always, |job| job.window);
        let told = job.map_or(JobWindow::Always, |job| lease.told_window_of(job));
        let status = JobStatus {
            job: job.unwrap_or(0),
            uid: lease.uid,
            profile: lease.profile.clone(),
            state: lease.state(job),
            name: own.and_then(|job| job.name),
            session,
            running,
            condition: None,
            since: None,
            from: lease.waits_until.max(told.from()).filter(|_| running),
            reason: told.reason().or_else(|| lease.reason.clone()).filter(|_| running),
            file: file.filter(|_| running).map(|path| path.display().to_string()),
            token_until: token_until.filter(|_| running),
            until: lease.until,
            files: Vec::new(),
            events: events.get(events.len().saturating_sub(most)..).unwrap_or_default().to_vec(),
        };
        let (phase, failing_since) = (lease.phase, lease.failing_since);
        let (key, uid, place) = (lease.key.clone(), lease.uid, place_of(lease, job));
        let files = if running { lease.files.clone() } else { Vec::new() };
        let written = token_until.is_some();
        let (is_busy, seen, events) = (false, None, events.to_vec());
        Entry { status, key, uid, place, phase, written, is_busy, seen, window, failing_since, files, events }
    }

    /// The entry with its condition.
    fn judged(&self, entry: Entry) -> JobStatus {
        let Entry { mut status, phase, written, seen, window, failing_since, files, events, .. } = entry;
        let is_seen =
            |name: Option<&FileName>| seen.as_ref().is_none_or(|seen| seen.iter().any(|found| found.as_ref() == name));
        let on_disk = status.file.is_some() && written && is_seen(None);
        let waits_until = status.from;
        let (is_session, running) = (status.session.is_some(), status.running);
        let (condition, since) = condition(&Facts {
            is_session,
            running,
            phase,
            written,
            on_disk,
            waits_until,
            window,
            failing_since,
            events: &events,
        });
        let renewed = matches!(phase, Phase::Active { .. } | Phase::Refused);
        let renewal = if renewed { Ok(window) } else { Err(&condition) };
        let judged = |file: &NamedFile| self.judged_file(&status, file, is_seen(Some(&file.name)), renewal);
        status.files = files.iter().map(judged).collect();
        (status.condition, status.since) = (Some(condition), since);
        status
    }

    /// A further file of a running job, within the windows of the job. Without renewal it shares the condition of the main file: the
    /// credential was given back.
    fn judged_file(
        &self,
        job: &JobStatus,
        file: &NamedFile,
        is_seen: bool,
        renewal: Result<JobWindow, &Condition>,
    ) -> FileStatus {
        let path = self.runtime_dir.job_file_path(job.job, job.uid, &file.name);
        let condition = match renewal {
            Ok(JobWindow::Closed { .. }) if file.due.is_some() => Condition::Waiting,
            Ok(JobWindow::Over) => Condition::Refused,
            Ok(_) => file.condition(job.job, is_seen && file.written.contains_key(&job.job)),
            Err(main) => main.clone(),
        };
        let window = renewal.unwrap_or_default();
        FileStatus {
            name: file.name.clone(),
            file: path.display().to_string(),
            condition,
            since: file.failing_since,
            from: file.waits_until.max(window.from()),
            reason: window.reason().filter(|_| file.due.is_some()).or_else(|| file.reason.clone()),
            token_until: file.written.get(&job.job).copied(),
        }
    }
}

impl Entry {
    /// Whether a thread is to look at its files. Not if there should be none: the look for a name that is not there can hang.
    fn is_looked_at(&self) -> bool {
        let has_files = self.written || self.files.iter().any(|file| file.written.contains_key(&self.status.job));
        self.status.running && !self.is_busy && has_files
    }
}

/// Where the files of an entry are.
fn place_of(lease: &Lease, job: Option<u32>) -> Option<FilePlace> {
    job.map_or_else(|| lease.file_places().pop(), |job| Some(FilePlace::Job(job)))
}

/// The jobs of a lease; the session of a session's lease.
fn jobs_of(lease: &Lease) -> Vec<(&Lease, Option<u32>)> {
    match lease.key {
        LeaseKey::Session(_) => vec![(lease, None)],
        LeaseKey::Job(_) | LeaseKey::Submission { .. } => lease.jobs.keys().map(|job| (lease, Some(*job))).collect(),
    }
}

/// Bytes that the condition of an entry adds to it at most.
const CONDITION: usize = 64;

/// Bytes that a further file adds to an entry, beside its reason.
const FILE: usize = 512;

/// Number of the oldest entries that have to be omitted, because an answer is one line.
fn oldest_to_omit(entries: &[Entry]) -> usize {
    let files = |files: &[NamedFile]| -> usize {
        files.iter().map(|file| FILE + file.reason.as_ref().map_or(0, |reason| 2 * reason.len())).sum()
    };
    let mut room = LINE_LIMIT - 1024 - BUDGETS - RELOAD;
    let included = entries.iter().rev().take_while(|entry| {
        let length = serde_json::to_string(&entry.status).map_or(LINE_LIMIT, |text| text.len() + 1 + CONDITION)
            + files(&entry.files);
        let enough = length <= room;
        room = room.saturating_sub(length);
        enough
    });
    entries.len() - included.count()
}
