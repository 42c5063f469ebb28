// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node agent: keeps the access tokens of jobs and login sessions fresh.
//!
//! One thread listens, one keeps the schedule, a few exchange tokens; each connection has a thread for as long as it lasts. What is to
//! be done is in the [`book`](book::Book), what a lease needs next in [`lease`]; everything that touches the world is a field of [`Agent`].

pub mod authority;
pub mod book;
pub mod direct;
pub mod lease;
pub mod listener;
pub mod places;
pub mod process;
mod requests;
pub mod run;
mod schedule;
pub mod slurm;
mod work;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mytoken::Error;
use mytoken_wire::agent::EventKind;

use crate::log::{Level, Log};
use authority::Authority;
use book::Book;
use lease::{Key, Lease};
use places::Places;
use slurm::Controller;

pub use schedule::Threads;

/// Times that are the same everywhere but in tests.
#[derive(Debug, Clone)]
pub struct Times {
    /// A starting step has its answer after this.
    pub start: Duration,
    /// One exchange.
    pub request: Duration,
    /// Between the end of a job here and the question whether it is final: while the epilog runs it is not.
    pub grace: Duration,
    /// A lease that is over is remembered so long.
    pub memory: Duration,
    /// Between two looks at the processes.
    pub sweep: Duration,
    /// A job without a process on this node is asked about after this.
    pub doubt: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(2),
            request: Duration::from_secs(30),
            grace: Duration::from_secs(2),
            memory: Duration::from_secs(24 * 3600),
            sweep: Duration::from_secs(20),
            doubt: Duration::from_secs(120),
        }
    }
}

/// The agent.
pub struct Agent {
    /// Name of this node in Slurm.
    pub node: String,
    /// Times.
    pub times: Times,
    /// Opens and exchanges.
    pub authority: Box<dyn Authority>,
    /// Knows what became of a job.
    pub controller: Box<dyn Controller>,
    /// Files.
    pub places: Places,
    /// The log.
    pub log: Log,
    /// A random number of [0, 1).
    pub draw: fn() -> f64,
    book: Mutex<Book>,
    /// A lease changed: a starting step may have its answer.
    changed: Condvar,
    /// The schedule changed.
    wake: Condvar,
    /// There is work.
    work: Condvar,
}

impl Agent {
    /// An agent that remembers its former life.
    ///
    /// # Errors
    /// [`Error::File`] when the state cannot be read.
    pub fn new(
        node: String,
        times: Times,
        authority: Box<dyn Authority>,
        controller: Box<dyn Controller>,
        places: Places,
        log: Log,
    ) -> Result<Arc<Self>, Error> {
        let mut book = Book::default();
        let now = now();
        for mut lease in places.recall(|complaint| log.line(Level::Warning, &complaint))? {
            lease.seen = now;
            book.enter(lease);
        }
        for job in places.jobs()? {
            if book.get(&Key::Job(job)).is_none_or(|lease| !lease.is_alive()) {
                log.line(Level::Info, &format!("job {job}: nobody remembers it; its directory is removed"));
                places.remove_job(job)?;
            }
        }
        Ok(Arc::new(Self {
            node,
            times,
            authority,
            controller,
            places,
            log,
            draw: rand::random::<f64>,
            book: Mutex::new(book),
            changed: Condvar::new(),
            wake: Condvar::new(),
            work: Condvar::new(),
        }))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic of another thread leaves the book usable: every change is whole before anything that can fail.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a changed lease down, schedules it and tells who waits.
    fn settle_change(&self, book: &mut Book, key: &Key) {
        if let Some(lease) = book.get(key) {
            if let Err(error) = self.places.remember(lease) {
                self.log.line(Level::Error, &format!("{}: not written down: {error}", name(lease)));
            }
        }
        book.schedule(key);
        self.changed.notify_all();
        self.wake.notify_all();
    }

    /// Adds an event to the lease and a line to the log.
    fn tell(&self, lease: &mut Lease, level: Level, kind: EventKind, text: impl Into<String>) {
        let text = text.into();
        self.log.line(level, &format!("{}: {kind}: {text}", name(lease)));
        lease.tell(now(), kind, text);
    }
}

/// How log lines name a lease.
fn name(lease: &Lease) -> String {
    match &lease.key {
        Key::Job(job) => format!("job {job} uid {}", lease.uid),
        Key::Session(session) => format!("session {} uid {}", session.get(..8).unwrap_or_default(), lease.uid),
    }
}

/// Unix milliseconds.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
