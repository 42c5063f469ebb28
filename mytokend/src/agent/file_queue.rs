// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directories whose token files are to be changed, and the order in which threads do that. A user can make the kernel hold his own
//! token file, or his session's directory, for as long as he likes (KERN-01); then a thread that writes or removes the file there waits for
//! ever. So such a thread holds no lock, each user occupies few of them, and in each directory only one works at a time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use mytoken_wire::FileName;

use super::lanes::{Lanes, Limits, Place};

/// Each directory is a lane. A thread that hangs keeps its place, perhaps for ever. So half of the threads are only for users who have
/// none.
pub const FILES: Limits = Limits { all: 12, reserve: 6, lane: 1, user: 2, user_in_lane: 1 };

/// A directory with token files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FilePlace {
    /// That of a job.
    Job(u32),
    /// That of a session.
    Session {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
        /// The id.
        session: String,
    },
}

/// Its name in the log.
impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => write!(f, "job {job}"),
            Self::Session { uid, session, .. } => {
                write!(f, "session {} uid {uid}", session.get(..8).unwrap_or_default())
            }
        }
    }
}

impl FilePlace {
    fn lane(&self) -> String {
        match self {
            Self::Job(job) => job.to_string(),
            Self::Session { session, .. } => format!("session {session}"),
        }
    }
}

/// What is to be removed in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals {
    /// Everything: the job or session has ended.
    pub is_ended: bool,
    /// Further files of a job.
    pub further: Vec<FileName>,
}

/// A directory in which a thread works.
#[derive(Debug)]
struct Running {
    uid: u32,
    /// Elapsed time.
    since: Duration,
    /// That it takes long was told.
    is_told: bool,
    /// It also looks at the files.
    looks: bool,
}

/// The queue.
pub struct FileQueue {
    waiting: Lanes<FilePlace>,
    /// Those in `waiting`, each of them once.
    queued: HashSet<FilePlace>,
    running: HashMap<FilePlace, Running>,
    /// Those whose job or session has ended: nothing is to stay there.
    ended: HashSet<FilePlace>,
    /// Directories of jobs and sessions that have ended whose files could not be removed, with their users.
    left: HashMap<FilePlace, u32>,
    /// Those at which a thread is to look.
    looks: HashSet<FilePlace>,
    /// Further files of jobs that no lease renews or removes.
    unwanted: HashMap<u32, Vec<FileName>>,
    /// The threads end when nothing waits.
    pub stopping: bool,
}

impl Default for FileQueue {
    fn default() -> Self {
        Self {
            waiting: Lanes::new(FILES),
            queued: HashSet::new(),
            running: HashMap::new(),
            ended: HashSet::new(),
            left: HashMap::new(),
            looks: HashSet::new(),
            unwanted: HashMap::new(),
            stopping: false,
        }
    }
}

impl FileQueue {
    /// The files of user `uid` in this directory are perhaps not as they should be. What that is, is decided when a thread looks at it: so
    /// the last change counts, and not the order in which threads get their turns.
    pub fn change(&mut self, uid: u32, place: &FilePlace) {
        if self.queued.insert(place.clone()) {
            self.waiting.push(Place { lane: place.lane(), uid }, place.clone());
        }
    }

    /// The job or session has ended: its files and its directory are to be removed, before anything is written there for a further run.
    pub fn end(&mut self, uid: u32, place: &FilePlace) {
        self.ended.insert(place.clone());
        self.change(uid, place);
    }

    /// These further files of a job are to be removed.
    pub fn remove_further(&mut self, uid: u32, job: u32, names: Vec<FileName>) {
        if !names.is_empty() {
            self.unwanted.entry(job).or_default().extend(names);
            self.change(uid, &FilePlace::Job(job));
        }
    }

    /// A thread is to look at the files there: that may hang, too.
    pub fn look(&mut self, uid: u32, place: &FilePlace) {
        self.looks.insert(place.clone());
        self.change(uid, place);
    }

    /// Whether the thread that works there is to look at the files. From now on it has to do that.
    pub fn take_look(&mut self, place: &FilePlace) -> bool {
        let is_asked = self.looks.remove(place);
        if let Some(running) = self.running.get_mut(place) {
            running.looks |= is_asked;
        }
        is_asked
    }

    /// Whether a look has no result yet.
    #[must_use]
    pub fn has_look(&self, place: &FilePlace) -> bool {
        self.looks.contains(place) || self.running.get(place).is_some_and(|running| running.looks)
    }

