// SPDX-License-Identifier: MIT OR Apache-2.0
//! New credentials for jobs that wait, in place of those of their submissions. Memory has them all: a node's request must not wait for the
//! disk. One file for each, because a job that waits outlives a broker. They are ciphertext.
//!
//! Who brings one waits until it is written. All other changes are made in memory, and a thread brings the files in line: the disk can hang.

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mytoken::private_files::{Directory, FileError, Owner};
use serde::{Deserialize, Serialize};

use super::ends::Standing;
use super::escrow::{TextDirectory, TextFiles};
use super::submission::NOT_SHOWN;
use super::submission_key::{SubmissionKey, TextHash};

/// Most jobs of one user. An array is one job.
const MOST_OF_USER: usize = 1_000;

/// Most jobs.
const MOST: usize = 20_000;

/// Most handles of earlier credentials that are remembered with one.
const MOST_RETIRED: usize = 64;

/// A user's job that leads the others of its submission: of an array the array job, of a heterogeneous job the first component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leader {
    /// The user.
    pub uid: u32,
    /// Id of the job.
    pub job: u32,
}

/// Why a new credential is not kept. A sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum ReplacementError {
    /// The user has too many.
    #[error("the broker keeps new credentials for {MOST_OF_USER} jobs of this user already")]
    TooManyOfUser,
    /// There are too many.
    #[error("the broker keeps new credentials for {MOST} jobs already")]
    TooMany,
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A new credential, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The sealed text.
    pub sealed: String,
    /// Its hash, which the file need not have.
    #[serde(skip)]
    pub text: TextHash,
    /// Its handle.
    pub handle: String,
    /// When its sub-token was made, Unix seconds.
    pub made: u64,
    /// Expiry of its sub-token, Unix seconds.
    pub exp: u64,
    /// The URL of the mytoken server by whose clock it expires. Empty: an earlier release has kept it.
    #[serde(default)]
    pub server: String,
    /// This broker revokes the sub-token if the job never starts.
    pub follows: bool,
    /// The credentials that it has replaced: they are revoked, or will be when it has given a token. Each has its handle and the hash of
    /// its text; earlier releases have noted the handle alone.
    #[serde(default)]
    pub retired: Vec<String>,
}

impl Replacement {
    /// Its own submission, as one of this user.
    #[must_use]
    pub fn key(&self, uid: u32) -> SubmissionKey {
        SubmissionKey { uid, handle: self.handle.clone(), text: self.text }
    }

    /// Whether it serves a job that brings this credential, made at `made`, Unix seconds. It does not if that is newer: `mytokenctl replace`
    /// has brought it to the job itself, which runs.
    #[must_use]
    pub fn replaces(&self, brought: &SubmissionKey, made: u64) -> bool {
        brought.handle != self.handle && (made <= self.made || self.has_retired(brought))
    }

    /// Whether this sub-token is revoked already, or will be.
    #[must_use]
    pub fn has_retired(&self, key: &SubmissionKey) -> bool {
        let name = key.retired_name();
        self.retired.iter().any(|retired| *retired == name || *retired == key.handle)
    }

    fn retire(&mut self, name: String) {
        if !self.retired.contains(&name) {
            self.retired.push(name);
        }
        let surplus = self.retired.len().saturating_sub(MOST_RETIRED);
        self.retired.drain(..surplus);
    }
}

#[derive(Debug)]
struct Entry {
    replacement: Arc<Replacement>,
    /// Its jobs have ended, and its file is removed. Nodes may still tell their ends.
    is_over: bool,
    /// Number of answers of slurmctld in a row that do not show its job.
    not_shown: u32,
}

impl Entry {
    fn new(replacement: Arc<Replacement>) -> Self {
        Self { replacement, is_over: false, not_shown: 0 }
    }
}

#[derive(Debug, Default)]
struct Memory {
    entries: BTreeMap<Leader, Entry>,
    /// Those whose files are perhaps not as memory says.
    stale: BTreeSet<Leader>,
    /// Those whose files could not be read yet.
    unread: BTreeSet<Leader>,
}

/// The new credentials.
#[derive(Debug)]
pub struct Replacements {
    files: Box<dyn TextFiles>,
    /// Held while a file is changed. A disk that hangs holds it, and not `memory`.
    changing: Mutex<()>,
    memory: Mutex<Memory>,
}

