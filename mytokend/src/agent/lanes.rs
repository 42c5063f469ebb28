// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of the requests to mytoken servers. Requests for access tokens of one provider at one server form a lane of their own, and so
//! do the revocations at one server, so that one that hangs delays no other one. Within a lane the users share the room.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::lease_table::Task;

/// How many requests run at the same time.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Of a lane.
    lane: usize,
    /// Of one user in a lane.
    user: usize,
}

/// For access tokens.
const TOKENS: Limits = Limits { lane: 8, user: 3 };

/// For revocations. Nothing waits for them.
const REVOCATIONS: Limits = Limits { lane: 2, user: 2 };

/// Where a request belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Server and provider, or the server alone.
    pub lane: String,
    /// The user.
    pub uid: u32,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<(u32, Task)>,
    running: HashMap<u32, usize>,
}

impl Lane {
    /// The task that waits longest among those of the users with the fewest running requests.
    fn next(&mut self, limits: Limits) -> Option<(u32, Task)> {
        if self.running.values().sum::<usize>() >= limits.lane {
            return None;
        }
        let running = |uid: &u32| self.running.get(uid).copied().unwrap_or(0);
        let candidates = self.waiting.iter().enumerate().map(|(index, (uid, _))| (running(uid), index));
        let (count, index) = candidates.min()?;
        if count >= limits.user {
            return None;
        }
        let (uid, task) = self.waiting.remove(index)?;
        *self.running.entry(uid).or_default() += 1;
        Some((uid, task))
    }
}

/// The waiting and running requests of all lanes.
pub struct Lanes {
    limits: Limits,
    lanes: BTreeMap<String, Lane>,
    /// The lane that was served last.
    last: String,
}

impl Lanes {
    fn new(limits: Limits) -> Self {
        Self { limits, lanes: BTreeMap::new(), last: String::new() }
    }

    /// Lanes of requests for access tokens.
    #[must_use]
    pub fn of_tokens() -> Self {
        Self::new(TOKENS)
    }

    /// Lanes of revocations.
    #[must_use]
    pub fn of_revocations() -> Self {
        Self::new(REVOCATIONS)
    }

    /// Adds a task at the end of its lane.
    pub fn push(&mut self, place: Place, task: Task) {
        self.lanes.entry(place.lane).or_default().waiting.push_back((place.uid, task));
    }

    /// The next task that may run, of each lane in turn. [`Self::done`] has to be called after it.
    pub fn take(&mut self) -> Option<(Place, Task)> {
        let after = self.lanes.keys().filter(|name| **name > self.last);
        let order: Vec<String> = after.chain(self.lanes.keys().filter(|name| **name <= self.last)).cloned().collect();
        for name in order {
            if let Some((uid, task)) = self.lanes.get_mut(&name).and_then(|lane| lane.next(self.limits)) {
                self.last.clone_from(&name);
                return Some((Place { lane: name, uid }, task));
            }
        }
        None
    }

    /// A task of [`Self::take`] has ended.
    pub fn done(&mut self, place: &Place) {
        let Some(lane) = self.lanes.get_mut(&place.lane) else { return };
        if let Some(count) = lane.running.get_mut(&place.uid) {
            *count = count.saturating_sub(1);
        }
        lane.running.retain(|_, count| *count > 0);
        if lane.running.is_empty() && lane.waiting.is_empty() {
            self.lanes.remove(&place.lane);
        }
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::{Action, LeaseKey};
    use super::*;

    fn task(number: u32) -> Task {
        Task { key: LeaseKey::Job(number), action: Action::Renew, generation: 1 }
    }

    fn place(lane: &str, uid: u32) -> Place {
        Place { lane: lane.to_owned(), uid }
    }

    fn taken(lanes: &mut Lanes) -> Vec<(String, u32, LeaseKey)> {
        std::iter::from_fn(|| lanes.take()).map(|(place, task)| (place.lane, place.uid, task.key)).collect()
    }

    #[test]
    fn a_lane_that_hangs_delays_no_other_lane_and_no_other_user() {
        let mut lanes = Lanes::of_tokens();
        (0..100).for_each(|number| lanes.push(place("hangs", 1), task(number)));
        assert_eq!(taken(&mut lanes).len(), TOKENS.user);
        lanes.push(place("hangs", 2), task(200));
        lanes.push(place("works", 1), task(300));
        let next = taken(&mut lanes);
        assert!(next.contains(&("hangs".into(), 2, LeaseKey::Job(200))), "{next:?}");
        assert!(next.contains(&("works".into(), 1, LeaseKey::Job(300))), "{next:?}");
        (3..20).for_each(|uid| lanes.push(place("hangs", uid), task(uid)));
        assert_eq!(taken(&mut lanes).len(), TOKENS.lane - TOKENS.user - 1);
        lanes.done(&place("hangs", 1));
        assert_eq!(taken(&mut lanes).len(), 1);
    }

    #[test]
    fn users_and_lanes_take_turns() {
        let mut lanes = Lanes::of_tokens();
        for (number, (lane, uid)) in [("a", 1), ("a", 1), ("a", 1), ("a", 2), ("b", 1)].into_iter().enumerate() {
            lanes.push(place(lane, uid), task(u32::try_from(number).unwrap()));
        }
        let order: Vec<LeaseKey> = taken(&mut lanes).into_iter().map(|(_, _, key)| key).collect();
        assert_eq!(order, [0, 4, 3, 1, 2].map(LeaseKey::Job));
        for place in [place("a", 1), place("a", 1), place("a", 1), place("a", 2), place("b", 1)] {
            assert!(!lanes.is_empty());
            lanes.done(&place);
        }
        assert!(lanes.is_empty());
    }
}
