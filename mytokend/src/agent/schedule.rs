// SPDX-License-Identifier: MIT OR Apache-2.0
//! The schedule thread and the worker threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use mytoken_wire::agent::EventKind;

use super::budget::Budgets;
use super::lanes::{REVOCATIONS, TOKENS};
use super::lease::{Action, LeaseKey, Phase};
use super::lease_table::{LeaseTable, Queue, Task};
use super::{Agent, millis, token_files};
use crate::jobs::remove_at;
use crate::log::Level;

/// Number of worker threads of each queue.
const WORKERS: [(Queue, usize); 3] =
    [(Queue::Tokens, TOKENS.all), (Queue::Slurm, 2), (Queue::Revocations, REVOCATIONS.all)];

/// Stack of a thread in bytes. Enough for TLS; the default of 2 MiB would make the agent look larger than it is.
pub(super) const STACK: usize = 512 * 1024;

/// Longest sleep of the schedule thread: the time of day may be set in the meantime.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How long a stopping agent waits for its threads.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// How long it waits for revocations that have been sent: without their answers, the next run sends them again.
const REVOCATION_PATIENCE: Duration = Duration::from_secs(3);

/// How long it waits for the disk that stores the leases.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// Pause between two queries about the same missing job, as a multiple of [`super::Intervals::missing_job_delay`]. It is long, because
/// slurmctld serves thousands of nodes.
const QUERY_PAUSE: u64 = 5;

/// The agent's permanent threads. [`Threads::stop`] ends them.
pub struct Threads {
    agent: Arc<Agent>,
    /// With the time for which a stop waits for them.
    handles: Vec<(JoinHandle<()>, Duration)>,
    /// They change files. They end after the others, which have files changed.
    files: Vec<JoinHandle<()>>,
    /// Stores the leases. It ends last: the others change them.
    store: JoinHandle<()>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(agent: &Arc<Agent>) -> std::io::Result<Self> {
        let (mut handles, mut files) = (Vec::new(), Vec::new());
        for _ in 0..token_files::THREADS {
            files.push(agent.start_file_thread()?);
        }
        agent.take_missed();
        agent.wait_for_files_at_start();
        let own = Arc::clone(agent);
        agent.changes.begin();
        let store = Builder::new().name("store".to_owned()).stack_size(STACK).spawn(move || own.run_store())?;
        for (queue, count) in WORKERS {
            for number in 0..count {
                let agent = Arc::clone(agent);
                let builder = Builder::new().name(format!("{queue:?}-{number}")).stack_size(STACK);
                let patience = if queue == Queue::Revocations { REVOCATION_PATIENCE } else { STOP_PATIENCE };
                handles.push((builder.spawn(move || agent.run_tasks(queue, number))?, patience));
            }
        }
        let own = Arc::clone(agent);
        let builder = Builder::new().name("forgetting".to_owned()).stack_size(STACK);
        handles.push((builder.spawn(move || own.run_forgetting())?, STOP_PATIENCE));
        let own = Arc::clone(agent);
        let begin = agent.clock.elapsed();
        let builder = Builder::new().name("schedule".to_owned()).stack_size(STACK);
        handles.push((builder.spawn(move || own.run_schedule(begin))?, STOP_PATIENCE));
        Ok(Self { agent: Arc::clone(agent), handles, files, store })
    }

    /// Ends the threads. A thread that waits for a server is abandoned: the agent's next run repeats the request.
    pub fn stop(self) {
        self.agent.leases().stopping = true;
        self.agent.wake.notify_all();
        self.agent.queued.notify_all();
        self.agent.changed.notify_all();
        self.agent.forgetting.stop();
        let begin = Instant::now();
        for (handle, patience) in self.handles {
            join(handle, begin, patience);
        }
        self.agent.stop_files();
        let begin = Instant::now();
        self.files.into_iter().for_each(|handle| join(handle, begin, STOP_PATIENCE));
        self.agent.changes.stop();
        join(self.store, Instant::now(), STORE_PATIENCE);
        if self.agent.changes.is_stored() {
            self.agent.log.line(Level::Info, "stopped; the leases are stored for the next start");
        } else {
            let text =
                "stopped; the last changes of some leases could not be stored, and the next start has earlier ones";
            self.agent.log.line(Level::Error, text);
        }
    }
}

