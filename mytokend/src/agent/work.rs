// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the workers do: exchange, and find out about ended jobs. Nothing here holds the book while it waits for the network.

use std::time::{Duration, Instant};

use mytoken::Deadline;
use mytoken_wire::agent::EventKind;

use super::authority::{Failure, Fresh};
use super::book::Book;
use super::lease::{Action, Held, Key, Lease, Phase, Source};
use super::{Agent, millis, now};
use crate::jobs::{Fate, backoff, fate, is_gone, renew_at};
use crate::log::Level;

/// So often slurmctld is asked about an ended job, and a revocation tried; then the sub-token's expiry has to do. With
/// [`WINDOW`] that is a night without slurmctld or without the mytoken server.
const TRIES: u32 = 20;

/// The wait between two tries doubles so often: from seconds to an hour.
const WINDOW: u32 = 11;

impl Agent {
    /// Does one piece of work.
    pub(super) fn perform(&self, key: &Key, action: Action, generation: u64) {
        match action {
            Action::Renew => self.renew(key, generation),
            Action::Settle => self.settle(key, generation),
            Action::Doubt => self.doubt(key, generation),
            Action::Expire | Action::Forget => {}
        }
    }

    fn renew(&self, key: &Key, generation: u64) {
        let Some((source, comment, until)) = self.borrow(key, generation, |lease| {
            lease.source.clone().map(|source| (source, self.comment(lease), lease.until))
        }) else {
            return;
        };
        let begin = Instant::now();
        let result = if until.is_some_and(|until| until.saturating_mul(1000) <= now()) {
            Err(Failure { text: "the credential itself has expired".to_owned(), temporary: false, retry_after: None })
        } else {
            self.authority.access_token(&source, &comment, Deadline::after(self.times.request))
        };
        drop(source);
        let took = begin.elapsed();
        let mut book = self.book();
        let Some(lease) = returned(&mut book, key, generation) else { return };
        // The job may have ended while the token was on its way: then no file is made.
        match (lease.phase, result) {
            (Phase::Alive { .. }, Ok(fresh)) => self.install(lease, &fresh, took),
            (Phase::Alive { .. }, Err(failure)) => self.failed(lease, failure),
            (_, Ok(_)) => self.tell(lease, Level::Info, EventKind::Dropped, "an access token came after the end"),
            (_, Err(_)) => {}
        }
        self.settle_change(&mut book, key);
    }

    fn install(&self, lease: &mut Lease, fresh: &Fresh, took: Duration) {
        let now = now();
        let left = fresh.exp.saturating_sub(now / 1000);
        if left == 0 {
            let text = format!(
                "the access token that came expired {} s ago; is this node's clock right?",
                (now / 1000).saturating_sub(fresh.exp)
            );
            return self.failed(lease, Failure { text, temporary: true, retry_after: None });
        }
        if let Err(error) = self.places.write_token(lease, fresh.token.expose()) {
            let text = format!("the access token could not be written: {error}");
            return self.failed(lease, Failure { text, temporary: true, retry_after: None });
        }
        let first = lease.held.is_none();
        lease.held = Some(Held { exp: fresh.exp, lifetime: fresh.lifetime });
        lease.failures = 0;
        lease.reason = None;
        // By a clock that is ahead, or from a provider that hands out old tokens, it has less than its lifetime left. Counted from the
        // whole lifetime, the next one would be due at once, and again, on every node.
        let due = renew_at(fresh.exp, fresh.lifetime.min(left), (self.draw)()).max(now.saturating_add(500));
        lease.phase = Phase::Alive { due };
        let what = if first { EventKind::Started } else { EventKind::Renewed };
        let text =
            format!("access token in {} ms, next in {}", took.as_millis(), about(due.saturating_sub(now) / 1000));
        self.tell(lease, Level::Info, what, text);
    }

    fn failed(&self, lease: &mut Lease, failure: Failure) {
        if !failure.temporary {
            self.log.line(Level::Warning, &format!("{}: refused: {}", super::name(lease), failure.text));
            return lease.refuse(now(), failure.text);
        }
        lease.failures = lease.failures.saturating_add(1);
        let lifetime = lease.held.map_or(0, |held| held.lifetime);
        let wait = backoff(lease.failures, lifetime, failure.retry_after, (self.draw)());
        lease.phase = Phase::Alive { due: now().saturating_add(millis(wait)) };
        let keeping = if lease.held.is_some() {
            "the old access token stays, the agent tries again"
        } else {
            "the agent tries again"
        };
        let text = format!("{}; {keeping}", failure.text);
        self.tell(lease, Level::Warning, EventKind::Retry, text.clone());
        lease.reason = Some(text);
    }

