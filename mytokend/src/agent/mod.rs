// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node agent: keeps the access tokens of jobs and login sessions fresh.
//!
//! One thread listens, one keeps the schedule, one stores the leases, some worker threads request tokens and query slurmctld, others change
//! token files; each connection has a thread of its own. The [`lease_table`] knows which action is due when, [`lease`] says which action
//! that is. Network, Slurm, files, processes, clock, log and randomness are fields of [`Agent`].

pub mod arguments;
pub mod broker_connection;
pub mod brokered;
pub mod budget;
pub mod cluster_keys;
mod condition;
mod configuration;
pub mod credential_service;
pub mod direct;
pub mod file_queue;
mod forgetting;
mod job_requests;
mod job_windows;
pub mod lanes;
pub mod lease;
mod lease_name;
pub mod lease_table;
pub mod listener;
pub mod login_processes;
mod looks;
mod missed;
mod named_files;
mod on_request;
mod pending;
mod permits;
pub mod process;
mod recovery;
mod renew;
mod replace;
mod requests;
pub mod runtime_dir;
mod schedule;
pub(crate) mod server_clocks;
mod server_time;
pub mod service_manager;
mod sessions;
mod settle;
pub mod slurm;
mod slurmctld_time;
pub mod startup;
mod status;
pub mod store;
mod submissions;
pub mod token_files;
mod user_jobs;
mod waiting;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use mytoken::{Error, ScheduleClock};
use mytoken_wire::agent::{EventKind, RefusedReload};

use crate::log::{Level, Log};
use credential_service::CredentialService;
use lease::{Lease, LeaseKey};
use lease_name::name;
use lease_table::LeaseTable;
use process::ProcessTable;
use runtime_dir::RuntimeDir;
use slurm::Controller;

pub(crate) use schedule::CountsWriter;
pub use schedule::Threads;

