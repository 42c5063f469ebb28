// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directories whose token files are to be changed, and the order in which threads do that. A user can make the kernel hold his own
//! token file, or his session's directory, for as long as he likes (KERN-01); then a thread that writes or removes the file there waits for
//! ever. So such a thread holds no lock, each user occupies few of them, and in each directory only one works at a time.

mod place;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use mytoken_wire::FileName;

pub use place::FilePlace;

/// How many threads work at the same time.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// Of all users together. A thread that has hung for long does not count: another one takes its place.
    pub all: usize,
    /// Of these, so many are only for users who have none.
    pub reserve: usize,
    /// Of one user, also of those that hang: perhaps they do so for ever.
    pub user: usize,
}

/// These limits.
pub const FILES: FileLimits = FileLimits { all: 12, reserve: 6, user: 2 };

/// A thread that works longer in a directory probably hangs there: others need less than a millisecond.
const ORDINARY: Duration = Duration::from_secs(1);

/// What is to be removed in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals {
    /// Everything: the job or session has ended.
    pub is_ended: bool,
    /// Further files of a job.
    pub further: Vec<FileName>,
}

/// A directory that waits for a thread.
#[derive(Debug)]
struct Queued {
    uid: u32,
    /// When it was first seen to wait, elapsed time.
    since: Option<Duration>,
    /// That it waits long was told.
    is_told: bool,
}

/// A directory in which a thread works.
#[derive(Debug)]
struct Running {
    uid: u32,
    /// Elapsed time.
    since: Duration,
    /// The thread hangs: it takes long, and that was told.
    hangs: bool,
    /// That the directory waited long for the thread was told.
    was_told: bool,
    /// It also looks at the files.
    looks: bool,
}

/// A user whose directories wait or have threads.
#[derive(Debug, Default)]
struct User {
    /// A directory that has got another user meanwhile, or a thread, is skipped.
    waiting: VecDeque<FilePlace>,
    running: usize,
    /// Number of the last directory that got a thread when he came or was served last.
    served: u64,
}