    /// An ended job: revoke, leave it to others, keep it for the requeued job, or ask again later.
    fn settle(&self, key: &Key, generation: u64) {
        let Key::Job(job) = *key else { return };
        let found = self.borrow(key, generation, |lease| Some((lease.source.clone(), lease.array_job, lease.phase)));
        let Some((source, array, Phase::Ended { tries, .. })) = found else { return };
        let decision = match self.controller.lines(array.unwrap_or(job)) {
            Ok(lines) => Ok(fate(lines.as_deref(), job, &self.node)),
            Err(reason) => Err(reason),
        };
        let shared = decision == Ok(Fate::Revoke) && self.is_shared(key);
        let outcome = match (decision, source) {
            (Ok(Fate::Revoke), _) if shared => {
                Outcome::Over(EventKind::Left, "another job of the same submission still runs here".to_owned())
            }
            (Ok(Fate::Revoke), Some(source)) => self.revoke(&source),
            (Ok(Fate::Revoke | Fate::Leave), _) => Outcome::Over(
                EventKind::Left,
                "the sub-token is revoked by the job's first node, or when the last task of the array has ended"
                    .to_owned(),
            ),
            (Ok(Fate::Requeued), _) => Outcome::Over(
                EventKind::Requeued,
                "the job waits in the queue again and keeps its credential".to_owned(),
            ),
            (Ok(Fate::Undecided), _) => Outcome::Again("slurmctld does not call the job finished yet".to_owned()),
            (Err(reason), _) => Outcome::Again(reason),
        };
        let mut book = self.book();
        let Some(lease) = returned(&mut book, key, generation) else { return };
        if matches!(lease.phase, Phase::Ended { .. }) {
            self.conclude(lease, outcome, tries.saturating_add(1));
        }
        self.settle_change(&mut book, key);
    }

    fn conclude(&self, lease: &mut Lease, outcome: Outcome, tries: u32) {
        let now = now();
        let over = Phase::Over { due: now.saturating_add(millis(self.times.memory)) };
        match outcome {
            Outcome::Over(what, text) => {
                self.tell(lease, Level::Info, what, text);
                lease.source = None;
                lease.phase = over;
            }
            Outcome::Again(_) if tries < TRIES => {
                let wait = self.times.grace.saturating_mul(1 << tries.min(WINDOW));
                lease.phase = Phase::Ended { due: now.saturating_add(millis(wait)), tries };
            }
            Outcome::Again(reason) => {
                let text = format!("the sub-token was not revoked ({reason}); it ends by its expiry");
                self.tell(lease, Level::Warning, EventKind::Kept, text);
                lease.source = None;
                lease.phase = over;
            }
        }
    }

    fn revoke(&self, source: &Source) -> Outcome {
        match self.authority.revoke(source, Deadline::after(self.times.request)) {
            Ok(()) => Outcome::Over(EventKind::Revoked, "the job is over; its sub-token was revoked".to_owned()),
            Err(failure) if failure.temporary => Outcome::Again(failure.text),
            Err(failure) => {
                Outcome::Over(EventKind::Kept, format!("the sub-token could not be revoked: {}", failure.text))
            }
        }
    }

    /// Components of a heterogeneous job and tasks of an array share one credential. Another user's never does: anybody can seal
    /// a credential of his own with a handle that he has seen.
    fn is_shared(&self, key: &Key) -> bool {
        let book = self.book();
        let Some(own) = book.get(key).filter(|own| !own.handle.is_empty()) else { return false };
        let same = |other: &Lease| other.uid == own.uid && other.handle == own.handle;
        book.leases().any(|other| other.key != own.key && other.is_alive() && same(other))
    }

    /// A job without a process here: has it ended without an epilog that told us?
    fn doubt(&self, key: &Key, generation: u64) {
        let Key::Job(job) = *key else { return };
        let gone = self.controller.lines(job).is_ok_and(|lines| is_gone(lines.as_deref(), job));
        let mut book = self.book();
        let Some(lease) = book.get_mut(key).filter(|lease| lease.generation == generation) else { return };
        if gone && lease.is_alive() {
            self.tell(lease, Level::Warning, EventKind::Missed, "the job ended, and no epilog told this agent");
            if let Err(error) = self.places.remove_job(job) {
                self.log.line(Level::Error, &format!("job {job}: its files were not removed: {error}"));
            }
            self.end_job(&mut book, job);
        }
    }

    /// The work ended in a panic: tried again like after any other failure.
    pub(super) fn stumbled(&self, key: &Key, generation: u64) {
        let mut book = self.book();
        let Some(lease) = returned(&mut book, key, generation) else { return };
        let text = "an internal error of the agent".to_owned();
        match lease.phase {
            Phase::Alive { .. } => self.failed(lease, Failure { text, temporary: true, retry_after: None }),
            Phase::Ended { tries, .. } => self.conclude(lease, Outcome::Again(text), tries.saturating_add(1)),
            Phase::Refused | Phase::Over { .. } => {}
        }
        self.settle_change(&mut book, key);
    }

    /// What the server's log of access tokens shows.
    fn comment(&self, lease: &Lease) -> String {
        match &lease.key {
            Key::Job(job) => format!("job {job} on {}", self.node),
            Key::Session(_) => format!("session on {}", self.node),
        }
    }

    /// Copies what a worker needs; gives the lease back at once when that is nothing.
    fn borrow<T>(&self, key: &Key, generation: u64, copy: impl FnOnce(&Lease) -> Option<T>) -> Option<T> {
        let mut book = self.book();
        let lease = book.get_mut(key).filter(|lease| lease.generation == generation)?;
        let copied = copy(lease);
        if copied.is_none() {
            lease.busy = false;
            book.schedule(key);
        }
        copied
    }
}

enum Outcome {
    /// Nothing more is to be done; the event says why.
    Over(EventKind, String),
    /// Try again, for this reason.
    Again(String),
}

/// The lease after the work, if it is still the one that the worker left with.
fn returned<'b>(book: &'b mut Book, key: &Key, generation: u64) -> Option<&'b mut Lease> {
    let lease = book.get_mut(key).filter(|lease| lease.generation == generation)?;
    lease.busy = false;
    Some(lease)
}

fn about(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}
