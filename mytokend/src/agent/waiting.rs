// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of users that wait for a mytoken server or for slurmctld: `mytokenctl renew`, `revoke` and `replace`. Each occupies a
//! connection while it waits. So their number is limited, and for all other requests there is always a connection.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use mytoken_wire::agent::Answer;

use super::Agent;
use super::on_request::Caller;

/// A limited number of places that users share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Of one user.
    pub user: usize,
    /// Of all users.
    pub all: usize,
    /// So many more, for users who have none.
    pub first: usize,
}

impl Places {
    /// Whether a user with `own` of the `all` occupied places gets another one.
    pub(super) const fn has_room(self, own: usize, all: usize) -> bool {
        own < self.user && all < self.all || own == 0 && all < self.all + self.first
    }
}

/// For requests that wait. Fewer than there are connections.
const WAITING: Places = Places { user: 2, all: 12, first: 12 };

/// Number of waiting requests by user.
pub(super) type Waiting = Mutex<HashMap<u32, usize>>;

/// A place of a user, until it is dropped.
struct Turn<'a> {
    waiting: &'a Waiting,
    uid: u32,
}

impl<'a> Turn<'a> {
    fn take(waiting: &'a Waiting, uid: u32) -> Option<Self> {
        let mut counts = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, all) = (counts.get(&uid).copied().unwrap_or(0), counts.values().sum());
        WAITING.has_room(own, all).then(|| {
            counts.insert(uid, own + 1);
            Self { waiting, uid }
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
        }
        counts.retain(|_, count| *count > 0);
    }
}

impl Agent {
    /// Carries out a request that may wait, unless too many wait already. Root has connections of its own.
    pub(super) fn in_turn(&self, caller: Caller, work: impl FnOnce() -> Answer) -> Answer {
        if caller.trusted {
            return work();
        }
        match Turn::take(&self.waiting, caller.uid) {
            Some(_turn) => work(),
            None => Answer::Error(
                "too many requests to renew, revoke or replace wait for the mytoken server; try again in a minute"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_few_places_and_the_last_ones_are_for_those_who_have_none() {
        let waiting = Waiting::default();
        let mut turns: Vec<Turn<'_>> =
            (1..=9).flat_map(|uid| [uid; 3]).filter_map(|uid| Turn::take(&waiting, uid)).collect();
        let of = |turns: &[Turn<'_>], uid| turns.iter().filter(|turn| turn.uid == uid).count();
        assert_eq!((of(&turns, 1), of(&turns, 6), of(&turns, 7)), (2, 2, 1));
        turns.extend((10..50).filter_map(|uid| Turn::take(&waiting, uid)));
        assert_eq!(turns.len(), WAITING.all + WAITING.first);
        assert!(Turn::take(&waiting, 100).is_none());
        turns.clear();
        assert!(waiting.lock().unwrap().is_empty() && Turn::take(&waiting, 100).is_some());
    }
}