/// A thread that writes the counts of requests ([`Budgets::write_counts`]).
pub(crate) struct CountsWriter {
    budgets: Arc<Budgets>,
    handle: JoinHandle<()>,
}

impl CountsWriter {
    pub(crate) fn start(budgets: &Arc<Budgets>) -> std::io::Result<Self> {
        let own = Arc::clone(budgets);
        let builder = Builder::new().name("counts".to_owned()).stack_size(STACK);
        Ok(Self { budgets: Arc::clone(budgets), handle: builder.spawn(move || own.write_counts())? })
    }

    /// Ends it after the last counts. A write that hangs is abandoned.
    pub(crate) fn stop(self) {
        self.budgets.stop_writing();
        join(self.handle, Instant::now(), STOP_PATIENCE);
    }
}

/// Waits for the end of a thread until `patience` after `begin`.
fn join(handle: JoinHandle<()>, begin: Instant, patience: Duration) {
    while !handle.is_finished() && begin.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    if handle.is_finished() {
        let _ = handle.join();
    }
}

impl Agent {
    fn run_schedule(self: &Arc<Self>, begin: Duration) {
        let mut swept = begin;
        loop {
            self.schedule_turn_at(self.clock.elapsed());
            if self.clock.elapsed().saturating_sub(swept) >= self.configured().intervals.sweep_interval {
                swept = self.clock.elapsed();
                self.sweep();
            }
            let mut table = self.leases();
            if table.stopping {
                return;
            }
            self.follow_clock(&mut table);
            while let Some((key, action)) = table.take_due(self.now()) {
                match action {
                    Action::Expire => self.expire(&mut table, &key),
                    Action::Write => self.write_again(&mut table, &key),
                    Action::Delete => self.delete(&mut table, &key),
                    Action::FollowWindows => self.follow_windows_of(&mut table, &key),
                    Action::Renew
                    | Action::RenewFile(_)
                    | Action::Settle
                    | Action::Revoke
                    | Action::AskStart
                    | Action::QueryJobs => {
                        table.enqueue(&key, action);
                        self.queued.notify_all();
                        // The request may wait for a place for long, and meanwhile the token expires.
                        table.schedule(&key);
                    }
                }
            }
            let now = self.now();
            let until_due =
                table.next_due().map_or(LONGEST_SLEEP, |due| Duration::from_millis(due.saturating_sub(now)));
            // Read once for both: before the time that is told here no sweep is due. `Agent::is_idle` relies on it.
            let elapsed = self.clock.elapsed();
            let until_sweep = self.configured().intervals.sweep_interval.saturating_sub(elapsed.saturating_sub(swept));
            let sleep = until_due.min(until_sweep).min(LONGEST_SLEEP);
            self.schedule_turn_at(elapsed.saturating_add(sleep));
            // At least a millisecond, so that this loop cannot spin when the clock stands still.
            drop(self.wake.wait_timeout(table, sleep.max(Duration::from_millis(1))));
        }
    }

    fn run_tasks(&self, queue: Queue, number: usize) {
        loop {
            let mut table = self.leases();
            let (place, task) = loop {
                if table.stopping {
                    return;
                }
                if let Some(next) = table.task_for(queue, number) {
                    break next;
                }
                table = self.queued.wait(table).unwrap_or_else(PoisonError::into_inner);
            };
            // Those with higher numbers have left this task to this worker.
            if table.has_waiting(queue) {
                self.queued.notify_all();
            }
            drop(table);
            // A panic must not end the worker thread: all other leases need it.
            if catch_unwind(AssertUnwindSafe(|| self.run_task(&task))).is_err() {
                self.task_panicked(&task);
            }
            self.leases().done(queue, place.as_ref());
            if place.is_some() {
                self.queued.notify_all();
            }
        }
    }

