// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers the requests of the Slurm plugin, the PAM module and `mytokenctl status`.

use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken_wire::Handle;
use mytoken_wire::agent::{
    Answer, EventKind, JobEnd, JobStart, JobState, JobStatus, LINE_LIMIT, Request, SessionEnd, SessionStart, Started,
    Status,
};

use super::credential_service::Denied;
use super::lease::{CurrentToken, Lease, LeaseCredential, LeaseKey, Phase};
use super::lease_table::LeaseTable;
use super::{Agent, millis, process};
use crate::jobs::{job_start, renew_at};
use crate::log::Level;

impl Agent {
    /// Answers a request of the user `caller`. `trusted` is true for root.
    pub fn answer(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        match request {
            Request::Status(query) => Answer::Status(self.status(query.job, (!trusted).then_some(caller))),
            _ if !trusted => {
                Answer::Error("only root may send this request; every user may run mytokenctl status".to_owned())
            }
            Request::JobStart(start) => Answer::Started(self.job_start(&start)),
            Request::JobEnd(end) => self.job_end(&end),
            Request::SessionStart(start) => self.session_start(start),
            Request::SessionEnd(end) => self.session_end(&end),
        }
    }

    fn job_start(&self, start: &JobStart) -> Started {
        let begin = self.clock.elapsed();
        self.begin_job(start);
        self.first_answer(&LeaseKey::Job(start.job), begin)
    }

    /// Makes the lease of a job that starts here, if there is none.
    pub(super) fn begin_job(&self, start: &JobStart) {
        let key = LeaseKey::Job(start.job);
        let known = {
            let table = self.leases();
            table.get(&key).is_some_and(|lease| answers_for(lease, start))
        };
        if !known {
            let lease = self.new_job_lease(start);
            let mut table = self.leases();
            // Another step of the job may have inserted a lease in the meantime.
            if !table.get(&key).is_some_and(|lease| answers_for(lease, start)) {
                self.make_job_directory(start);
                table.insert(lease);
                self.lease_changed(&mut table, &key);
            }
        }
    }

    /// The lease of a job that starts here: refused, or due for its first token. It keeps the history of an earlier run of the job (a
    /// requeued job keeps its id, SLURM-28).
    fn new_job_lease(&self, start: &JobStart) -> Lease {
        let now = self.clock.unix_millis();
        let owner = Owner { uid: start.uid, gid: start.gid };
        let mut lease = Lease::new(LeaseKey::Job(start.job), owner, "-", now);
        lease.array_job = start.array_job.filter(|array| *array != 0);
        if let Some(earlier) = self.leases().get(&lease.key).filter(|earlier| earlier.uid == start.uid) {
            lease.history = earlier.history.clone();
        }
        let admitted = match job_start::sealed_of(start) {
            Ok(sealed) => self.configured().service.admit(start, sealed, now / 1000).map(|admitted| (admitted, sealed)),
            Err(missing) => {
                lease.lacks_credential = true;
                Err(Denied { reason: missing.to_string(), required: false })
            }
        };
        match admitted {
            Ok((admitted, sealed)) => {
                lease.profile = admitted.profile;
                lease.handle = admitted.handle;
                lease.required = admitted.required;
                lease.until = Some(admitted.exp);
                lease.credential = Some(LeaseCredential::Sealed(sealed.to_owned()));
                self.record(&mut lease, Level::Info, EventKind::Opened, admitted.description);
            }
            Err(denied) => {
                lease.required = denied.required;
                self.log.line(Level::Warning, &format!("{}: refused: {}", super::name(&lease), denied.reason));
                lease.refuse(now, denied.reason);
            }
        }
        lease
    }

    /// Waits for the end of the first request for a token, at most [`super::Intervals::start_deadline`] after `begin`, the arrival of the
    /// step's request.
    fn first_answer(&self, key: &LeaseKey, begin: Duration) -> Started {
        let mut table = self.leases();
        loop {
            let Some(lease) = table.get(key) else {
                return Started {
                    path: String::new(),
                    state: JobState::Failed,
                    reason: Some("the job ended before its first access token arrived".to_owned()),
                    required: false,
                };
            };
            let undecided = lease.state() == JobState::Pending && lease.failures == 0;
            let waited = self.clock.elapsed().saturating_sub(begin);
            let left = self
                .configured()
                .intervals
                .start_deadline
                .checked_sub(waited)
                .filter(|left| undecided && !left.is_zero());
            let Some(left) = left else {
                let state = lease.state();
                let reason = match state {
                    JobState::Ready => None,
                    JobState::Pending => Some(lease.reason.clone().unwrap_or_else(|| {
                        "the mytoken server has not answered yet; the file appears after its answer".to_owned()
                    })),
                    JobState::Failed => lease.reason.clone(),
                };
                let path = self.runtime_dir.token_path(lease).display().to_string();
                return Started { path, state, reason, required: lease.required };
            };
            table =
                self.changed.wait_timeout(table, left).map_or_else(|poison| poison.into_inner().0, |(table, _)| table);
        }
    }

