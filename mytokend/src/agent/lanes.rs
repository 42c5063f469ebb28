// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of the requests to mytoken servers. Requests for access tokens of one provider at one server form a lane of their own, and so
//! do those for further files of jobs, and the revocations at one server, so that one that hangs delays no other one. The users share the
//! room of a lane, and all workers: a user can name as many lanes as he likes, because the provider stands in his own token.

use std::collections::{BTreeMap, HashMap};

use super::lease_table::Task;

/// How many requests run at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all lanes together: the number of worker threads.
    pub all: usize,
    /// Of these, so many only take a request whose user and whose lane have none that runs.
    pub reserve: usize,
    /// Of a lane.
    pub lane: usize,
    /// Of one user in all lanes.
    pub user: usize,
    /// Of one user in one lane.
    pub user_in_lane: usize,
}

/// For access tokens.
pub const TOKENS: Limits = Limits { all: 24, reserve: 4, lane: 8, user: 6, user_in_lane: 3 };

/// For revocations. Nothing waits for them.
pub const REVOCATIONS: Limits = Limits { all: 6, reserve: 1, lane: 2, user: 3, user_in_lane: 2 };

/// Where a request belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Server and provider, or the server alone.
    pub lane: String,
    /// The user.
    pub uid: u32,
}

struct Lane<T> {
    /// By user, then by the time at which the answer is needed and by number: a turn looks at the first one of each user only, however many
    /// there are.
    waiting: BTreeMap<u32, BTreeMap<(u64, u64), T>>,
    running: HashMap<u32, usize>,
    /// When it was served last: the number of that request.
    served: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), running: HashMap::new(), served: 0 }
    }
}

/// A user's requests in all lanes.
#[derive(Default)]
struct User {
    waiting: usize,
    running: usize,
    /// When he was served last: the number of that request.
    served: u64,
}

/// The order of the waiting requests, the smallest first: users with few running requests, users who were served long ago, then the same
/// for the user's lanes, then the request whose answer is needed first, then the one that waits longest.
type Rank = (usize, u64, usize, u64, (u64, u64));

/// The answer to a request for a first token is needed this long after the request, in milliseconds, and that to a renewal at the end of the
/// token: a user's many new jobs do not let the tokens of those that run expire.
const FIRST_NEEDED: u64 = 30_000;

/// When the answer to a request is needed that is due at `due`, while there is a token until `end`. All in milliseconds of one clock.
#[must_use]
pub fn needed(end: Option<u64>, due: u64) -> u64 {
    end.unwrap_or_else(|| due.saturating_add(FIRST_NEEDED))
}

/// The waiting and running requests of all lanes. `T` says what is requested.
pub struct Lanes<T = Task> {
    limits: Limits,
    lanes: BTreeMap<String, Lane<T>>,
    users: HashMap<u32, User>,
    /// Number of the last request that came, or was served.
    last: u64,
}

impl<T> Lanes<T> {
    /// No request yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, lanes: BTreeMap::new(), users: HashMap::new(), last: 0 }
    }

    /// Adds a task to its lane. `needed`: when its answer is needed at the latest, in milliseconds of any clock, the same one for all.
    pub fn push(&mut self, place: Place, needed: u64, task: T) {
        self.last += 1;
        self.users.entry(place.uid).or_default().waiting += 1;
        let lane = self.lanes.entry(place.lane).or_default();
        lane.waiting.entry(place.uid).or_default().insert((needed, self.last), task);
    }

    /// The next task that may run. [`Self::done`] has to be called after it.
    pub fn take(&mut self) -> Option<(Place, T)> {
        let running = self.users.values().map(|user| user.running).sum::<usize>();
        let free = self.limits.all.saturating_sub(running);
        let ranked = self.lanes.iter().filter_map(|(name, lane)| Some((self.first_of(lane, free)?, name)));
        let ((_, uid), name) = ranked.min()?;
        let name = name.clone();
        let lane = self.lanes.get_mut(&name)?;
        let own = lane.waiting.get_mut(&uid)?;
        let (_, task) = own.pop_first()?;
        if own.is_empty() {
            lane.waiting.remove(&uid);
        }
        self.last += 1;
        *lane.running.entry(uid).or_default() += 1;
        lane.served = self.last;
        let user = self.users.entry(uid).or_default();
        user.waiting = user.waiting.saturating_sub(1);
        (user.running, user.served) = (user.running + 1, self.last);
        Some((Place { lane: name, uid }, task))
    }

    /// The first request of the lane that may run, as its rank and its user, with `free` workers.
    fn first_of(&self, lane: &Lane<T>, free: usize) -> Option<(Rank, u32)> {
        let in_lane: usize = lane.running.values().sum();
        if free == 0 || in_lane >= self.limits.lane {
            return None;
        }
        let waiting = lane.waiting.iter().filter_map(|(uid, own)| {
            let (first, _) = own.first_key_value()?;
            let (all, served) = self.users.get(uid).map_or((0, 0), |user| (user.running, user.served));
            let here = lane.running.get(uid).copied().unwrap_or(0);
            let room = all < self.limits.user && here < self.limits.user_in_lane;
            let admitted = room && (free > self.limits.reserve || all == 0 && in_lane == 0);
            admitted.then_some(((all, served, here, lane.served, *first), *uid))
        });
        waiting.min()
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
        if let Some(user) = self.users.get_mut(&place.uid) {
            user.running = user.running.saturating_sub(1);
        }
        // Who was served last is remembered while anybody waits.
        if self.lanes.is_empty() {
            self.users.clear();
        }
    }

    /// How many requests of this user wait for their turn.
    #[must_use]
    pub fn waiting_of(&self, uid: u32) -> usize {
        self.users.get(&uid).map_or(0, |user| user.waiting)
    }

    /// Whether a request waits for its turn.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.lanes.values().any(|lane| !lane.waiting.is_empty())
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}

#[cfg(test)]
mod tests;