    /// The next directory, for a thread that begins at `now`, elapsed time. [`Self::done`] has to be called after it.
    pub fn take(&mut self, now: Duration) -> Option<(Place, FilePlace)> {
        let (at, place) = self.waiting.take()?;
        self.queued.remove(&place);
        self.running.insert(place.clone(), Running { uid: at.uid, since: now, is_told: false, looks: false });
        Some((at, place))
    }

    /// A thread has done what [`Self::take`] gave it. Returns whether it was told that this took long.
    pub fn done(&mut self, at: &Place, place: &FilePlace) -> bool {
        self.waiting.done(at);
        self.running.remove(place).is_some_and(|running| running.is_told)
    }

    /// Whether a thread has worked there for long, and that was told.
    #[must_use]
    pub fn hangs(&self, place: &FilePlace) -> bool {
        self.running.get(place).is_some_and(|running| running.is_told)
    }

    /// Whether all is to be removed there. From now on the thread that asks has to do that.
    pub fn take_end(&mut self, place: &FilePlace) -> bool {
        self.ended.remove(place)
    }

    /// Whether all is to be removed there, and no thread has begun with it.
    #[must_use]
    pub fn is_ended(&self, place: &FilePlace) -> bool {
        self.ended.contains(place)
    }

    /// What [`Self::take_end`] and [`Self::take_further`] would give for this directory.
    #[must_use]
    pub fn removals(&self, place: &FilePlace) -> Removals {
        let further = match place {
            FilePlace::Job(job) => self.unwanted.get(job).cloned().unwrap_or_default(),
            FilePlace::Session { .. } => Vec::new(),
        };
        Removals { is_ended: self.is_ended(place), further }
    }

    /// These removals of user `uid` were not done. They are, when the directory is changed again; that of a job or session that has ended is
    /// also tried again at each sweep.
    pub fn give_back(&mut self, uid: u32, place: &FilePlace, removals: Removals) {
        if removals.is_ended {
            self.ended.insert(place.clone());
            self.removed(place, uid, false);
        }
        if let (FilePlace::Job(job), false) = (place, removals.further.is_empty()) {
            self.unwanted.entry(*job).or_default().extend(removals.further);
        }
    }

    /// The further files of a job that are to be removed. From now on the thread that asks has to do that.
    pub fn take_further(&mut self, job: u32) -> Vec<FileName> {
        self.unwanted.remove(&job).unwrap_or_default()
    }

    /// The files of user `uid` in this directory could be removed, or could not. Returns whether that is news.
    pub fn removed(&mut self, place: &FilePlace, uid: u32, is_removed: bool) -> bool {
        if is_removed { self.left.remove(place).is_some() } else { self.left.insert(place.clone(), uid).is_none() }
    }

    /// Whether the files in this directory could not be removed.
    #[must_use]
    pub fn is_left(&self, place: &FilePlace) -> bool {
        self.left.contains_key(place)
    }

    /// The directories of [`Self::is_left`], with their users.
    #[must_use]
    pub fn left(&self) -> Vec<(FilePlace, u32)> {
        self.left.iter().map(|(place, uid)| (place.clone(), *uid)).collect()
    }

    /// The directories in which a thread has worked for longer than `longest` at `now`, with their users. Each of them once.
    pub fn overdue(&mut self, now: Duration, longest: Duration) -> Vec<(FilePlace, u32)> {
        let mut found = Vec::new();
        for (place, running) in &mut self.running {
            if !running.is_told && now.saturating_sub(running.since) > longest {
                running.is_told = true;
                found.push((place.clone(), running.uid));
            }
        }
        found
    }

    /// Whether a thread works there, or is to.
    #[must_use]
    pub fn has_work(&self, place: &FilePlace) -> bool {
        self.queued.contains(place) || self.running.contains_key(place)
    }

    /// Whether a thread works there. Until it is done, even a look at the files may hang.
    #[must_use]
    pub fn is_running(&self, place: &FilePlace) -> bool {
        self.running.contains_key(place)
    }

    /// Whether a change there has to wait for a thread that does not end: one that works there, or those that hang for its user `uid`.
    #[must_use]
    pub fn is_held_up(&self, uid: u32, place: &FilePlace) -> bool {
        let hanging = self.running.values().filter(|running| running.uid == uid && running.is_told).count();
        self.is_running(place) || hanging >= FILES.user
    }

    /// Whether a directory waits for a thread.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Duration = Duration::from_secs(100);

    /// All that may run now.
    fn taken(queue: &mut FileQueue) -> Vec<(Place, FilePlace)> {
        std::iter::from_fn(|| queue.take(BEGIN)).collect()
    }

