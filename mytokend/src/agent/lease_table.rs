// SPDX-License-Identifier: MIT OR Apache-2.0
//! All leases of this node, a heap of their next actions by time, and the queues of the worker threads. One lock guards all of it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::file_queue::{FilePlace, FileQueue};
use super::lanes::{Lanes, Place, REVOCATIONS, TOKENS, needed};
use super::lease::{Action, CurrentToken, Lease, LeaseKey, OpenRequests, Phase, server};
use super::token_files::needs_thread;

/// Maximum number of leases. Above it the oldest finished ones are deleted: an array of many short tasks must not fill the memory.
const MAX_LEASES: usize = 4096;

/// An action for a worker thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The lease.
    pub key: LeaseKey,
    /// What to do.
    pub action: Action,
    /// [`Lease::generation`] when the action was queued.
    pub generation: u64,
    /// The round of a request for an access token, otherwise 0.
    pub round: u32,
}

/// The queues. They are separate, because the queries about all ended jobs of a node may hang, and the tokens of running jobs must not
/// wait for them. Nor must the queries wait for revocations at a server that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// Requests for access tokens.
    Tokens,
    /// Queries of slurmctld.
    Slurm,
    /// Revocations of sub-tokens.
    Revocations,
}

/// The table.
pub struct LeaseTable {
    // Boxed: a hash table has up to twice as many places as entries.
    leases: HashMap<LeaseKey, Box<Lease>>,
    heap: BinaryHeap<Reverse<(u64, LeaseKey)>>,
    tokens: Lanes,
    revocations: Lanes,
    slurm: VecDeque<Task>,
    /// Number of tasks of [`Self::slurm`] that run. They have no place in a lane, and a query of missing jobs leaves no mark in its lease.
    slurm_running: usize,
    /// The workers that wait for a task.
    idle: BTreeSet<(Queue, usize)>,
    /// The directories whose files are to be changed.
    pub files: FileQueue,
    /// The agent is stopping.
    pub stopping: bool,
    last_generation: u64,
}

impl Default for LeaseTable {
    fn default() -> Self {
        Self {
            leases: HashMap::new(),
            heap: BinaryHeap::new(),
            tokens: Lanes::new(TOKENS),
            revocations: Lanes::new(REVOCATIONS),
            slurm: VecDeque::new(),
            slurm_running: 0,
            idle: BTreeSet::new(),
            files: FileQueue::default(),
            stopping: false,
            last_generation: 0,
        }
    }
}

impl LeaseTable {
    /// The lease of `key`.
    #[must_use]
    pub fn get(&self, key: &LeaseKey) -> Option<&Lease> {
        self.leases.get(key).map(Box::as_ref)
    }

    /// The lease of `key`, for a change. Call [`Self::schedule`] afterwards.
    pub fn get_mut(&mut self, key: &LeaseKey) -> Option<&mut Lease> {
        self.leases.get_mut(key).map(Box::as_mut)
    }

    /// The lease under which the job runs here, or else the last one under which it ran.
    #[must_use]
    pub fn of_job(&self, job: u32) -> Option<&Lease> {
        let having = self.leases.values().filter(|lease| lease.jobs.contains_key(&job));
        having.max_by_key(|lease| (lease.runs(job), lease.generation)).map(Box::as_ref)
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().map(Box::as_ref)
    }

