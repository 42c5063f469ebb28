// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the Slurm plugin, the PAM module and `mytokenctl status` ask for.

use std::time::Instant;

use mytoken::files::Owner;
use mytoken_wire::Handle;
use mytoken_wire::agent::{
    Answer, EventKind, JobEnd, JobStart, JobState, JobStatus, LINE_LIMIT, Request, SessionEnd, SessionStart, Started,
    Status,
};

use super::lease::{Held, Key, Lease, Phase, Source};
use super::{Agent, millis, now, process};
use crate::jobs::{renew_at, start};
use crate::log::Level;

impl Agent {
    /// Answers a request of the user `caller`; `trusted` when it is root.
    pub fn answer(&self, request: Request, caller: u32, trusted: bool) -> Answer {
        match request {
            Request::Status(query) => Answer::Status(self.status(query.job, (!trusted).then_some(caller))),
            _ if !trusted => Answer::Error("only root may ask that; mytokenctl status is for everybody".to_owned()),
            Request::JobStart(start) => Answer::Started(self.job_start(&start)),
            Request::JobEnd(end) => self.job_end(&end),
            Request::SessionStart(start) => self.session_start(start),
            Request::SessionEnd(end) => self.session_end(&end),
        }
    }

    fn job_start(&self, start: &JobStart) -> Started {
        let key = Key::Job(start.job);
        let known = {
            let book = self.book();
            book.get(&key).is_some_and(|lease| answers_for(lease, start))
        };
        if !known {
            let lease = self.admitted(start);
            let mut book = self.book();
            // Another step of the job may have come in between.
            if !book.get(&key).is_some_and(|lease| answers_for(lease, start)) {
                book.enter(lease);
                self.settle_change(&mut book, &key);
            }
        }
        self.first_answer(&key)
    }

    /// The lease of a job that starts here, refused or waiting for its first token. It continues what is remembered of an earlier run
    /// (a requeued job keeps its id, SLURM-28).
    fn admitted(&self, start: &JobStart) -> Lease {
        let now = now();
        let owner = Owner { uid: start.uid, gid: start.gid };
        let mut lease = Lease::new(Key::Job(start.job), owner, "-", now);
        lease.array_job = start.array_job.filter(|array| *array != 0);
        if let Some(former) = self.book().get(&lease.key).filter(|former| former.uid == start.uid) {
            lease.history = former.history.clone();
        }
        let admitted = match start::sealed_of(start) {
            Ok(sealed) => self.authority.admit(start, sealed, now / 1000).map(|admitted| (admitted, sealed)),
            Err(refusal) => Err(super::authority::Denied { text: refusal.to_string(), required: false }),
        };
        match admitted {
            Ok((admitted, sealed)) => {
                lease.profile = admitted.profile;
                lease.handle = admitted.handle;
                lease.required = admitted.required;
                lease.until = Some(admitted.exp);
                lease.source = Some(Source::Sealed(sealed.to_owned()));
                self.tell(&mut lease, Level::Info, EventKind::Opened, admitted.told);
            }
            Err(denied) => {
                lease.required = denied.required;
                self.log.line(Level::Warning, &format!("{}: refused: {}", super::name(&lease), denied.text));
                lease.refuse(now, denied.text);
            }
        }
        lease
    }

    /// Waits until the first attempt has ended, at most for the time that a step may be held up.
    fn first_answer(&self, key: &Key) -> Started {
        let begin = Instant::now();
        let mut book = self.book();
        loop {
            let Some(lease) = book.get(key) else {
                return Started {
                    path: String::new(),
                    state: JobState::Failed,
                    reason: Some("the job ended while its credential was obtained".to_owned()),
                    required: false,
                };
            };
            let undecided = lease.state() == JobState::Pending && lease.failures == 0;
            let left = self.times.start.checked_sub(begin.elapsed()).filter(|left| undecided && !left.is_zero());
            let Some(left) = left else {
                let state = lease.state();
                let reason = match state {
                    JobState::Ready => None,
                    JobState::Pending => Some(lease.reason.clone().unwrap_or_else(|| {
                        "the mytoken server has not answered yet; the file appears when it does".to_owned()
                    })),
                    JobState::Failed => lease.reason.clone(),
                };
                let path = self.places.token_path(lease).display().to_string();
                return Started { path, state, reason, required: lease.required };
            };
            book = self.changed.wait_timeout(book, left).map_or_else(|poison| poison.into_inner().0, |(book, _)| book);
        }
    }