    #[test]
    fn in_a_directory_one_thread_works_at_a_time_and_does_the_last_change() {
        let (mut queue, place) = (FileQueue::default(), FilePlace::Job(7));
        queue.change(1, &place);
        queue.change(1, &place);
        let first = taken(&mut queue);
        assert_eq!(first.iter().map(|(_, place)| place).collect::<Vec<_>>(), [&place]);
        // A change during the work, also for another user, comes after it.
        queue.change(2, &place);
        queue.end(2, &place);
        assert!(taken(&mut queue).is_empty() && queue.is_ended(&place) && queue.has_work(&place));
        assert!(!queue.done(&first[0].0, &place), "it did not take long");
        let second = taken(&mut queue);
        assert_eq!(second.len(), 1);
        assert!(queue.take_end(&place) && !queue.take_end(&place));
        queue.done(&second[0].0, &place);
        assert!(queue.is_empty() && !queue.has_work(&place));
    }

    #[test]
    fn a_user_whose_threads_hang_waits_with_all_directories() {
        let mut queue = FileQueue::default();
        (0..3).for_each(|job| queue.change(1, &FilePlace::Job(job)));
        let hanging = taken(&mut queue);
        let third = FilePlace::Job(2);
        assert!(queue.is_held_up(1, &hanging[0].1) && !queue.is_held_up(1, &third));
        assert_eq!(queue.overdue(BEGIN * 2, BEGIN / 2).len(), FILES.user);
        assert!(queue.is_held_up(1, &third) && !queue.is_held_up(2, &third));
    }

    #[test]
    fn a_look_has_its_result_when_the_thread_that_began_it_has_ended() {
        let mut queue = FileQueue::default();
        let place = FilePlace::Session { uid: 1, gid: 2, session: "s".into() };
        queue.change(1, &place);
        let first = taken(&mut queue);
        queue.look(1, &place);
        queue.done(&first[0].0, &place);
        assert!(queue.has_look(&place), "the first thread did not look");
        let second = taken(&mut queue);
        assert!(queue.take_look(&place) && !queue.take_look(&place) && queue.has_look(&place));
        queue.done(&second[0].0, &place);
        assert!(!queue.has_look(&place));
    }

    #[test]
    fn removals_that_were_not_done_are_done_with_the_next_change() {
        let (mut queue, place) = (FileQueue::default(), FilePlace::Job(7));
        let names = vec![FileName::parse("tape").unwrap()];
        queue.remove_further(1, 7, names.clone());
        queue.end(1, &place);
        let removals = queue.removals(&place);
        let taken = taken(&mut queue);
        assert!(queue.take_end(&place));
        assert_eq!((queue.take_further(7), queue.removals(&place)), (names.clone(), Removals::default()));
        queue.give_back(1, &place, removals);
        queue.done(&taken[0].0, &place);
        assert!(!queue.has_work(&place) && queue.is_left(&place), "not at once: it may fail again");
        assert_eq!((queue.take_end(&place), queue.take_further(7)), (true, names));
    }

    #[test]
    fn users_whose_directories_hang_leave_threads_to_the_others() {
        let mut queue = FileQueue::default();
        (0..100).for_each(|job| queue.change(1, &FilePlace::Job(job)));
        assert_eq!(taken(&mut queue).len(), FILES.user);
        for uid in 2..=6 {
            (0..10).for_each(|job| queue.change(uid, &FilePlace::Job(uid * 1_000 + job)));
        }
        let hanging = FILES.user + taken(&mut queue).len();
        assert!(hanging < FILES.all, "{hanging}");
        queue.change(7, &FilePlace::Job(9));
        assert_eq!(taken(&mut queue).len(), 1);
    }

    #[test]
    fn what_takes_long_is_told_once_and_what_stays_is_remembered() {
        let mut queue = FileQueue::default();
        let session = FilePlace::Session { uid: 1, gid: 2, session: "0123456789abcdef".into() };
        queue.change(1, &session);
        let taken = taken(&mut queue);
        let longest = Duration::from_secs(30);
        assert!(queue.overdue(BEGIN + longest, longest).is_empty());
        let later = BEGIN + longest * 2;
        assert_eq!(queue.overdue(later, longest), [(session.clone(), 1)]);
        assert!(queue.overdue(later, longest).is_empty() && queue.hangs(&session));
        assert!(queue.done(&taken[0].0, &session) && !queue.hangs(&session));
        assert_eq!(session.to_string(), "session 01234567 uid 1");
        let job = FilePlace::Job(7);
        assert!(queue.removed(&job, 1, false) && !queue.removed(&job, 1, false));
        assert_eq!((queue.left(), queue.is_left(&job)), (vec![(job.clone(), 1)], true));
        assert!(queue.removed(&job, 1, true) && !queue.is_left(&job));
    }
}