    /// All leases, for changes.
    pub fn leases_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.leases.values_mut().map(Box::as_mut)
    }

    /// Inserts a lease, replaces an earlier one of the same key, and schedules it.
    pub fn insert(&mut self, mut lease: Lease) {
        self.last_generation += 1;
        lease.generation = self.last_generation;
        (lease.in_progress, lease.revoking, lease.asking) = (false, false, false);
        lease.requests = OpenRequests::default();
        for file in &mut lease.files {
            file.requests = OpenRequests::default();
        }
        lease.scheduled = None;
        let key = lease.key.clone();
        self.leases.insert(key.clone(), Box::new(lease));
        self.schedule(&key);
    }

    /// Removes a lease.
    pub fn remove(&mut self, key: &LeaseKey) -> Option<Lease> {
        self.leases.remove(key).map(|lease| *lease)
    }

    /// Puts the next action of the lease into the heap. An earlier entry stays in the heap and is ignored when its time comes.
    pub fn schedule(&mut self, key: &LeaseKey) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        let Some((due, _)) = lease.next_action() else { return };
        if lease.scheduled.is_none_or(|scheduled| due < scheduled) {
            lease.scheduled = Some(due);
            self.heap.push(Reverse((due, key.clone())));
        }
    }

    /// Schedules all leases anew, after their times have changed.
    pub fn schedule_all(&mut self) {
        self.heap.clear();
        let keys: Vec<LeaseKey> = self.leases.keys().cloned().collect();
        for key in keys {
            if let Some(lease) = self.leases.get_mut(&key) {
                lease.scheduled = None;
            }
            self.schedule(&key);
        }
    }

    /// Takes one action that is due at `now`. The caller schedules the lease again afterwards.
    pub fn take_due(&mut self, now: u64) -> Option<(LeaseKey, Action)> {
        loop {
            let Reverse((due, _)) = self.heap.peek()?;
            if *due > now {
                return None;
            }
            let Reverse((due, key)) = self.heap.pop()?;
            let Some(lease) = self.leases.get_mut(&key) else { continue };
            if lease.scheduled != Some(due) {
                continue;
            }
            lease.scheduled = None;
            match lease.next_action() {
                Some((due, action)) if due <= now => return Some((key, action)),
                _ => self.schedule(&key),
            }
        }
    }

    /// Time of the next action, Unix milliseconds.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Whether no action is due at `now` and no task is queued or running.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        let asks =
            |lease: &Lease| lease.requests.count() > 0 || lease.files.iter().any(|file| file.requests.count() > 0);
        let running = self.leases().any(|lease| lease.in_progress || lease.asking || asks(lease));
        let waiting = !self.tokens.is_empty() || !self.revocations.is_empty() || self.asks_slurmctld();
        self.next_due().is_none_or(|due| due > now) && !waiting && !running && self.files.is_empty()
    }

    /// Whether a query of slurmctld is queued or running.
    #[must_use]
    pub fn asks_slurmctld(&self) -> bool {
        !self.slurm.is_empty() || self.slurm_running > 0
    }

    /// Queues an action of the lease for the worker threads.
    pub fn enqueue(&mut self, key: &LeaseKey, action: Action) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        let round = lease.requests_of(action).map_or(0, OpenRequests::queue);
        let task = Task { key: key.clone(), action, generation: lease.generation, round };
        match action {
            Action::Settle => {
                lease.in_progress = true;
                self.slurm.push_back(task);
            }
            Action::Revoke => {
                lease.revoking = true;
                self.revocations.push(
                    Place { lane: server(lease.credential.as_ref(), &lease.lane).to_owned(), uid: lease.uid },
                    u64::MAX,
                    task,
                );
            }
            // A job waits for its token.
            Action::AskStart => {
                lease.asking = true;
                self.slurm.push_front(task);
            }
            // A query changes nothing before its answer, and meanwhile the token is renewed.
            Action::QueryJobs if self.slurm.contains(&task) => {}
            Action::QueryJobs => self.slurm.push_back(task),
            Action::Renew => {
                let due = if let Phase::Active { due } = lease.phase { due } else { 0 };
                // Until slurmctld has answered the broker, the requests for a first token have no answer: in the lane of the provider they
                // would hold up the renewals of the user's other jobs.
                let waits = lease.asks_broker && !lease.proven;
                let lane = if waits { format!("{} first tokens", lease.lane) } else { lease.lane.clone() };
                self.tokens.push(Place { lane, uid: lease.uid }, needed(lease.token.map(end_of), due), task);
            }
            Action::RenewFile(index) => {
                let place = Place { lane: format!("{} further files", lease.lane), uid: lease.uid };
                let Some(file) = lease.file_mut(index) else { return };
                self.tokens.push(place, needed(file.token.map(end_of), file.due.unwrap_or(0)), task);
            }
            Action::Write | Action::Expire | Action::Delete | Action::FollowWindows => {}
        }
    }

    /// Has the files of a lease changed if that was noted in it. Returns the number of directories. `now` is Unix milliseconds.
    ///
    /// A directory without work is left out: each start of a job of a large array is a change of the lease of all of them. One in which a
    /// thread works is not, because what that does may be out of date; nor is one that waits, for which a thread is perhaps still to wake up.
    pub fn queue_files(&mut self, key: &LeaseKey, now: u64) -> usize {
        let Some(lease) = self.leases.get_mut(key).filter(|lease| lease.files_due) else { return 0 };
        lease.files_due = false;
        let mut places = lease.file_places();
        places.retain(|place| self.files.has_work(place) || needs_thread(lease, place, now));
        places.iter().for_each(|place| self.files.change(lease.uid, place));
        places.len()
    }

    /// Has files written and removed that an earlier run of the agent did not write or remove before its end.
    pub fn queue_files_at_start(&mut self) {
        for lease in self.leases.values_mut() {
            if lease.removing {
                lease.file_places().iter().for_each(|place| self.files.end(lease.uid, place));
                continue;
            }
            let is_doubted = lease.doubt_files();
            if is_doubted || lease.has_older_files() {
                lease.files_due = false;
                lease.file_places().iter().for_each(|place| self.files.change(lease.uid, place));
            }
        }
    }

    /// Has the files of jobs and sessions removed that could not be removed when these ended.
    pub fn remove_left(&mut self) {
        for (place, uid) in self.files.left() {
            if self.runs_at(&place) {
                // It runs again, and its end removes the directory.
                self.files.removed(&place, uid, true);
            } else {
                self.files.end(uid, &place);
            }
        }
    }

    /// Whether the job or session of this directory runs.
    #[must_use]
    pub fn runs_at(&self, place: &FilePlace) -> bool {
        match place {
            FilePlace::Job(job) => self.of_job(*job).is_some_and(|lease| lease.runs(*job)),
            FilePlace::Session { session, .. } => {
                self.get(&LeaseKey::Session(session.clone())).is_some_and(Lease::is_running)
            }
        }
    }

    /// Whether a thread works at files of the lease, or is to.
    #[must_use]
    pub fn has_file_work(&self, lease: &Lease) -> bool {
        lease.file_places().iter().any(|place| self.files.has_work(place))
    }

    /// Whether a change of files of the lease has to wait at `now`, elapsed time, for a thread that does not end.
    #[must_use]
    pub fn is_held_up(&self, lease: &Lease, now: Duration) -> bool {
        lease.file_places().iter().any(|place| self.files.is_held_up(lease.uid, place, now))
    }

    /// Whether further tasks wait in a queue.
    #[must_use]
    pub fn has_waiting(&self, queue: Queue) -> bool {
        match queue {
            Queue::Tokens => self.tokens.has_waiting(),
            Queue::Revocations => self.revocations.has_waiting(),
            Queue::Slurm => !self.slurm.is_empty(),
        }
    }

    /// Takes a task for the worker `number` of a queue. `None`: there is none, or a worker with a lower number is idle, whose turn it is. So
    /// only as many threads work as there are requests at a time. The stack and the heap of each thread that has sent one stay in memory.
    pub fn task_for(&mut self, queue: Queue, number: usize) -> Option<(Option<Place>, Task)> {
        let is_turn = self.idle.range((queue, 0)..(queue, number)).next().is_none();
        let task = if is_turn { self.dequeue(queue) } else { None };
        if task.is_some() {
            self.idle.remove(&(queue, number));
        } else {
            self.idle.insert((queue, number));
        }
        task
    }

    /// The next task of `queue` that may run. [`Self::done`] has to be called after it. A request to a mytoken server comes with its place.
    pub fn dequeue(&mut self, queue: Queue) -> Option<(Option<Place>, Task)> {
        match queue {
            Queue::Tokens => self.tokens.take().map(|(place, task)| (Some(place), task)),
            Queue::Revocations => self.revocations.take().map(|(place, task)| (Some(place), task)),
            Queue::Slurm => {
                let task = self.slurm.pop_front()?;
                self.slurm_running += 1;
                Some((None, task))
            }
        }
    }

    /// A task of [`Self::dequeue`] has ended. Another one gets its place.
    pub fn done(&mut self, queue: Queue, place: Option<&Place>) {
        match (queue, place) {
            (Queue::Tokens, Some(place)) => self.tokens.done(place),
            (Queue::Revocations, Some(place)) => self.revocations.done(place),
            (Queue::Tokens | Queue::Revocations, None) => {}
            (Queue::Slurm, _) => self.slurm_running = self.slurm_running.saturating_sub(1),
        }
    }

    /// Copies the data that a worker needs for `task`. If `copy` returns nothing, the task is done. It is too if another request has brought
    /// the token while this one waited.
    pub fn begin<T>(&mut self, task: &Task, copy: impl FnOnce(&Lease) -> Option<T>) -> Option<T> {
        let lease = self.current(task)?;
        let is_wanted = lease.requests_of(task.action).is_none_or(|requests| requests.is_current(task.round));
        let copied = if is_wanted { copy(lease) } else { None };
        if copied.is_none() {
            lease.end_task(task.action, task.round);
            self.schedule(&task.key);
        }
        copied
    }

    /// Marks `task` as done and returns its lease. `None` when the lease was replaced in the meantime.
    pub fn finish(&mut self, task: &Task) -> Option<&mut Lease> {
        let lease = self.current(task)?;
        lease.end_task(task.action, task.round);
        Some(lease)
    }

    /// The lease of `task`. `None` when it was replaced in the meantime.
    pub fn current(&mut self, task: &Task) -> Option<&mut Lease> {
        self.get_mut(&task.key).filter(|lease| lease.generation == task.generation)
    }

    /// The finished leases above the number that is kept, oldest first.
    #[must_use]
    pub fn surplus(&self) -> Vec<LeaseKey> {
        if self.leases.len() <= MAX_LEASES {
            return Vec::new();
        }
        let mut finished: Vec<(u64, &LeaseKey)> = self
            .leases
            .values()
            .filter_map(|lease| match lease.phase {
                Phase::Finished { due } => Some((due, &lease.key)),
                _ => None,
            })
            .collect();
        finished.sort_unstable();
        finished.into_iter().take(self.leases.len() - MAX_LEASES).map(|(_, key)| key.clone()).collect()
    }
}

/// The end of a token in Unix milliseconds.
const fn end_of(token: CurrentToken) -> u64 {
    token.exp.saturating_mul(1000)
}

#[cfg(test)]
mod tests;