    fn job_end(&self, end: &JobEnd) -> Answer {
        let mut book = self.book();
        let removed = self.places.remove_job(end.job);
        if let Err(error) = &removed {
            self.log.line(Level::Error, &format!("job {}: its files were not removed: {error}", end.job));
        }
        self.end_job(&mut book, end.job);
        match removed {
            Ok(_) => Answer::Done {},
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    /// The files are gone already: notes the end and arranges the question about revocation.
    pub(super) fn end_job(&self, book: &mut super::Book, job: u32) {
        let key = Key::Job(job);
        let Some(lease) = book.get_mut(&key).filter(|lease| lease.is_alive()) else { return };
        let now = now();
        lease.held = None;
        lease.reason = None;
        self.tell(lease, Level::Info, EventKind::Removed, "the job ended on this node; its access token was removed");
        lease.phase = if lease.source.is_some() {
            Phase::Ended { due: now.saturating_add(millis(self.times.grace)), tries: 0 }
        } else {
            Phase::Over { due: now.saturating_add(millis(self.times.memory)) }
        };
        self.settle_change(book, &key);
        for key in book.surplus() {
            self.forget(book, &key);
        }
    }

    fn session_start(&self, start: SessionStart) -> Answer {
        let is_id = Handle::parse(&start.session).is_some();
        if !is_id {
            return Answer::Error("a session's id is 32 hexadecimal digits".to_owned());
        }
        let Some(begin) = process::started(start.pid) else {
            return Answer::Error(format!("there is no process {}", start.pid));
        };
        let now = now();
        let key = Key::Session(start.session);
        let mut lease = Lease::new(key.clone(), Owner { uid: start.uid, gid: start.gid }, "session", now);
        lease.process = Some((start.pid, begin));
        lease.held = Some(Held { exp: start.exp, lifetime: start.lifetime });
        let due = renew_at(start.exp, start.lifetime, (self.draw)());
        let renewal = match start.renewal {
            Some(renewal) if !renewal.mytoken.is_empty() => {
                let until =
                    mytoken::token::unverified_claims(&renewal.mytoken).and_then(|claims| claims.unverified().exp);
                if until.is_some_and(|until| until.saturating_mul(1000) <= due) {
                    // The helper's, without --delegate. Its spare use is for the login.
                    Err("the login's mytoken ends before its access token is due for renewal")
                } else {
                    Ok((Source::Mytoken(renewal), until))
                }
            }
            _ => Err("the login brought nothing to renew its access token with"),
        };
        let text = match renewal {
            Ok((source, until)) => {
                lease.source = Some(source);
                lease.until = until;
                lease.phase = Phase::Alive { due };
                "the access token of the login will be renewed"
            }
            Err(reason) => {
                lease.until = Some(start.exp);
                lease.phase = Phase::Refused;
                lease.reason = Some(reason.to_owned());
                reason
            }
        };
        self.tell(&mut lease, Level::Info, EventKind::Started, text);
        let mut book = self.book();
        book.enter(lease);
        self.settle_change(&mut book, &key);
        Answer::Done {}
    }

    fn session_end(&self, end: &SessionEnd) -> Answer {
        let mut book = self.book();
        self.end_session(&mut book, &Key::Session(end.session.clone()), "the session ended");
        Answer::Done {}
    }

    /// Removes what the session left and forgets its mytoken.
    pub(super) fn end_session(&self, book: &mut super::Book, key: &Key, why: &str) {
        let Key::Session(session) = key else { return };
        let Some(lease) = book.get_mut(key).filter(|lease| lease.is_alive()) else { return };
        if let Err(error) = self.places.remove_session(lease, session) {
            self.log.line(Level::Warning, &format!("{}: its files were not removed: {error}", super::name(lease)));
        }
        lease.held = None;
        lease.source = None;
        lease.phase = Phase::Over { due: now().saturating_add(millis(self.times.memory)) };
        self.tell(lease, Level::Info, EventKind::Removed, why);
        self.settle_change(book, key);
        for key in book.surplus() {
            self.forget(book, &key);
        }
    }

    fn status(&self, job: Option<u32>, only: Option<u32>) -> Status {
        let mut jobs: Vec<_> = {
            let book = self.book();
            let visible = book.leases().filter(|lease| only.is_none_or(|uid| uid == lease.uid));
            let mut chosen: Vec<&Lease> =
                visible.filter(|lease| job.is_none_or(|job| lease.key == Key::Job(job))).collect();
            chosen.sort_by_key(|lease| (lease.since(), lease.number()));
            let events = if chosen.len() <= SHORT_LIST { usize::MAX } else { EVENTS_IN_LIST };
            chosen.into_iter().map(|lease| lease.status(events)).collect()
        };
        let omitted = beyond_a_line(&jobs);
        jobs.drain(..omitted);
        Status { node: self.node.clone(), jobs, omitted }
    }
}

/// A list of so many shows all of their events: one line has room for them, and it is what one user on one node asks for.
const SHORT_LIST: usize = 8;

/// How many events each entry of a longer list shows.
const EVENTS_IN_LIST: usize = 2;

/// How many of the oldest entries do not fit into an answer.
fn beyond_a_line(jobs: &[JobStatus]) -> usize {
    let mut room = LINE_LIMIT - 1024;
    let fitting = jobs.iter().rev().take_while(|job| {
        let length = serde_json::to_string(job).map_or(LINE_LIMIT, |text| text.len() + 1);
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    });
    jobs.len() - fitting.count()
}

/// Whether the lease answers for this step without anything being opened or asked: it is the same user's, the job has not ended here in
/// between, and the step brings nothing that was missing before.
fn answers_for(lease: &Lease, start: &JobStart) -> bool {
    let brings_more =
        lease.source.is_none() && lease.held.is_none() && start.sealed.is_some() && lease.handle.is_empty();
    lease.is_alive() && lease.uid == start.uid && !(brings_more && lease.profile == "-" && was_lost(lease))
}

/// A step without the sealed text came first (`--export-file` for one srun); a later one may have it.
fn was_lost(lease: &Lease) -> bool {
    let lost = [start::Refusal::Lost.to_string(), start::Refusal::Absent.to_string()];
    lease.reason.as_ref().is_some_and(|reason| lost.contains(reason))
}
