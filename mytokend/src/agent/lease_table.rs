// SPDX-License-Identifier: MIT OR Apache-2.0
//! All leases of this node, a heap of their next actions by time, and the queues of the worker threads. One lock guards all of it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};

use super::lanes::{Lanes, Place, REVOCATIONS, TOKENS};
use super::lease::{Action, Lease, LeaseKey, Phase, server};

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
    /// The workers that wait for a task.
    idle: BTreeSet<(Queue, usize)>,
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
            idle: BTreeSet::new(),
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
        (lease.attempts, lease.second_due) = (0, None);
        for file in &mut lease.files {
            (file.attempts, file.second_due) = (0, None);
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

    /// Whether no action is due at `now` and no request to a server is queued or running.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        let asks = |lease: &Lease| lease.attempts > 0 || lease.files.iter().any(|file| file.attempts > 0);
        let running = self.leases().any(|lease| lease.in_progress || lease.asking || asks(lease));
        let waiting = !self.tokens.is_empty() || !self.revocations.is_empty();
        self.next_due().is_none_or(|due| due > now) && !waiting && !running
    }

    /// Queues an action of the lease for the worker threads.
    pub fn enqueue(&mut self, key: &LeaseKey, action: Action) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        let task = Task { key: key.clone(), action, generation: lease.generation };
        match action {
            Action::Settle => {
                lease.in_progress = true;
                self.slurm.push_back(task);
            }
            Action::Revoke => {
                lease.revoking = true;
                self.revocations.push(
                    Place { lane: server(lease.credential.as_ref(), &lease.lane).to_owned(), uid: lease.uid },
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
                lease.attempts = lease.attempts.saturating_add(1);
                lease.second_due = None;
                self.tokens.push(Place { lane: lease.lane.clone(), uid: lease.uid }, task);
            }
            Action::RenewFile(index) => {
                let place = Place { lane: format!("{} further files", lease.lane), uid: lease.uid };
                let Some(file) = lease.file_mut(index) else { return };
                file.attempts = file.attempts.saturating_add(1);
                file.second_due = None;
                self.tokens.push(place, task);
            }
            Action::Write | Action::Expire | Action::Delete | Action::FollowWindows => {}
        }
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

    /// The next task of `queue` that may run. A request to a mytoken server comes with its place, for [`Self::done`].
    pub fn dequeue(&mut self, queue: Queue) -> Option<(Option<Place>, Task)> {
        match queue {
            Queue::Tokens => self.tokens.take().map(|(place, task)| (Some(place), task)),
            Queue::Revocations => self.revocations.take().map(|(place, task)| (Some(place), task)),
            Queue::Slurm => self.slurm.pop_front().map(|task| (None, task)),
        }
    }

    /// Gives the place of a task of [`Self::dequeue`] to another one.
    pub fn done(&mut self, queue: Queue, place: &Place) {
        match queue {
            Queue::Tokens => self.tokens.done(place),
            Queue::Revocations => self.revocations.done(place),
            Queue::Slurm => {}
        }
    }

    /// Copies the data that a worker needs for `task`. If `copy` returns nothing, the task is done.
    pub fn begin<T>(&mut self, task: &Task, copy: impl FnOnce(&Lease) -> Option<T>) -> Option<T> {
        let lease = self.current(task)?;
        let copied = copy(lease);
        if copied.is_none() {
            lease.end_task(task.action);
            self.schedule(&task.key);
        }
        copied
    }

    /// Marks `task` as done and returns its lease. `None` when the lease was replaced in the meantime.
    pub fn finish(&mut self, task: &Task) -> Option<&mut Lease> {
        let lease = self.current(task)?;
        lease.end_task(task.action);
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

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;

    use super::*;

    fn lease(job: u32, due: u64) -> Lease {
        let mut lease = Lease::new(LeaseKey::Job(job), Owner { uid: 1, gid: 1 }, "default", 0);
        lease.phase = Phase::Active { due };
        lease
    }

    #[test]
    fn due_actions_come_in_order_and_once() {
        let mut table = LeaseTable::default();
        for (job, due) in [(1, 30), (2, 10), (3, 20)] {
            table.insert(lease(job, due));
        }
        assert_eq!(table.take_due(5), None);
        assert_eq!(table.next_due(), Some(10));
        assert_eq!(table.take_due(25), Some((LeaseKey::Job(2), Action::Renew)));
        assert_eq!(table.take_due(25), Some((LeaseKey::Job(3), Action::Renew)));
        assert_eq!(table.take_due(25), None);
    }

    #[test]
    fn a_new_time_replaces_the_old_one() {
        let mut table = LeaseTable::default();
        table.insert(lease(1, 100));
        table.get_mut(&LeaseKey::Job(1)).unwrap().phase = Phase::Ended { due: 10, tries: 0, revoke: None };
        table.schedule(&LeaseKey::Job(1));
        assert_eq!(table.take_due(10), Some((LeaseKey::Job(1), Action::Settle)));
        table.get_mut(&LeaseKey::Job(1)).unwrap().phase = Phase::Finished { due: 500 };
        table.schedule(&LeaseKey::Job(1));
        assert_eq!(table.take_due(400), None, "the old entry, due at 100, is ignored");
        assert_eq!(table.take_due(500), Some((LeaseKey::Job(1), Action::Delete)));
    }

    #[test]
    fn a_lease_in_progress_and_a_removed_lease_are_not_due() {
        let mut table = LeaseTable::default();
        table.insert(lease(1, 10));
        table.insert(lease(2, 10));
        table.enqueue(&LeaseKey::Job(1), Action::Renew);
        table.remove(&LeaseKey::Job(2));
        assert_eq!(table.take_due(50), None);
        table.get_mut(&LeaseKey::Job(1)).unwrap().end_task(Action::Renew);
        table.schedule(&LeaseKey::Job(1));
        assert!(table.take_due(50).is_some());
    }

    #[test]
    fn a_task_of_a_replaced_lease_changes_nothing() {
        let mut table = LeaseTable::default();
        table.insert(lease(1, 10));
        table.enqueue(&LeaseKey::Job(1), Action::Renew);
        let (place, task) = table.dequeue(Queue::Tokens).unwrap();
        assert!(!table.is_idle(0) && table.begin(&task, |lease| Some(lease.uid)) == Some(1));
        table.insert(lease(1, 20));
        assert!(table.finish(&task).is_none() && table.begin(&task, |lease| Some(lease.uid)).is_none());
        assert_eq!(table.take_due(19), None);
        assert!(!table.is_idle(19), "the request still runs");
        table.done(Queue::Tokens, &place.unwrap());
        assert!(table.is_idle(19) && !table.is_idle(20));
    }

    #[test]
    fn the_idle_worker_with_the_lowest_number_takes_a_task() {
        let mut table = LeaseTable::default();
        assert!((0..3).all(|number| table.task_for(Queue::Tokens, number).is_none()));
        for job in [1, 2] {
            table.insert(lease(job, 10));
            table.enqueue(&LeaseKey::Job(job), Action::Renew);
        }
        assert!(table.task_for(Queue::Tokens, 2).is_none() && table.task_for(Queue::Tokens, 1).is_none());
        assert!(table.task_for(Queue::Tokens, 0).is_some() && table.has_waiting(Queue::Tokens));
        assert!(table.task_for(Queue::Tokens, 2).is_none(), "the first one works, and the second is idle");
        assert!(table.task_for(Queue::Tokens, 1).is_some() && !table.has_waiting(Queue::Tokens));
    }

    #[test]
    fn the_oldest_finished_leases_are_deleted_first() {
        let mut table = LeaseTable::default();
        for job in 0..4100 {
            let mut lease = lease(job, 0);
            lease.phase = if job == 0 { Phase::Refused } else { Phase::Finished { due: 10_000 - u64::from(job) } };
            table.insert(lease);
        }
        let surplus = table.surplus();
        assert_eq!(surplus, [4099, 4098, 4097, 4096].map(LeaseKey::Job));
    }
}
