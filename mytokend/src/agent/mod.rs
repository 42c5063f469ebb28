// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node agent: keeps the access tokens of jobs and login sessions fresh.
//!
//! One thread listens, one keeps the schedule, some worker threads request tokens and query slurmctld; each connection has a thread of
//! its own. The [`lease_table`] knows which action is due when, [`lease`] says which action that is. Network, Slurm, files, clock, log
//! and randomness are fields of [`Agent`].

pub mod arguments;
pub mod credential_service;
pub mod direct;
pub mod lease;
pub mod lease_table;
pub mod listener;
mod missed_starts;
pub mod process;
mod recovery;
mod renew;
mod requests;
pub mod runtime_dir;
mod schedule;
pub mod service_manager;
mod settle;
pub mod slurm;
pub mod startup;
mod store;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mytoken::{Error, ScheduleClock};
use mytoken_wire::agent::EventKind;

use crate::log::{Level, Log};
use credential_service::CredentialService;
use lease::{Lease, LeaseKey};
use lease_table::LeaseTable;
use runtime_dir::RuntimeDir;
use slurm::Controller;

pub use schedule::Threads;

/// Time limits and intervals.
#[derive(Debug, Clone)]
pub struct Intervals {
    /// A starting step gets its answer within this time.
    pub start_deadline: Duration,
    /// Time limit of one request to the mytoken server.
    pub request_deadline: Duration,
    /// From the end of a job on this node to the first query of slurmctld: while the epilog runs, the job is not final.
    pub settle_delay: Duration,
    /// How long a finished lease is kept.
    pub retention: Duration,
    /// Between two sweeps.
    pub sweep_interval: Duration,
    /// slurmctld is asked about a job that has had no process on this node for this time.
    pub missing_job_delay: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            start_deadline: Duration::from_secs(2),
            request_deadline: Duration::from_secs(30),
            settle_delay: Duration::from_secs(2),
            retention: Duration::from_secs(24 * 3600),
            sweep_interval: Duration::from_secs(20),
            missing_job_delay: Duration::from_secs(120),
        }
    }
}

/// What the configuration decides. A reload replaces it as a whole; a task that runs keeps what it began with.
pub struct Configured {
    /// Time limits and intervals.
    pub intervals: Intervals,
    /// Opens credentials, obtains and revokes tokens.
    pub service: Box<dyn CredentialService>,
    /// Answers queries about jobs.
    pub controller: Box<dyn Controller>,
}

/// The agent.
pub struct Agent {
    /// Name of this node in Slurm.
    pub node: String,
    configured: RwLock<Arc<Configured>>,
    /// Token files and stored leases.
    pub runtime_dir: RuntimeDir,
    /// Time of day and elapsed time.
    pub clock: Arc<dyn ScheduleClock>,
    /// The log.
    pub log: Log,
    /// Gives a random number of [0, 1).
    pub draw: fn() -> f64,
    /// When the schedule thread began its turn, or while it sleeps, when it will wake up; elapsed time.
    schedule_turn: Mutex<Duration>,
    leases: Mutex<LeaseTable>,
    /// Locked after `leases`.
    unstored: Mutex<store::Unstored>,
    /// Notified when a lease changes: steps wait for it.
    changed: Condvar,
    /// Notified when an action may be due earlier: the schedule thread waits for it.
    wake: Condvar,
    /// Notified when a task is queued: the worker threads wait for it.
    queued: Condvar,
}

impl Agent {
    /// An agent with the leases that an earlier run stored in `runtime_dir`.
    ///
    /// # Errors
    /// [`Unusable`](mytoken::private_files::FileError::Unusable) when `runtime_dir` cannot be read.
    pub fn new(
        node: String,
        configured: Configured,
        runtime_dir: RuntimeDir,
        clock: Arc<dyn ScheduleClock>,
        log: Log,
    ) -> Result<Arc<Self>, Error> {
        let table = recovery::recover(&runtime_dir, clock.unix_millis(), &log)?;
        Ok(Arc::new(Self {
            node,
            configured: RwLock::new(Arc::new(configured)),
            schedule_turn: Mutex::new(clock.elapsed()),
            runtime_dir,
            clock,
            log,
            draw: rand::random::<f64>,
            leases: Mutex::new(table),
            unstored: Mutex::default(),
            changed: Condvar::new(),
            wake: Condvar::new(),
            queued: Condvar::new(),
        }))
    }

    /// What the configuration decides at present.
    #[must_use]
    pub fn configured(&self) -> Arc<Configured> {
        Arc::clone(&self.configured.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what the configuration decides. Leases, tokens and the socket stay as they are.
    pub fn configure(&self, new: Configured) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        // The schedule thread reads its intervals again.
        self.clock_was_set();
    }

    /// For how long the schedule thread has worked on one turn, or has not woken up from a sleep that is over.
    #[must_use]
    pub fn schedule_overdue(&self) -> Duration {
        let turn = *self.schedule_turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.elapsed().saturating_sub(turn)
    }

    fn schedule_turn_at(&self, elapsed: Duration) {
        *self.schedule_turn.lock().unwrap_or_else(PoisonError::into_inner) = elapsed;
    }

    /// Makes all threads read the clock again. A clock that does not run by itself calls this when it is set.
    pub fn clock_was_set(&self) {
        // With the lock: a thread that has read the clock already waits, or it holds the lock and has not read it yet.
        let _table = self.leases();
        self.changed.notify_all();
        self.wake.notify_all();
    }

    /// Whether no action is due and no request for a token runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.leases().is_idle(self.clock.unix_millis())
    }

    fn leases(&self) -> MutexGuard<'_, LeaseTable> {
        // A panic of another thread leaves the table consistent: each change is complete before anything that can fail.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a changed lease, schedules its next action and wakes the threads that wait.
    fn lease_changed(&self, table: &mut LeaseTable, key: &LeaseKey) {
        self.store(table, key);
        table.schedule(key);
        self.changed.notify_all();
        self.wake.notify_all();
    }

    /// Adds an event to the lease and a line to the log.
    fn record(&self, lease: &mut Lease, level: Level, kind: EventKind, text: impl Into<String>) {
        let text = text.into();
        self.log.line_of(lease.uid, level, &format!("{}: {kind}: {text}", name(lease)));
        lease.record(self.clock.unix_millis(), kind, text);
    }
}

/// The name of a lease in the log.
fn name(lease: &Lease) -> String {
    match &lease.key {
        LeaseKey::Job(job) => format!("job {job} uid {}", lease.uid),
        LeaseKey::Session(session) => format!("session {} uid {}", session.get(..8).unwrap_or_default(), lease.uid),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