/// The queue.
pub struct FileQueue {
    users: HashMap<u32, User>,
    /// The directories that wait. Those in which a thread works wait for its end, and are not in [`User::waiting`].
    queued: HashMap<FilePlace, Queued>,
    running: HashMap<FilePlace, Running>,
    /// Number of the last directory that got a thread, or user who came.
    last: u64,
    /// Number of the threads.
    threads: usize,
    /// Number of those that hang.
    hanging: usize,
    /// Since when no thread is free, elapsed time, and whether that was told.
    full: Option<(Duration, bool)>,
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
            users: HashMap::new(),
            queued: HashMap::new(),
            running: HashMap::new(),
            last: 0,
            threads: FILES.all,
            hanging: 0,
            full: None,
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
        match self.queued.get_mut(place) {
            Some(queued) if queued.uid == uid => return,
            // It belongs to another user by now, and waits with his.
            Some(queued) => queued.uid = uid,
            None => drop(self.queued.insert(place.clone(), Queued { uid, since: None, is_told: false })),
        }
        if !self.running.contains_key(place) {
            self.let_wait(uid, place);
        }
    }

    fn let_wait(&mut self, uid: u32, place: &FilePlace) {
        self.last += 1;
        let user = self.users.entry(uid).or_insert_with(|| User { served: self.last, ..User::default() });
        user.waiting.push_back(place.clone());
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

    /// The next directory, for a thread that begins at `now`, elapsed time, and its user. [`Self::done`] has to be called after it.
    pub fn take(&mut self, now: Duration) -> Option<(u32, FilePlace)> {
        loop {
            let uid = self.next_user()?;
            let user = self.users.get_mut(&uid)?;
            let Some(place) = user.waiting.pop_front() else {
                self.forget_idle(uid);
                continue;
            };
            let is_his = self.queued.get(&place).is_some_and(|queued| queued.uid == uid);
            if !is_his || self.running.contains_key(&place) {
                self.forget_idle(uid);
                continue;
            }
            self.last += 1;
            (user.running, user.served) = (user.running + 1, self.last);
            let was_told = self.queued.remove(&place).is_some_and(|queued| queued.is_told);
            let running = Running { uid, since: now, hangs: false, was_told, looks: false };
            self.running.insert(place.clone(), running);
            return Some((uid, place));
        }
    }

    /// The user whose turn it is: one with few threads who was served long ago.
    fn next_user(&self) -> Option<u32> {
        let free = (FILES.all + self.hanging).saturating_sub(self.running.len());
        let has_room =
            |user: &User| user.running < FILES.user && (free > FILES.reserve || free > 0 && user.running == 0);
        let waiting = self.users.iter().filter(|(_, user)| !user.waiting.is_empty() && has_room(user));
        waiting.min_by_key(|(_, user)| (user.running, user.served)).map(|(uid, _)| *uid)
    }

    fn forget_idle(&mut self, uid: u32) {
        if self.users.get(&uid).is_some_and(|user| user.running == 0 && user.waiting.is_empty()) {
            self.users.remove(&uid);
        }
    }

    /// A thread has done what [`Self::take`] gave it. Returns whether it was told that this took long.
    pub fn done(&mut self, place: &FilePlace) -> bool {
        let Some(running) = self.running.remove(place) else { return false };
        if let Some(user) = self.users.get_mut(&running.uid) {
            user.running = user.running.saturating_sub(1);
        }
        if let Some(uid) = self.queued.get(place).map(|queued| queued.uid) {
            self.let_wait(uid, place);
        }
        self.forget_idle(running.uid);
        self.hanging = self.hanging.saturating_sub(usize::from(running.hangs));
        running.hangs || running.was_told
    }

    /// Number of threads that are to be started, because others hang. They count as started.
    pub fn missing_threads(&mut self) -> usize {
        let missing = (FILES.all + self.hanging).saturating_sub(self.threads);
        self.threads += missing;
        missing
    }

    /// A thread could not be started.
    pub fn thread_failed(&mut self) {
        self.threads = self.threads.saturating_sub(1);
    }

    /// Whether the thread that asks is to end: others have taken its place while it hung.
    pub fn ends_thread(&mut self) -> bool {
        let is_surplus = self.threads > FILES.all + self.hanging;
        self.threads -= usize::from(is_surplus);
        is_surplus
    }

    /// Whether a thread has worked there for long, or the directory has waited for one, and that was told.
    #[must_use]
    pub fn hangs(&self, place: &FilePlace) -> bool {
        self.running.get(place).is_some_and(|running| running.hangs)
            || self.queued.get(place).is_some_and(|queued| queued.is_told)
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

    /// The directories in which a thread has worked for longer than `longest` at `now`, or that have waited for one. Each of them once.
    pub fn overdue(&mut self, now: Duration, longest: Duration) -> Vec<(FilePlace, u32)> {
        let mut found = Vec::new();
        for (place, running) in &mut self.running {
            if !running.hangs && now.saturating_sub(running.since) > longest {
                running.hangs = true;
                self.hanging += 1;
                found.push((place.clone(), running.uid));
            }
        }
        for (place, queued) in &mut self.queued {
            let since = *queued.since.get_or_insert(now);
            let is_known = self.running.get(place).is_some_and(|running| running.hangs);
            if !queued.is_told && !is_known && now.saturating_sub(since) > longest {
                queued.is_told = true;
                found.push((place.clone(), queued.uid));
            }
        }
        found
    }

    /// Number of the directories that wait, once when no thread has been free for longer than `longest` at `now`.
    pub fn newly_full(&mut self, now: Duration, longest: Duration) -> Option<usize> {
        if self.running.len() < FILES.all + self.hanging || self.queued.is_empty() {
            self.full = None;
            return None;
        }
        let (since, is_told) = self.full.get_or_insert((now, false));
        if *is_told || now.saturating_sub(*since) <= longest {
            return None;
        }
        *is_told = true;
        Some(self.queued.len())
    }

    /// Whether a thread works there, or is to.
    #[must_use]
    pub fn has_work(&self, place: &FilePlace) -> bool {
        self.queued.contains_key(place) || self.running.contains_key(place)
    }

    /// Whether a thread works there. Until it is done, even a look at the files may hang.
    #[must_use]
    pub fn is_running(&self, place: &FilePlace) -> bool {
        self.running.contains_key(place)
    }

    /// Whether a change there has to wait at `now`, elapsed time, for a thread that does not end: one that has worked there for long, or those
    /// that hang for its user `uid`.
    #[must_use]
    pub fn is_held_up(&self, uid: u32, place: &FilePlace, now: Duration) -> bool {
        let hanging = self.running.values().filter(|running| running.uid == uid && running.hangs).count();
        let is_long = |running: &Running| running.hangs || now.saturating_sub(running.since) > ORDINARY;
        self.running.get(place).is_some_and(is_long) || hanging >= FILES.user
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
mod tests;