impl Replacements {
    /// Those in this directory, and what is wrong with files that cannot be read.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn open(directory: Directory, owner: Owner) -> Result<(Self, Vec<String>), FileError> {
        Self::with_files(Box::new(TextDirectory::new(directory, owner)))
    }

    /// The same of these files.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn with_files(files: Box<dyn TextFiles>) -> Result<(Self, Vec<String>), FileError> {
        let (mut memory, mut unreadable) = (Memory::default(), Vec::new());
        for name in files.names()? {
            if is_unfinished(&name) {
                // The broker was killed while it wrote. If this fails, the next start tries again.
                let _ = files.remove(&name);
            }
            let Some(leader) = leader_of(&name) else { continue };
            match files.read(&name).map(|content| content.and_then(|content| parse(&content))) {
                Ok(Some(own)) => drop(memory.entries.insert(leader, Entry::new(Arc::new(own)))),
                Ok(None) => unreadable.push(format!("the content of {name} is damaged")),
                Err(error) => {
                    memory.unread.insert(leader);
                    unreadable.push(error.to_string());
                }
            }
        }
        Ok((Self { files, changing: Mutex::default(), memory: Mutex::new(memory) }, unreadable))
    }

    /// Keeps a new credential, and returns the one that it replaces. It waits for the disk.
    ///
    /// # Errors
    /// [`ReplacementError`]. What was kept before stays.
    pub fn put(&self, leader: Leader, mut new: Replacement) -> Result<Option<Arc<Replacement>>, ReplacementError> {
        let _changing = self.changing();
        // One that cannot be read now may be read later, and must not be lost.
        self.read(leader)?;
        let before = self.get(leader);
        if let Some(before) = &before {
            new.retired.clone_from(&before.retired);
            new.retire(before.key(leader.uid).retired_name());
        }
        {
            let mut memory = self.memory();
            memory.check_room(leader)?;
            memory.stale.insert(leader);
        }
        if let Err(error) = self.files.write(&file_name(leader), &bytes_of(&new)) {
            // The file may have the new content all the same, and whoever has brought it is told that nobody has it.
            let _ = self.settle(leader);
            return Err(error.into());
        }
        let mut memory = self.memory();
        let Memory { entries, stale, .. } = &mut *memory;
        stale.remove(&leader);
        // What was revoked while the disk was written.
        for name in entries.get(&leader).into_iter().flat_map(|own| &own.replacement.retired) {
            if !new.retired.contains(name) {
                new.retire(name.clone());
                stale.insert(leader);
            }
        }
        entries.insert(leader, Entry::new(Arc::new(new)));
        Ok(before)
    }

    /// This sub-token, which the new credential has replaced, is revoked.
    pub fn retire(&self, leader: Leader, key: &SubmissionKey) {
        let mut memory = self.memory();
        let Memory { entries, stale, .. } = &mut *memory;
        let own = entries.get_mut(&leader).filter(|own| !own.is_over && !own.replacement.has_retired(key));
        if let Some(own) = own {
            Arc::make_mut(&mut own.replacement).retire(key.retired_name());
            stale.insert(leader);
        }
    }

    /// The sub-token of the new credential is revoked: its jobs have ended.
    pub fn forget(&self, leader: Leader, handle: &str) {
        let mut memory = self.memory();
        let Memory { entries, stale, .. } = &mut *memory;
        if let Some(own) = entries.get_mut(&leader).filter(|own| own.replacement.handle == handle && !own.is_over) {
            own.is_over = true;
            stale.insert(leader);
        }
    }

    /// Forgets those whose sub-tokens have expired. `time_at` tells the time of day at a mytoken server, Unix seconds.
    pub fn expire(&self, time_at: impl Fn(&str) -> u64) {
        let mut memory = self.memory();
        let Memory { entries, stale, .. } = &mut *memory;
        entries.retain(|leader, own| {
            let is_due = own.replacement.exp <= time_at(&own.replacement.server) && !own.is_over;
            if is_due {
                stale.insert(*leader);
            }
            !is_due
        });
    }

    /// Takes note of an answer of slurmctld. `standing` says what it means for the job of one of which this broker knows no submission, and
    /// `None` for the others: those are over with their submissions.
    pub fn note(&self, standing: impl Fn(Leader, &Replacement) -> Option<Standing>) {
        let mut memory = self.memory();
        let Memory { entries, stale, .. } = &mut *memory;
        for (leader, own) in entries.iter_mut().filter(|(_, own)| !own.is_over) {
            own.not_shown = match standing(*leader, &own.replacement) {
                None | Some(Standing::GoesOn) => 0,
                Some(Standing::NotShown) => own.not_shown.saturating_add(1),
                Some(Standing::Over) => NOT_SHOWN,
            };
            if own.not_shown >= NOT_SHOWN {
                own.is_over = true;
                stale.insert(*leader);
            }
        }
    }

    /// Writes and removes the files that are not as memory says. One thread calls it, which waits for the disk.
    ///
    /// # Errors
    /// The first [`FileError`]. The other files are changed, and this one is tried again.
    pub fn sweep(&self) -> Result<(), FileError> {
        let due: Vec<Leader> = self.memory().stale.iter().copied().collect();
        let settle = |leader: Leader| {
            let _changing = self.changing();
            self.settle(leader)
        };
        due.into_iter().map(settle).fold(Ok(()), Result::and)
    }

    /// Reads the files again that could not be read, and returns those that can be now. It waits for the disk.
    #[must_use]
    pub fn read_again(&self) -> Vec<(Leader, Arc<Replacement>)> {
        let due: Vec<Leader> = self.memory().unread.iter().copied().collect();
        let read = |leader: Leader| {
            let _changing = self.changing();
            Some((leader, self.read(leader).ok()??))
        };
        due.into_iter().filter_map(read).collect()
    }

    /// Forgets those that are over, but for those that `is_needed` names.
    pub fn prune(&self, is_needed: impl Fn(Leader, &Replacement) -> bool) {
        self.memory().entries.retain(|leader, own| !own.is_over || is_needed(*leader, &own.replacement));
    }

    /// The new credential of a job.
    #[must_use]
    pub fn get(&self, leader: Leader) -> Option<Arc<Replacement>> {
        let memory = self.memory();
        let own = memory.entries.get(&leader).filter(|own| !own.is_over)?;
        Some(Arc::clone(&own.replacement))
    }

    /// Whether a job of this user has one.
    #[must_use]
    pub fn has_any(&self, uid: u32) -> bool {
        range_of(&self.memory().entries, uid).any(|(_, own)| !own.is_over)
    }

    /// Whether any job has one.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.memory().entries.values().any(|own| !own.is_over)
    }

    /// Those of a user, also those that are over.
    #[must_use]
    pub fn of_user(&self, uid: u32) -> Vec<(Leader, Arc<Replacement>)> {
        range_of(&self.memory().entries, uid).map(|(leader, own)| (*leader, Arc::clone(&own.replacement))).collect()
    }

    /// Those of all users that are not over.
    #[must_use]
    pub fn all(&self) -> Vec<(Leader, Arc<Replacement>)> {
        let memory = self.memory();
        let live = memory.entries.iter().filter(|(_, own)| !own.is_over);
        live.map(|(leader, own)| (*leader, Arc::clone(&own.replacement))).collect()
    }

    /// Reads a file if it could not be read before. The caller holds `changing`.
    fn read(&self, leader: Leader) -> Result<Option<Arc<Replacement>>, FileError> {
        if !self.memory().unread.contains(&leader) {
            return Ok(None);
        }
        let content = self.files.read(&file_name(leader))?;
        let found = content.and_then(|content| parse(&content)).map(Arc::new);
        let mut memory = self.memory();
        memory.unread.remove(&leader);
        if let Some(own) = &found {
            memory.entries.insert(leader, Entry::new(Arc::clone(own)));
        }
        Ok(found)
    }

    /// Makes a file as memory says. The caller holds `changing`.
    fn settle(&self, leader: Leader) -> Result<(), FileError> {
        let mut memory = self.memory();
        if !memory.stale.remove(&leader) {
            return Ok(());
        }
        let live = memory.entries.get(&leader).filter(|own| !own.is_over);
        let live = live.map(|own| Arc::clone(&own.replacement));
        drop(memory);
        let settled = match live {
            Some(own) => self.files.write(&file_name(leader), &bytes_of(&own)),
            None => self.files.remove(&file_name(leader)),
        };
        if settled.is_err() {
            self.memory().stale.insert(leader);
        }
        settled
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(content: &[u8]) -> Option<Replacement> {
    let own: Replacement = serde_json::from_slice(content).ok()?;
    Some(Replacement { text: TextHash::of(&own.sealed), ..own })
}

fn bytes_of(own: &Replacement) -> Vec<u8> {
    // Texts and numbers always have a JSON form.
    serde_json::to_vec(own).unwrap_or_default()
}

fn range_of(known: &BTreeMap<Leader, Entry>, uid: u32) -> impl Iterator<Item = (&Leader, &Entry)> {
    known.range(Leader { uid, job: 0 }..=Leader { uid, job: u32::MAX })
}

fn file_name(leader: Leader) -> String {
    format!("{}-{}.json", leader.uid, leader.job)
}

fn leader_of(name: &str) -> Option<Leader> {
    let (uid, job) = name.strip_suffix(".json")?.split_once('-')?;
    let leader = Leader { uid: uid.parse().ok()?, job: job.parse().ok()? };
    (file_name(leader) == name).then_some(leader)
}

/// Whether a file was being written: [`Directory::write_durably`] puts a dot before its name and a random number behind it.
fn is_unfinished(name: &str) -> bool {
    name.strip_prefix('.').and_then(|name| name.rsplit_once('.')).is_some_and(|(name, _)| leader_of(name).is_some())
}

#[cfg(test)]
mod tests;