    fn job_end(&self, end: &JobEnd) -> Answer {
        let mut table = self.leases();
        let removed = self.runtime_dir.remove_job(end.job);
        if let Err(error) = &removed {
            self.log.line(Level::Error, &format!("job {}: its files could not be removed: {error}", end.job));
        }
        self.end_job(&mut table, end.job);
        match removed {
            Ok(_) => Answer::Done {},
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    /// Ends the lease of a job whose files are removed already, and schedules the query that decides on revocation.
    pub(super) fn end_job(&self, table: &mut LeaseTable, job: u32) {
        let key = LeaseKey::Job(job);
        let Some(lease) = table.get_mut(&key).filter(|lease| lease.is_running()) else { return };
        let now = self.clock.unix_millis();
        lease.token = None;
        lease.reason = None;
        self.record(lease, Level::Info, EventKind::Removed, "the job ended on this node; its access token was removed");
        lease.phase = if lease.credential.is_some() {
            Phase::Ended { due: now.saturating_add(millis(self.configured().intervals.settle_delay)), tries: 0 }
        } else {
            Phase::Finished { due: now.saturating_add(millis(self.configured().intervals.retention)) }
        };
        self.lease_changed(table, &key);
        for key in table.surplus() {
            self.delete(table, &key);
        }
    }

    fn session_start(&self, start: SessionStart) -> Answer {
        if Handle::parse(&start.session).is_none() {
            return Answer::Error("a session's id is 32 hexadecimal digits".to_owned());
        }
        let Some(begin) = process::start_time(start.pid) else {
            return Answer::Error(format!("there is no process {}", start.pid));
        };
        let now = self.clock.unix_millis();
        let key = LeaseKey::Session(start.session);
        let mut lease = Lease::new(key.clone(), Owner { uid: start.uid, gid: start.gid }, "session", now);
        lease.process = Some((start.pid, begin));
        lease.token = Some(CurrentToken { exp: start.exp, lifetime: start.lifetime });
        let due = renew_at(start.exp, start.lifetime, (self.draw)());
        let renewal = match start.renewal {
            Some(renewal) if !renewal.mytoken.is_empty() => {
                let until =
                    mytoken::token::unverified_claims(&renewal.mytoken).and_then(|claims| claims.unverified().exp);
                if until.is_some_and(|until| until.saturating_mul(1000) <= due) {
                    // It is from mytoken-ssh without --delegate. It has a second use only in case the login's first request fails, which
                    // counts too (MT-12).
                    Err("the login's mytoken ends before its access token is due for renewal")
                } else {
                    Ok((LeaseCredential::Mytoken(renewal), until))
                }
            }
            _ => Err("the login brought no mytoken to renew its access token with"),
        };
        let text = match renewal {
            Ok((credential, until)) => {
                lease.credential = Some(credential);
                lease.until = until;
                lease.phase = Phase::Active { due };
                "the access token of the login will be renewed"
            }
            Err(reason) => {
                lease.until = Some(start.exp);
                lease.phase = Phase::Refused;
                lease.reason = Some(reason.to_owned());
                reason
            }
        };
        self.record(&mut lease, Level::Info, EventKind::Started, text);
        let mut table = self.leases();
        table.insert(lease);
        self.lease_changed(&mut table, &key);
        Answer::Done {}
    }

    fn session_end(&self, end: &SessionEnd) -> Answer {
        let mut table = self.leases();
        self.end_session(&mut table, &LeaseKey::Session(end.session.clone()), "the session ended");
        Answer::Done {}
    }

    /// Removes the session's files and mytoken.
    pub(super) fn end_session(&self, table: &mut LeaseTable, key: &LeaseKey, why: &str) {
        let LeaseKey::Session(session) = key else { return };
        let Some(lease) = table.get_mut(key).filter(|lease| lease.is_running()) else { return };
        if let Err(error) = self.runtime_dir.remove_session(lease, session) {
            self.log.line(Level::Warning, &format!("{}: its files could not be removed: {error}", super::name(lease)));
        }
        lease.token = None;
        lease.credential = None;
        lease.phase = Phase::Finished {
            due: self.clock.unix_millis().saturating_add(millis(self.configured().intervals.retention)),
        };
        self.record(lease, Level::Info, EventKind::Removed, why);
        self.lease_changed(table, key);
        for key in table.surplus() {
            self.delete(table, &key);
        }
    }

    fn status(&self, job: Option<u32>, only: Option<u32>) -> Status {
        let mut jobs: Vec<_> = {
            let table = self.leases();
            let visible = table.leases().filter(|lease| only.is_none_or(|uid| uid == lease.uid));
            let mut chosen: Vec<&Lease> =
                visible.filter(|lease| job.is_none_or(|job| lease.key == LeaseKey::Job(job))).collect();
            chosen.sort_by_key(|lease| (lease.first_event(), lease.job_id()));
            let events = if chosen.len() <= SHORT_LIST { usize::MAX } else { EVENTS_IN_LIST };
            chosen.into_iter().map(|lease| lease.status(events)).collect()
        };
        let omitted = oldest_to_omit(&jobs);
        jobs.drain(..omitted);
        Status {
            node: self.node.clone(),
            jobs,
            omitted,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            keys: self.configured().service.key_ids(),
        }
    }
}

/// A list of at most this length shows all events of its entries. One user on one node rarely has more, and it fits into one line.
const SHORT_LIST: usize = 8;

/// Number of events of each entry in a longer list.
const EVENTS_IN_LIST: usize = 2;

/// Number of the oldest entries that have to be omitted, because an answer is one line.
fn oldest_to_omit(jobs: &[JobStatus]) -> usize {
    let mut room = LINE_LIMIT - 1024;
    let included = jobs.iter().rev().take_while(|job| {
        let length = serde_json::to_string(job).map_or(LINE_LIMIT, |text| text.len() + 1);
        let enough = length <= room;
        room = room.saturating_sub(length);
        enough
    });
    jobs.len() - included.count()
}

/// Whether this lease serves the step: the lease is running and of the same user, and the step does not bring a credential that the lease
/// lacks.
fn answers_for(lease: &Lease, start: &JobStart) -> bool {
    let brings_credential = lease.lacks_credential && start.sealed.is_some();
    lease.is_running() && lease.uid == start.uid && !brings_credential
}
