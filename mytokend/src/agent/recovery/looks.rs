// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at token files of an earlier run. Users own them, and can make each look hang for as long as they like (KERN-01). So a
//! thread looks for one user only, and all looks together have one deadline. One that takes longer goes on, and its result comes
//! later.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use mytoken::private_files::FileError;

use crate::agent::lease::LeaseKey;
use crate::agent::runtime_dir::{Left, RuntimeDir};

/// Most threads. A user occupies one of them. The directory of a job is listed before its user is known: that hangs only while an
/// agent that was killed still works there, and such an agent has few threads for each user.
const MOST: usize = 64;

/// Stack of each in bytes.
const STACK: usize = 256 * 1024;

/// Where access tokens may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the directory with the sessions of this user.
    Sessions(u32),
    /// In the directory of this job.
    Job(u32),
}

/// Its name in the log.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions(uid) => write!(f, "user {uid}"),
            Self::Job(job) => write!(f, "job {job}"),
        }
    }
}

/// The access tokens in a place, each with its job or session.
pub type Found = Result<Vec<(LeaseKey, Left)>, FileError>;

/// How to look.
pub trait Look: Send + Sync {
    /// The user who can make [`Self::look`] hang there. `None`: no user can. This may hang, too.
    fn user_of(&self, place: Place) -> Option<u32>;

    /// What is there.
    fn look(&self, place: Place) -> Found;
}

/// Looks into the runtime directory.
pub struct RuntimeLook {
    /// The directory.
    pub runtime_dir: Arc<RuntimeDir>,
    /// The sessions that are looked for.
    pub sessions: Vec<String>,
    /// Unix seconds.
    pub now: u64,
}

impl Look for RuntimeLook {
    fn user_of(&self, place: Place) -> Option<u32> {
        match place {
            Place::Sessions(uid) => Some(uid),
            Place::Job(job) => self.runtime_dir.user_of_job(job),
        }
    }

    fn look(&self, place: Place) -> Found {
        match place {
            Place::Sessions(uid) => {
                let left = self.runtime_dir.left_in_sessions(uid, &self.sessions, self.now)?;
                Ok(left.into_iter().map(|(session, left)| (LeaseKey::Session(session), Left::Session(left))).collect())
            }
            Place::Job(job) => {
                let left = self.runtime_dir.left_in_job(job, self.now)?;
                Ok(left.into_iter().map(|left| (LeaseKey::Job(job), Left::Job(left))).collect())
            }
        }
    }
}

/// Looks that have begun.
pub struct Looks {
    shared: Arc<Shared>,
    sender: Sender<(Place, Found)>,
    results: Receiver<(Place, Found)>,
    /// The places whose results have not come.
    open: BTreeSet<Place>,
}

impl Looks {
    /// Has threads look at these places.
    pub fn begin(look: Box<dyn Look>, places: &[Place]) -> Self {
        let queue = Queue { waiting: places.iter().copied().collect(), ..Queue::default() };
        let (sender, results) = channel();
        let shared = Arc::new(Shared { look, queue: Mutex::new(queue) });
        let looks = Self { shared, sender, results, open: places.iter().copied().collect() };
        looks.start_threads();
        looks
    }

    /// The results that come within `longest`. The others come with a later call.
    pub fn wait(&mut self, longest: Duration) -> Vec<(Place, Found)> {
        let begin = Instant::now();
        let mut found = Vec::new();
        while !self.open.is_empty() {
            let left = longest.saturating_sub(begin.elapsed());
            let Ok((place, result)) = self.results.recv_timeout(left) else { break };
            self.open.remove(&place);
            found.push((place, result));
        }
        found
    }

    /// The results that have come. Also starts threads that could not be started before.
    pub fn arrived(&mut self) -> Vec<(Place, Found)> {
        self.start_threads();
        self.wait(Duration::ZERO)
    }

    /// The places whose results have not come.
    pub fn open(&self) -> &BTreeSet<Place> {
        &self.open
    }

    /// They end when nothing waits for them. Nobody joins them.
    fn start_threads(&self) {
        let missing = self.shared.queue().missing_threads();
        for _ in 0..missing {
            let (shared, sender) = (Arc::clone(&self.shared), self.sender.clone());
            let builder = Builder::new().name("look".to_owned()).stack_size(STACK);
            if builder.spawn(move || shared.run(&sender)).is_err() {
                self.shared.queue().threads -= 1;
            }
        }
    }
}

/// What the threads share.
struct Shared {
    look: Box<dyn Look>,
    queue: Mutex<Queue>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until nothing waits. The queue is locked only between two looks.
    fn run(&self, results: &Sender<(Place, Found)>) {
        loop {
            let next = self.queue().take();
            let Some(mut place) = next else { return };
            let user = self.look.user_of(place);
            let is_taken = user.is_some_and(|uid| !self.queue().begin(uid, place));
            if is_taken {
                continue;
            }
            loop {
                // Nobody takes it when the agent has ended.
                let _ = results.send((place, self.look.look(place)));
                let further = user.and_then(|uid| self.queue().next_of(uid));
                let Some(further) = further else { break };
                place = further;
            }
        }
    }
}

