// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that keeps the schedule, and the workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::book::Lane;
use super::lease::{Action, Key, Phase};
use super::{Agent, millis, now, process};
use crate::log::Level;
use mytoken_wire::agent::EventKind;

/// Exchanges that run at the same time, and questions to slurmctld.
const WORKERS: [(Lane, usize); 2] = [(Lane::Exchanges, 4), (Lane::Questions, 2)];

/// TLS needs some room, the schedule little; the default of 2 MiB each would be address space only, but an agent should look as small
/// as it is.
const STACK: usize = 512 * 1024;

/// No clock is trusted further than this: it may be set while the schedule sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The agent's standing threads; [`Threads::stop`] ends them.
pub struct Threads {
    agent: Arc<Agent>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub fn start(agent: &Arc<Agent>) -> std::io::Result<Self> {
        let mut handles = Vec::new();
        for (lane, count) in WORKERS {
            for number in 0..count {
                let agent = Arc::clone(agent);
                let builder = Builder::new().name(format!("{lane:?}-{number}")).stack_size(STACK);
                handles.push(builder.spawn(move || agent.work_off(lane))?);
            }
        }
        let own = Arc::clone(agent);
        handles.push(Builder::new().name("schedule".to_owned()).stack_size(STACK).spawn(move || own.keep_schedule())?);
        Ok(Self { agent: Arc::clone(agent), handles })
    }

    /// Ends the threads. One that waits for a server is left behind: what it would have brought is asked for again by the agent's next life.
    pub fn stop(self) {
        {
            let mut book = self.agent.book();
            book.stopping = true;
        }
        self.agent.wake.notify_all();
        self.agent.work.notify_all();
        self.agent.changed.notify_all();
        let patience = Instant::now();
        for handle in self.handles {
            while !handle.is_finished() && patience.elapsed() < Duration::from_millis(500) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if handle.is_finished() {
                let _ = handle.join();
            }
        }
    }
}

impl Agent {
    fn keep_schedule(&self) {
        let mut swept = Instant::now();
        loop {
            if swept.elapsed() >= self.times.sweep {
                swept = Instant::now();
                self.sweep();
            }
            let mut book = self.book();
            if book.stopping {
                return;
            }
            while let Some((key, action)) = book.take_due(now()) {
                match action {
                    Action::Expire => self.expire(&mut book, &key),
                    Action::Forget => self.forget(&mut book, &key),
                    work => {
                        book.assign(&key, work);
                        self.work.notify_all();
                    }
                }
            }
            let until_due =
                book.next_due().map_or(LONGEST_SLEEP, |due| Duration::from_millis(due.saturating_sub(now())));
            let until_sweep = self.times.sweep.saturating_sub(swept.elapsed());
            // At least a moment, so that a clock that stands still cannot make this spin.
            let sleep = until_due.min(until_sweep).clamp(Duration::from_millis(1), LONGEST_SLEEP);
            drop(self.wake.wait_timeout(book, sleep));
        }
    }

    fn work_off(&self, lane: Lane) {
        loop {
            let mut book = self.book();
            let (key, action, generation) = loop {
                if book.stopping {
                    return;
                }
                if let Some(work) = book.next_work(lane) {
                    break work;
                }
                book = self.work.wait(book).unwrap_or_else(std::sync::PoisonError::into_inner);
            };
            drop(book);
            // A worker that died of one token would be missed by all others.
            if catch_unwind(AssertUnwindSafe(|| self.perform(&key, action, generation))).is_err() {
                self.stumbled(&key, generation);
            }
        }
    }

    fn expire(&self, book: &mut super::Book, key: &Key) {
        let Some(lease) = book.get_mut(key) else { return };
        if let Err(error) = self.places.remove_token(lease) {
            self.log.line(Level::Error, &format!("{}: {error}", super::name(lease)));
        }
        lease.held = None;
        let why = lease.reason.clone().unwrap_or_else(|| "nothing renewed it".to_owned());
        self.tell(
            lease,
            Level::Warning,
            EventKind::Expired,
            format!("the access token expired and was removed: {why}"),
        );
        self.settle_change(book, key);
    }

    pub(super) fn forget(&self, book: &mut super::Book, key: &Key) {
        book.remove(key);
        if let Err(error) = self.places.forget(key) {
            self.log.line(Level::Error, &error.to_string());
        }
    }

    /// Ends sessions whose process is gone, removes what logins without a session left, and doubts jobs that have had no process here for a while.
    fn sweep(&self) {
        self.places.sweep_handover();
        let sessions: Vec<(Key, (u32, u64))> = {
            let book = self.book();
            let alive = book.leases().filter(|lease| lease.is_alive());
            alive.filter_map(|lease| Some((lease.key.clone(), lease.process?))).collect()
        };
        for (key, (pid, begin)) in sessions {
            if process::started(pid) != Some(begin) {
                self.end_session(&mut self.book(), &key, "its process is gone");
            }
        }
        let running = process::jobs_with_steps();
        let now = now();
        let (doubt, pause) = (millis(self.times.doubt), millis(self.times.doubt).saturating_mul(5));
        let mut book = self.book();
        let mut doubted = Vec::new();
        for lease in book.leases_mut() {
            let Key::Job(job) = lease.key else { continue };
            if running.contains(&job) {
                lease.seen = now;
            } else if lease.is_alive()
                && !lease.busy
                && !matches!(lease.phase, Phase::Over { .. })
                && now.saturating_sub(lease.seen) > doubt
            {
                // Not again before a while: slurmctld is one for thousands of nodes.
                lease.seen = now.saturating_add(pause);
                doubted.push(lease.key.clone());
            }
        }
        for key in doubted {
            book.assign(&key, Action::Doubt);
            self.work.notify_all();
        }
    }
}
