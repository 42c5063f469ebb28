// SPDX-License-Identifier: MIT OR Apache-2.0
//! All leases, and a heap of what is due when. One lock guards it all.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::lease::{Action, Key, Lease, Phase};

/// So many leases that are over are remembered; an array with many short tasks must not fill the memory.
const REMEMBERED: usize = 4096;

/// A lease, what is to be done, and the lease's generation.
pub type Work = (Key, Action, u64);

/// Which workers do it. slurmctld may hang for all of a node's ended jobs; no running job's token may wait behind that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Access tokens.
    Exchanges,
    /// Questions to slurmctld, and what follows from its answers.
    Questions,
}

/// The book.
#[derive(Default)]
pub struct Book {
    leases: HashMap<Key, Lease>,
    heap: BinaryHeap<Reverse<(u64, Key)>>,
    exchanges: VecDeque<Work>,
    questions: VecDeque<Work>,
    /// The agent is ending.
    pub stopping: bool,
    generations: u64,
}

impl Book {
    /// The lease of `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Lease> {
        self.leases.get(key)
    }

    /// The lease of `key`, to be changed. Call [`Self::schedule`] afterwards.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Lease> {
        self.leases.get_mut(key)
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// All leases, to be changed.
    pub fn leases_mut(&mut self) -> impl Iterator<Item = &mut Lease> {
        self.leases.values_mut()
    }

    /// Enters a lease, in place of an earlier one of the same key, and schedules it.
    pub fn enter(&mut self, mut lease: Lease) {
        self.generations += 1;
        lease.generation = self.generations;
        lease.busy = false;
        lease.queued = None;
        let key = lease.key.clone();
        self.leases.insert(key.clone(), lease);
        self.schedule(&key);
    }

    /// Takes a lease out.
    pub fn remove(&mut self, key: &Key) -> Option<Lease> {
        self.leases.remove(key)
    }

    /// Puts the next action of the lease into the heap. Entries that were overtaken stay there and are ignored when their time comes.
    pub fn schedule(&mut self, key: &Key) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        let Some((due, _)) = lease.next() else { return };
        if lease.queued.is_none_or(|queued| due < queued) {
            lease.queued = Some(due);
            self.heap.push(Reverse((due, key.clone())));
        }
    }

    /// What is due at `now`, one at a time; the caller schedules the lease again when it is done.
    pub fn take_due(&mut self, now: u64) -> Option<(Key, Action)> {
        loop {
            let Reverse((due, _)) = self.heap.peek()?;
            if *due > now {
                return None;
            }
            let Reverse((due, key)) = self.heap.pop()?;
            let Some(lease) = self.leases.get_mut(&key) else { continue };
            if lease.queued != Some(due) {
                continue;
            }
            lease.queued = None;
            match lease.next() {
                Some((due, action)) if due <= now => return Some((key, action)),
                _ => self.schedule(&key),
            }
        }
    }

    /// When something is due next, Unix milliseconds.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Hands the lease to the workers.
    pub fn assign(&mut self, key: &Key, action: Action) {
        let Some(lease) = self.leases.get_mut(key) else { return };
        // A doubt changes nothing until it is answered, and the token is renewed meanwhile.
        lease.busy |= action != Action::Doubt;
        let work = (key.clone(), action, lease.generation);
        match action {
            Action::Settle | Action::Doubt => self.questions.push_back(work),
            Action::Renew | Action::Expire | Action::Forget => self.exchanges.push_back(work),
        }
    }

    /// What the workers of `lane` are to do next, in the order in which it was due.
    pub fn next_work(&mut self, lane: Lane) -> Option<Work> {
        match lane {
            Lane::Exchanges => self.exchanges.pop_front(),
            Lane::Questions => self.questions.pop_front(),
        }
    }

    /// Of the leases that are over, those beyond the number that is remembered, oldest first.
    #[must_use]
    pub fn surplus(&self) -> Vec<Key> {
        if self.leases.len() <= REMEMBERED {
            return Vec::new();
        }
        let mut over: Vec<(u64, &Key)> = self
            .leases
            .values()
            .filter_map(|lease| match lease.phase {
                Phase::Over { due } => Some((due, &lease.key)),
                _ => None,
            })
            .collect();
        over.sort_unstable();
        over.into_iter().take(self.leases.len() - REMEMBERED).map(|(_, key)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use mytoken::files::Owner;

    use super::*;

    fn lease(job: u32, due: u64) -> Lease {
        let mut lease = Lease::new(Key::Job(job), Owner { uid: 1, gid: 1 }, "default", 0);
        lease.phase = Phase::Alive { due };
        lease
    }

    #[test]
    fn what_is_due_comes_in_order_and_once() {
        let mut book = Book::default();
        for (job, due) in [(1, 30), (2, 10), (3, 20)] {
            book.enter(lease(job, due));
        }
        assert_eq!(book.take_due(5), None);
        assert_eq!(book.next_due(), Some(10));
        assert_eq!(book.take_due(25), Some((Key::Job(2), Action::Renew)));
        assert_eq!(book.take_due(25), Some((Key::Job(3), Action::Renew)));
        assert_eq!(book.take_due(25), None);
    }

    #[test]
    fn a_new_time_overtakes_the_old_one() {
        let mut book = Book::default();
        book.enter(lease(1, 100));
        book.get_mut(&Key::Job(1)).unwrap().phase = Phase::Ended { due: 10, tries: 0 };
        book.schedule(&Key::Job(1));
        assert_eq!(book.take_due(10), Some((Key::Job(1), Action::Settle)));
        book.get_mut(&Key::Job(1)).unwrap().phase = Phase::Over { due: 500 };
        book.schedule(&Key::Job(1));
        assert_eq!(book.take_due(400), None, "the entry of the time before is ignored");
        assert_eq!(book.take_due(500), Some((Key::Job(1), Action::Forget)));
    }

    #[test]
    fn a_busy_lease_is_not_due_and_an_entry_for_a_removed_one_is_nothing() {
        let mut book = Book::default();
        book.enter(lease(1, 10));
        book.enter(lease(2, 10));
        book.assign(&Key::Job(1), Action::Renew);
        book.remove(&Key::Job(2));
        assert_eq!(book.take_due(50), None);
        book.get_mut(&Key::Job(1)).unwrap().busy = false;
        book.schedule(&Key::Job(1));
        assert!(book.take_due(50).is_some());
    }

    #[test]
    fn the_oldest_memories_go_first() {
        let mut book = Book::default();
        for job in 0..4100 {
            let mut lease = lease(job, 0);
            lease.phase = if job == 0 { Phase::Refused } else { Phase::Over { due: 10_000 - u64::from(job) } };
            book.enter(lease);
        }
        let surplus = book.surplus();
        assert_eq!(surplus, [Key::Job(4099), Key::Job(4098), Key::Job(4097), Key::Job(4096)]);
    }
}
