// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads of the broker that wait for others: for mytoken servers, and for slurmctld.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use mytoken::Deadline;
use mytoken_wire::FileName;

use super::revoked::{self, Before};
use super::submission::End;
use super::submission_key::{SubmissionKey, name};
use super::{Broker, State};
use crate::agent::budget::ledger::Purpose;
use crate::agent::credential_service::{Charge, RequestFailure};
use crate::agent::lanes::{Lanes, REVOCATIONS, TOKENS};
use crate::agent::lease::LeaseCredential;
use crate::log::Level;

/// Time limit of one request to a mytoken server.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at the revocations that have to be tried again.
const TURN: Duration = Duration::from_secs(2);

/// Turns between two looks for kept credentials that have expired.
const EXPIRY: u32 = 30;

/// How long the end waits for the last write of what was revoked.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// A request to a mytoken server.
pub(super) enum Work {
    /// For the access token of this file.
    Token(SubmissionKey, Option<FileName>),
    /// Revokes the sub-token.
    Revoke(SubmissionKey),
    /// For an answer that tells the limit of this server.
    Limit(String),
}

/// The threads. [`Threads::stop`] ends them.
pub struct Threads {
    broker: Arc<Broker>,
    handles: Vec<JoinHandle<()>>,
    /// Writes what was revoked.
    writer: JoinHandle<()>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(broker: &Arc<Broker>) -> std::io::Result<Self> {
        let mut handles = Vec::new();
        let mut spawn = |name: String, run: Box<dyn FnOnce(&Broker) + Send>| -> std::io::Result<()> {
            let broker = Arc::clone(broker);
            handles.push(Builder::new().name(name).spawn(move || run(&broker))?);
            Ok(())
        };
        for number in 0..TOKENS.all {
            spawn(format!("tokens-{number}"), Box::new(|broker| broker.run_work(|state| &mut state.tokens)))?;
        }
        for number in 0..REVOCATIONS.all {
            spawn(format!("revoke-{number}"), Box::new(|broker| broker.run_work(|state| &mut state.revocations)))?;
        }
        spawn("slurmctld".to_owned(), Box::new(Broker::ask_slurmctld))?;
        spawn("turns".to_owned(), Box::new(Broker::run_turns))?;
        spawn("escrow".to_owned(), Box::new(Broker::run_sweeps))?;
        spawn("replacements".to_owned(), Box::new(Broker::run_replacements))?;
        let own = Arc::clone(broker);
        let writer = Builder::new().name("revoked".to_owned()).spawn(move || own.write_revocations())?;
        Ok(Self { broker: Arc::clone(broker), handles, writer })
    }

    /// Ends the threads. One that waits for a server is abandoned: a node asks again.
    pub fn stop(self) {
        self.broker.state().stopping = true;
        self.broker.queued.notify_all();
        self.broker.questions.stop();
        self.broker.stop_writing();
        let begin = Instant::now();
        while !self.writer.is_finished() && begin.elapsed() < LAST_WRITE {
            std::thread::sleep(Duration::from_millis(5));
        }
        for handle in self.handles.into_iter().chain([self.writer]) {
            if handle.is_finished() {
                let _ = handle.join();
            }
        }
    }
}