    fn run_task(&self, task: &Task) {
        self.read_clock();
        match task.action {
            Action::Renew => self.renew(task),
            Action::RenewFile(index) => self.renew_file(task, index),
            Action::Settle => self.settle(task),
            Action::Revoke => self.revoke(task),
            Action::QueryJobs => self.query_jobs(task),
            Action::AskStart => self.ask_starts(task),
            Action::Write | Action::Expire | Action::Delete | Action::FollowWindows => {}
        }
    }

    fn expire(&self, table: &mut LeaseTable, key: &LeaseKey) {
        let is_held_up = table.get(key).is_some_and(|lease| table.is_held_up(lease, self.clock.elapsed()));
        let Some(lease) = table.get_mut(key) else { return };
        let now = self.now();
        let mut removed = false;
        // One that has waited too long for its file is not written any more.
        if lease.arrived.as_ref().is_some_and(|arrived| remove_at(arrived.token.exp) <= now) {
            lease.arrived = None;
            if matches!(lease.phase, Phase::Active { .. }) {
                lease.phase = Phase::Active { due: now };
            }
        }
        if lease.token.is_some_and(|token| remove_at(token.exp) <= now) {
            removed = matches!(key, LeaseKey::Session(_));
            (lease.token, lease.token_text, lease.write_due) = (None, None, None);
        }
        for job in lease.jobs.values_mut().filter(|job| job.file.is_some_and(|exp| remove_at(exp) <= now)) {
            job.file = None;
            removed = true;
        }
        if removed && lease.retain && lease.process.is_none() {
            self.end_session(table, key, "the access token of the session that had ended expired");
            return;
        }
        if removed {
            lease.remove_stale();
            let why = lease.reason.clone().unwrap_or_else(|| "it was not renewed".to_owned());
            let text = token_files::expired(is_held_up, &why);
            self.record(lease, Level::Warning, EventKind::Expired, text);
        }
        self.expire_named_files(lease, is_held_up);
        self.lease_changed(table, key);
    }

    /// Files could not be written or removed, and are tried again.
    fn write_again(&self, table: &mut LeaseTable, key: &LeaseKey) {
        let Some(lease) = table.get_mut(key) else { return };
        lease.write_due = None;
        lease.files.iter_mut().for_each(|file| file.write_due = None);
        lease.files_due = true;
        self.lease_changed(table, key);
    }

    pub(super) fn delete(&self, table: &mut LeaseTable, key: &LeaseKey) {
        if table.remove(key).is_some() {
            self.changes.mark(key);
        }
    }

    /// Has the mytokens of logins without a session revoked and removes their records, takes over what late looks have found, ends sessions
    /// without a process, asks about jobs without a process, and looks after files that could not be changed.
    fn sweep(self: &Arc<Self>) {
        self.take_abandoned();
        self.runtime_dir.sweep_handover(self.now() / 1000);
        self.take_missed();
        self.take_late();
        self.sweep_sessions();
        self.sweep_jobs();
        self.look_after_files();
        self.forget_old_answers();
    }

    fn sweep_jobs(&self) {
        let with_process = self.processes.jobs_with_steps();
        let now = self.now();
        let delay = millis(self.configured().intervals.missing_job_delay);
        let mut table = self.leases();
        let mut missing = Vec::new();
        for lease in table.leases_mut() {
            let (mut overdue, busy) = (false, lease.in_progress);
            for (id, job) in lease.jobs.iter_mut().filter(|(_, job)| job.running) {
                if with_process.contains(id) {
                    job.last_seen = now;
                } else if !busy && now.saturating_sub(job.last_seen) > delay {
                    job.last_seen = now.saturating_add(delay.saturating_mul(QUERY_PAUSE));
                    overdue = true;
                }
            }
            let runs = lease.credential.is_some() && lease.running_jobs().next().is_some();
            let times = self.times(lease);
            if overdue || runs && lease.known.is_to_ask(self.submitted_within(times), times.now()) {
                missing.push(lease.key.clone());
            }
        }
        for key in missing {
            table.enqueue(&key, Action::QueryJobs);
            self.queued.notify_all();
        }
    }
}