/// What is to be looked at.
#[derive(Default)]
struct Queue {
    /// Places that no thread has taken.
    waiting: VecDeque<Place>,
    /// The users for whom a thread looks, with their further places.
    users: HashMap<u32, VecDeque<Place>>,
    /// Number of the threads.
    threads: usize,
}

impl Queue {
    /// Number of threads that are to be started. They count as started.
    fn missing_threads(&mut self) -> usize {
        let missing = self.waiting.len().min(MOST.saturating_sub(self.threads));
        self.threads += missing;
        missing
    }

    /// The next place for a thread. `None`: it has to end.
    fn take(&mut self) -> Option<Place> {
        let next = self.waiting.pop_front();
        self.threads -= usize::from(next.is_none());
        next
    }

    /// Whether the thread that has taken `place` of user `uid` is to look there. Otherwise the one that looks for the user does.
    fn begin(&mut self, uid: u32, place: Place) -> bool {
        match self.users.entry(uid) {
            Entry::Occupied(mut busy) => {
                busy.get_mut().push_back(place);
                false
            }
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                true
            }
        }
    }

    /// The next place of user `uid` for the thread that looks for this user. `None`: it no longer does.
    fn next_of(&mut self, uid: u32) -> Option<Place> {
        let next = self.users.get_mut(&uid)?.pop_front();
        if next.is_none() {
            self.users.remove(&uid);
        }
        next
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Condvar;

    use super::*;

    /// Looks that hang until they are released.
    #[derive(Clone, Default)]
    pub(in crate::agent::recovery) struct Hold(Arc<(Mutex<bool>, Condvar)>);

    impl Hold {
        pub(in crate::agent::recovery) fn wait(&self) {
            let released = self.0.0.lock().unwrap();
            drop(self.0.1.wait_while(released, |released| !*released).unwrap());
        }

        pub(in crate::agent::recovery) fn release(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }
    }

    /// The user of a job is a thousandth of its id.
    struct Slow {
        holds: fn(Place) -> bool,
        hold: Hold,
    }

    impl Look for Slow {
        fn user_of(&self, place: Place) -> Option<u32> {
            match place {
                Place::Sessions(uid) => Some(uid),
                Place::Job(job) => Some(job / 1000),
            }
        }

        fn look(&self, place: Place) -> Found {
            if (self.holds)(place) {
                self.hold.wait();
            }
            Ok(Vec::new())
        }
    }

    fn begin(places: &[Place], holds: fn(Place) -> bool) -> (Looks, Hold) {
        let hold = Hold::default();
        (Looks::begin(Box::new(Slow { holds, hold: hold.clone() }), places), hold)
    }

    /// The places of the next results.
    fn next(looks: &mut Looks, count: usize) -> BTreeSet<Place> {
        let (begin, mut found) = (Instant::now(), BTreeSet::new());
        while found.len() < count {
            assert!(begin.elapsed() < Duration::from_secs(30), "only {found:?}");
            found.extend(looks.wait(Duration::from_millis(5)).into_iter().map(|(place, _)| place));
        }
        found
    }

    #[test]
    fn one_slow_look_of_three_delays_no_other_one_and_its_result_comes_later() {
        let slow = Place::Sessions(2);
        let (mut looks, hold) =
            begin(&[slow, Place::Sessions(1), Place::Job(3_000)], |place| place == Place::Sessions(2));
        assert_eq!(next(&mut looks, 2), BTreeSet::from([Place::Sessions(1), Place::Job(3_000)]));
        assert_eq!(*looks.open(), BTreeSet::from([slow]));
        assert!(looks.arrived().is_empty());
        hold.release();
        assert_eq!(next(&mut looks, 1), BTreeSet::from([slow]));
        assert!(looks.open().is_empty());
    }

    #[test]
    fn all_looks_together_have_one_deadline() {
        let places: Vec<Place> = (1..=100).map(Place::Sessions).collect();
        let (mut looks, hold) = begin(&places, |_| true);
        let (longest, before) = (Duration::from_millis(50), Instant::now());
        assert!(looks.wait(longest).is_empty());
        let waited = before.elapsed();
        assert!(waited >= longest && waited < longest * 50, "{waited:?}");
        hold.release();
        assert_eq!(next(&mut looks, 100).len(), 100, "also those that have waited for a thread");
    }

    #[test]
    fn a_user_with_many_places_that_hang_occupies_one_thread() {
        let own = 2_000..2_000 + 3 * u32::try_from(MOST).unwrap();
        let others = [Place::Sessions(1), Place::Job(3_000), Place::Job(3_001)];
        let places: Vec<Place> = own.map(Place::Job).chain([Place::Sessions(2)]).chain(others).collect();
        let (mut looks, hold) = begin(&places, |place| matches!(place, Place::Job(2_000..=2_999) | Place::Sessions(2)));
        assert_eq!(next(&mut looks, others.len()), BTreeSet::from(others));
        assert_eq!(looks.open().len(), places.len() - others.len());
        hold.release();
        assert_eq!(next(&mut looks, places.len() - others.len()).len(), 3 * MOST + 1);
    }

    #[test]
    fn without_a_place_nothing_is_waited_for() {
        let (mut looks, _) = begin(&[], |_| true);
        assert!(looks.wait(Duration::from_secs(3_600)).is_empty() && looks.shared.queue().threads == 0);
    }
}