impl Broker {
    fn run_work(&self, lanes: fn(&mut State) -> &mut Lanes<Work>) {
        loop {
            let mut state = self.state();
            let (place, work) = loop {
                if state.stopping {
                    return;
                }
                if let Some(next) = lanes(&mut state).take() {
                    break next;
                }
                state = self.queued.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            // A panic must not end the worker thread: all other submissions need it.
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(&work))).is_err() {
                self.panicked(&work, || RequestFailure::temporary("an internal error of the broker"));
            }
            lanes(&mut self.state()).done(&place);
            self.queued.notify_all();
        }
    }

    fn carry_out(&self, work: &Work) {
        let deadline = Deadline::after(REQUEST_DEADLINE);
        match work {
            Work::Limit(server) => self.service().ask_for_limit(server, deadline),
            Work::Token(key, file) => {
                let Some((credential, proven, job, server)) = self.credential(key) else { return };
                let begin = |submission: &mut super::Submission| {
                    let are_limited = submission.admitted.limited_uses;
                    submission.tokens.get_mut(file)?.begin(self.clock.elapsed(), REQUEST_DEADLINE, are_limited)
                };
                let Some((times, round)) = self.state().submissions.get_mut(key).and_then(begin) else { return };
                let deadline = Deadline::after(times.deadline);
                let purpose = if proven { Purpose::Token } else { Purpose::FirstToken };
                let charge = Charge { uid: key.uid, purpose, job };
                let comment = job.map_or_else(|| "jobs".to_owned(), |job| format!("job {job}"));
                let result = self.service().access_token(&credential, file.as_ref(), &comment, charge, deadline);
                self.counts.answered(&server, &result, self.clock.elapsed());
                let is_first = result.is_ok() && !proven;
                if let Err(failure) = &result {
                    let text = format!("{}: no access token: {}", name(key), failure.reason);
                    self.log.line_of(key.uid, Level::Warning, &text);
                }
                let now = self.clock.elapsed();
                if let Some(submission) = self.state().submissions.get_mut(key) {
                    submission.proven |= result.is_ok();
                    submission.tokens.entry(file.clone()).or_default().answer(round, result, now, (self.draw)());
                }
                if is_first && self.replaced.has(key) {
                    // The credential that it replaces is not needed any more, if slurmctld shows no other job of it.
                    self.questions.plan(now);
                }
            }
            Work::Revoke(key) => {
                let Some((credential, proven, job, server)) = self.credential(key) else { return };
                let purpose = if proven { Purpose::Revocation } else { Purpose::UnverifiedRevocation };
                let before = self.begin_revocation(key);
                let result = self.service().revoke(&credential, Charge { uid: key.uid, purpose, job }, deadline);
                self.end_revocation(key, before, (&result, deadline.remaining().is_none()));
                self.counts.answered(&server, &result, self.clock.elapsed());
                let (level, text) = match &result {
                    Ok(()) => (Level::Info, revoked::told(before).to_owned()),
                    Err(failure) if failure.temporary => {
                        (Level::Warning, format!("its sub-token was not revoked yet: {}", failure.reason))
                    }
                    Err(failure) => (Level::Warning, format!("its sub-token could not be revoked: {}", failure.reason)),
                };
                self.log.line_of(key.uid, level, &format!("{}: {text}", name(key)));
                let now = self.clock.elapsed();
                let mut state = self.state();
                let settled = state.submissions.get_mut(key).and_then(|submission| {
                    submission.revoked(&result, now, (self.draw)());
                    let is_settled = matches!(submission.end, End::Settled { .. });
                    is_settled.then(|| (submission.admitted.made, submission.binding.named()))
                });
                drop(state);
                if let Some((made, leaders)) = settled {
                    self.forget_kept(key);
                    self.retire_replaced(key, made, &leaders);
                }
            }
        }
    }

    /// Marks that the server is asked to revoke a sub-token. Nobody waits until that is written: the answer takes longer.
    fn begin_revocation(&self, key: &SubmissionKey) -> Before {
        let before = self.state().revoked.ask(key, self.clock.elapsed());
        self.kept_revocations.changed();
        before
    }

    /// The request was answered, or its time was up.
    fn end_revocation(
        &self,
        key: &SubmissionKey,
        before: Before,
        (result, is_late): (&Result<(), RequestFailure>, bool),
    ) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        match result {
            Ok(()) => state.revoked.done(key, now),
            Err(failure) if failure.unsent => state.revoked.withdraw(key, before),
            Err(_) if is_late => state.revoked.timed_out(key, now),
            Err(_) => state.revoked.failed(key),
        }
        drop(state);
        self.kept_revocations.changed();
    }

    /// The thread of this work has panicked.
    fn panicked(&self, work: &Work, failure: impl Fn() -> RequestFailure) {
        let now = self.clock.elapsed();
        let mut state = self.state();
        match work {
            Work::Token(key, file) => {
                if let Some(submission) = state.submissions.get_mut(key) {
                    submission.tokens.entry(file.clone()).or_default().panicked(failure(), now, (self.draw)());
                }
            }
            Work::Revoke(key) => {
                if let Some(submission) = state.submissions.get_mut(key) {
                    submission.revoked(&Err(failure()), now, (self.draw)());
                }
            }
            Work::Limit(_) => {}
        }
    }

    /// The credential of a submission, whether it has given a token, one of its jobs, and its server.
    fn credential(&self, key: &SubmissionKey) -> Option<(LeaseCredential, bool, Option<u32>, String)> {
        let state = self.state();
        let submission = state.submissions.get(key)?;
        let job = submission.jobs.first().copied();
        let server = submission.admitted.server().to_owned();
        Some((LeaseCredential::Sealed(submission.sealed.clone()), submission.proven, job, server))
    }

    fn ask_slurmctld(&self) {
        let has_work = || !self.state().submissions.is_empty() || self.replaced.is_used();
        let run = || {
            self.questions.run(self.controller.as_ref(), &|| self.clock.elapsed(), &has_work, &|answered| {
                self.note(answered);
            });
        };
        // A panic must not end the thread: all nodes need its answers.
        while catch_unwind(AssertUnwindSafe(run)).is_err() {
            std::thread::sleep(TURN);
        }
    }

    /// In a thread of its own: a disk that hangs holds up no answer of slurmctld.
    fn run_sweeps(&self) {
        let mut turns = 0_u32;
        while !self.state().stopping {
            std::thread::sleep(TURN);
            turns = turns.wrapping_add(1);
            let _ = catch_unwind(AssertUnwindSafe(|| self.sweep_kept(turns % EXPIRY == 0)));
        }
    }

    fn run_turns(&self) {
        loop {
            std::thread::sleep(TURN);
            if self.state().stopping {
                return;
            }
            self.told.tell_left_out(&self.log, self.clock.elapsed());
            let due = |submission: &super::Submission| matches!(submission.end, End::Revoking { asked: false, .. });
            if self.state().submissions.values().any(due) {
                let _ = catch_unwind(AssertUnwindSafe(|| self.queue_revocations()));
            }
        }
    }
}