/// Time limits and intervals.
#[derive(Debug, Clone)]
pub struct Intervals {
    /// A starting step gets its answer within this time.
    pub start_deadline: Duration,
    /// Longest wait of an answer for the disk that stores its lease. It is a part of [`Self::start_deadline`].
    pub answer_patience: Duration,
    /// Longest wait of the answer to an end for the removal of files. The epilog waits a second for both.
    pub file_patience: Duration,
    /// Longest wait of a status for a look at the files of sessions.
    pub look_patience: Duration,
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
            answer_patience: Duration::from_millis(500),
            file_patience: Duration::from_millis(700),
            look_patience: Duration::from_millis(300),
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
    /// The last reload, if it was refused.
    refused_reload: Mutex<Option<RefusedReload>>,
    /// Token files and stored leases. Shared with looks that may outlast everything else.
    pub runtime_dir: Arc<RuntimeDir>,
    /// Time of day and elapsed time.
    pub clock: Arc<dyn ScheduleClock>,
    /// The processes of this node.
    pub processes: Box<dyn ProcessTable>,
    /// The time of day minus elapsed time, in milliseconds, as the schedule thread has last seen it.
    offset: AtomicI64,
    /// The log.
    pub log: Arc<Log>,
    /// Gives a random number of [0, 1).
    pub draw: fn() -> f64,
    /// When the schedule thread began its turn, or while it sleeps, when it will wake up; elapsed time.
    schedule_turn: Mutex<Duration>,
    /// Every step, every end of a job and every renewal on this node needs it. So who holds it waits for nothing but the processor: no
    /// network, no program, no look-up of a user, no log line that is not queued, and no file system, also not `/proc`. For the files of
    /// users this is literal: each user can make the kernel hold his token file, or his session's directory, for as long as he likes
    /// (KERN-01). What must be written, read or removed there is noted in the table and in [`LeaseTable::files`], and [`token_files`] does
    /// it without the lock.
    leases: Mutex<LeaseTable>,
    /// For tests: called before files are changed.
    file_gate: OnceLock<token_files::FileGate>,
    changes: store::Changes,
    user_jobs: Mutex<user_jobs::UserJobs>,
    told_differences: Mutex<server_time::Told>,
    waiting: waiting::Waiting,
    forgetting: forgetting::Forgetting,
    /// Held while the record of a start is served. Locked before `leases`.
    missed: Mutex<()>,
    /// Looks of the start that have no result yet. Locked before `leases`.
    late: Mutex<Option<recovery::Late>>,
    slurmctld: Mutex<slurmctld_time::Measured>,
    /// Notified when a lease changes: steps wait for it.
    changed: Condvar,
    /// Notified when an action may be due earlier: the schedule thread waits for it.
    wake: Condvar,
    /// Notified when a task is queued: the worker threads wait for it.
    queued: Condvar,
    /// Notified when files are to be changed: the threads for them wait for it.
    files_queued: Condvar,
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
        processes: Box<dyn ProcessTable>,
        log: impl Into<Arc<Log>>,
    ) -> Result<Arc<Self>, Error> {
        let log = log.into();
        let moment = recovery::Moment { now: clock.unix_millis(), offset: offset(clock.as_ref()) };
        let runtime_dir = Arc::new(runtime_dir);
        let (mut table, late) = recovery::recover(&runtime_dir, moment, &log)?;
        recovery::complete(&mut table, configured.service.as_ref(), moment.now);
        table.queue_files_at_start();
        Ok(Arc::new(Self {
            node,
            configured: RwLock::new(Arc::new(configured)),
            refused_reload: Mutex::default(),
            schedule_turn: Mutex::new(clock.elapsed()),
            offset: AtomicI64::new(offset(clock.as_ref())),
            runtime_dir,
            clock,
            processes,
            log,
            draw: rand::random::<f64>,
            leases: Mutex::new(table),
            file_gate: OnceLock::new(),
            changes: store::Changes::default(),
            user_jobs: Mutex::default(),
            told_differences: Mutex::default(),
            waiting: waiting::Waiting::default(),
            forgetting: forgetting::Forgetting::default(),
            missed: Mutex::default(),
            late: Mutex::new(late),
            slurmctld: Mutex::default(),
            changed: Condvar::new(),
            wake: Condvar::new(),
            queued: Condvar::new(),
            files_queued: Condvar::new(),
        }))
    }

    /// The time for all plans, Unix milliseconds: elapsed time, counted from the time of day. When somebody sets the time of day, this
    /// time stays as it is until [`Self::follow_clock`] has planned everything again.
    fn now(&self) -> u64 {
        let offset = self.offset.load(Ordering::Relaxed);
        u64::try_from(elapsed_millis(self.clock.as_ref()).saturating_add(offset)).unwrap_or(0)
    }

    /// By how many milliseconds the time of day was set since the plans were made.
    fn jump(&self) -> i64 {
        offset(self.clock.as_ref()).saturating_sub(self.offset.load(Ordering::Relaxed))
    }

    /// Plans again if the time of day was set, before a request is judged: the schedule thread may sleep.
    fn read_clock(&self) {
        if self.jump().unsigned_abs() >= SMALLEST_JUMP {
            self.follow_clock(&mut self.leases());
            self.wake.notify_all();
        }
    }

    /// Plans again if the time of day was set: what is due in ten minutes stays due in ten minutes.
    fn follow_clock(&self, table: &mut LeaseTable) {
        let jump = self.jump();
        if jump.unsigned_abs() < SMALLEST_JUMP {
            return;
        }
        let new = self.offset.fetch_add(jump, Ordering::Relaxed).saturating_add(jump);
        let direction = if jump < 0 { "back" } else { "forward" };
        self.log.line(
            Level::Warning,
            &format!(
                "the clock was set {direction} by {} s; all renewals were planned again",
                jump.unsigned_abs() / 1000
            ),
        );
        let now = self.now();
        for lease in table.leases_mut() {
            lease.follow_jump(jump, new, now.saturating_add(spread((self.draw)())));
        }
        let keys: Vec<LeaseKey> = table.leases().map(|lease| lease.key.clone()).collect();
        for key in keys {
            self.changes.mark(&key);
            // A thread that works at its files goes by the old time.
            if table.get(&key).is_some_and(|lease| table.has_file_work(lease)) {
                if let Some(lease) = table.get_mut(&key) {
                    lease.files_due = true;
                }
                table.queue_files(&key, now);
            }
        }
        self.files_queued.notify_all();
        table.schedule_all();
    }

    /// What the configuration decides at present.
    #[must_use]
    pub fn configured(&self) -> Arc<Configured> {
        Arc::clone(&self.configured.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what the configuration decides. Leases, tokens and the socket stay as they are.
    pub fn configure(&self, new: Configured) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        *self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // The schedule thread reads its intervals again.
        self.clock_was_set();
    }

    /// For how long the schedule thread has worked on one turn, or has not woken up from a sleep that is over.
    #[must_use]
    pub fn schedule_overdue(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.schedule_turn())
    }

    /// Whether the schedule thread sleeps until a later time. A sweep that is due or runs is in no queue and in no plan of a lease.
    fn has_swept(&self) -> bool {
        self.schedule_turn() > self.clock.elapsed()
    }

    fn schedule_turn(&self) -> Duration {
        *self.schedule_turn.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.forgetting.wake();
    }

    /// Whether nothing is due, no task is queued or runs, the plans follow the clock, all files are as they should be, and all leases are
    /// stored.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        // In the order in which work goes on: a sweep queues tasks, and a task changes leases.
        self.jump().unsigned_abs() < SMALLEST_JUMP
            && self.has_swept()
            && self.leases().is_idle(self.now())
            && self.changes.is_idle()
    }

    /// Whether a question to slurmctld is queued or has no answer yet.
    #[must_use]
    pub fn asks_slurmctld(&self) -> bool {
        self.leases().asks_slurmctld()
    }

    /// Whether a token file is being written or removed, or is to be.
    #[must_use]
    pub fn works_on_files(&self) -> bool {
        !self.leases().files.is_empty()
    }

    fn leases(&self) -> MutexGuard<'_, LeaseTable> {
        // A panic of another thread leaves the table consistent: each change is complete before anything that can fail.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a changed lease stored and its files changed, schedules its next action and wakes the threads that wait.
    fn lease_changed(&self, table: &mut LeaseTable, key: &LeaseKey) {
        if let Some(lease) = table.get_mut(key) {
            lease.clock_offset = Some(self.offset.load(Ordering::Relaxed));
        }
        self.changes.mark(key);
        table.schedule(key);
        // One thread for each directory: each that wakes up needs the table.
        for _ in 0..table.queue_files(key, self.now()).min(token_files::THREADS) {
            self.files_queued.notify_one();
        }
        self.changed.notify_all();
        self.wake.notify_all();
    }

    /// Adds an event to the lease and a line to the log.
    fn record(&self, lease: &mut Lease, level: Level, kind: EventKind, text: impl Into<String>) {
        let text = text.into();
        self.log.line_of(lease.uid, level, &format!("{}: {kind}: {text}", name(lease)));
        lease.record(self.now(), kind, text);
    }
}

/// A smaller difference is the clock's daily work, Unix milliseconds.
const SMALLEST_JUMP: u64 = 1_500;

/// After a jump of the clock, tokens are renewed within this time, because nobody knows whether the host was suspended. Milliseconds.
const RENEWAL_AFTER_JUMP: f64 = 30_000.0;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 30,000")]
fn spread(draw: f64) -> u64 {
    (RENEWAL_AFTER_JUMP * draw.clamp(0.0, 1.0)) as u64
}

fn elapsed_millis(clock: &dyn ScheduleClock) -> i64 {
    i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn offset(clock: &dyn ScheduleClock) -> i64 {
    i64::try_from(clock.unix_millis()).unwrap_or(i64::MAX).saturating_sub(elapsed_millis(clock))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
