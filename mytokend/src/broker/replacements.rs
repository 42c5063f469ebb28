// SPDX-License-Identifier: MIT OR Apache-2.0
//! New credentials for jobs that wait, in place of those of their submissions. Memory has them all: a node's request must not wait for the
//! disk. One file for each, because a job that waits outlives a broker. They are ciphertext.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mytoken::private_files::{Directory, FileError, Owner};
use serde::{Deserialize, Serialize};

/// Most jobs of one user. An array is one job.
const MOST_OF_USER: usize = 1_000;

/// Most jobs.
const MOST: usize = 20_000;

/// Mode of the files.
const MODE: u32 = 0o600;

/// Largest file: a sealed text has at most 16 KiB.
const LIMIT: usize = 24 * 1024;

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
    /// Its handle.
    pub handle: String,
    /// When its sub-token was made, Unix seconds.
    pub made: u64,
    /// Expiry of its sub-token, Unix seconds.
    pub exp: u64,
    /// This broker revokes the sub-token if the job never starts.
    pub follows: bool,
    /// Handles of the credentials that it has replaced and that are revoked, or are being revoked.
    #[serde(default)]
    pub retired: Vec<String>,
}

impl Replacement {
    /// Whether it serves a job that brings the credential with this handle, made at `made`, Unix seconds. It does not if that is newer:
    /// `mytokenctl replace` has brought it to the job itself, which runs.
    #[must_use]
    pub fn replaces(&self, handle: &str, made: u64) -> bool {
        handle != self.handle && (made <= self.made || self.has_retired(handle))
    }

    /// Whether the sub-token with this handle is revoked already.
    #[must_use]
    pub fn has_retired(&self, handle: &str) -> bool {
        self.retired.iter().any(|retired| retired == handle)
    }

    fn retire(&mut self, handle: String) {
        if !self.has_retired(&handle) {
            self.retired.push(handle);
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
}

/// The new credentials.
#[derive(Debug)]
pub struct Replacements {
    directory: Directory,
    owner: Owner,
    /// Held while a file is changed. A disk that hangs holds it, and not `known`.
    changing: Mutex<()>,
    known: Mutex<BTreeMap<Leader, Entry>>,
}

impl Replacements {
    /// Those in this directory, and what is wrong with files that cannot be read.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn open(directory: Directory, owner: Owner) -> Result<(Self, Vec<String>), FileError> {
        let (mut known, mut unreadable) = (BTreeMap::new(), Vec::new());
        for name in directory.names()? {
            if name.starts_with('.') {
                // Left by a write that was interrupted. Nobody writes now.
                directory.remove(&name)?;
            }
            let Some(leader) = leader_of(&name) else { continue };
            let read = directory.read(&name, owner, MODE, LIMIT);
            match read.map(|bytes| bytes.and_then(|bytes| serde_json::from_slice::<Replacement>(&bytes).ok())) {
                Ok(Some(replacement)) => {
                    known.insert(leader, Entry { replacement: Arc::new(replacement), is_over: false });
                }
                Ok(None) => unreadable.push(format!("the content of {name} is damaged")),
                Err(error) => unreadable.push(error.to_string()),
            }
        }
        Ok((Self { directory, owner, changing: Mutex::default(), known: Mutex::new(known) }, unreadable))
    }

    /// Keeps a new credential, and returns the one that it replaces. It waits for the disk.
    ///
    /// # Errors
    /// [`ReplacementError`].
    pub fn put(&self, leader: Leader, mut new: Replacement) -> Result<Option<Arc<Replacement>>, ReplacementError> {
        let _changing = self.changing();
        let before = self.get(leader);
        if before.is_none() {
            let known = self.known();
            if known.len() >= MOST {
                return Err(ReplacementError::TooMany);
            }
            if range_of(&known, leader.uid).count() >= MOST_OF_USER {
                return Err(ReplacementError::TooManyOfUser);
            }
        }
        if let Some(before) = &before {
            new.retired.clone_from(&before.retired);
            new.retire(before.handle.clone());
        }
        self.write(leader, new)?;
        Ok(before)
    }

    /// The sub-token with this handle, which the new credential has replaced, is revoked. It waits for the disk.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn retire(&self, leader: Leader, handle: &str) -> Result<(), FileError> {
        let _changing = self.changing();
        let Some(known) = self.get(leader).filter(|known| !known.has_retired(handle)) else { return Ok(()) };
        let mut new = (*known).clone();
        new.retire(handle.to_owned());
        self.write(leader, new)
    }

    /// The sub-token of the new credential is revoked: its jobs have ended. It waits for the disk.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn forget(&self, leader: Leader, handle: &str) -> Result<(), FileError> {
        let _changing = self.changing();
        {
            let mut known = self.known();
            let own = known.get_mut(&leader).filter(|own| own.replacement.handle == handle && !own.is_over);
            let Some(own) = own else { return Ok(()) };
            own.is_over = true;
        }
        self.directory.remove(&file_name(leader)).map(drop)
    }

    /// Removes those whose sub-tokens have expired at `now`, Unix seconds. It waits for the disk.
    ///
    /// # Errors
    /// The first [`FileError`]. The others are removed.
    pub fn expire(&self, now: u64) -> Result<(), FileError> {
        let is_due = |own: &Entry| own.replacement.exp <= now && !own.is_over;
        let known = self.known();
        let due: Vec<Leader> = known.iter().filter(|(_, own)| is_due(own)).map(|(leader, _)| *leader).collect();
        drop(known);
        let remove = |leader: Leader| -> Result<(), FileError> {
            let _changing = self.changing();
            // It may have been replaced since.
            if self.known().get(&leader).is_some_and(is_due) {
                self.directory.remove(&file_name(leader))?;
                self.known().remove(&leader);
            }
            Ok(())
        };
        due.into_iter().map(remove).fold(Ok(()), Result::and)
    }

    /// Forgets those that are over, but for those that `is_needed` names.
    pub fn prune(&self, is_needed: impl Fn(Leader, &Replacement) -> bool) {
        self.known().retain(|leader, own| !own.is_over || is_needed(*leader, &own.replacement));
    }

    /// The new credential of a job.
    #[must_use]
    pub fn get(&self, leader: Leader) -> Option<Arc<Replacement>> {
        let known = self.known();
        let own = known.get(&leader).filter(|own| !own.is_over)?;
        Some(Arc::clone(&own.replacement))
    }

    /// Whether a job of this user has one.
    #[must_use]
    pub fn has_any(&self, uid: u32) -> bool {
        range_of(&self.known(), uid).any(|(_, own)| !own.is_over)
    }

    /// Those of a user, also those that are over.
    #[must_use]
    pub fn of_user(&self, uid: u32) -> Vec<(Leader, Arc<Replacement>)> {
        range_of(&self.known(), uid).map(|(leader, own)| (*leader, Arc::clone(&own.replacement))).collect()
    }

    /// Those of all users that are not over.
    #[must_use]
    pub fn all(&self) -> Vec<(Leader, Arc<Replacement>)> {
        let known = self.known();
        let live = known.iter().filter(|(_, own)| !own.is_over);
        live.map(|(leader, own)| (*leader, Arc::clone(&own.replacement))).collect()
    }

    fn write(&self, leader: Leader, new: Replacement) -> Result<(), FileError> {
        // Texts and numbers always have a JSON form.
        let bytes = serde_json::to_vec(&new).unwrap_or_default();
        self.directory.write_durably(&file_name(leader), &bytes, self.owner, MODE)?;
        self.known().insert(leader, Entry { replacement: Arc::new(new), is_over: false });
        Ok(())
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Leader, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn range_of(known: &BTreeMap<Leader, Entry>, uid: u32) -> impl Iterator<Item = (&Leader, &Entry)> {
    known.range(Leader { uid, job: 0 }..=Leader { uid, job: u32::MAX })
}

fn file_name(leader: Leader) -> String {
    format!("{}-{}.json", leader.uid, leader.job)
}

fn leader_of(name: &str) -> Option<Leader> {
    let (uid, job) = name.strip_suffix(".json")?.split_once('-')?;
    Some(Leader { uid: uid.parse().ok()?, job: job.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn replacement(handle: &str) -> Replacement {
        let sealed = format!("mt1.00000000.{handle}");
        Replacement { sealed, handle: handle.into(), made: 100, exp: 1_000, follows: true, retired: Vec::new() }
    }

    fn of(uid: u32, job: u32) -> Leader {
        Leader { uid, job }
    }

    fn open(path: &Path) -> (Replacements, Vec<String>) {
        Replacements::open(Directory::open(path).unwrap(), Owner::current()).unwrap()
    }

    fn handle(replacements: &Replacements, leader: Leader) -> Option<String> {
        replacements.get(leader).map(|own| own.handle.clone())
    }

    #[test]
    fn a_new_credential_serves_older_ones_and_those_that_it_has_retired() {
        let new = Replacement { retired: vec!["late".into()], ..replacement("new") };
        for (handle, made, expected) in [
            ("old", 0, true),
            ("old", 100, true),
            ("running", 101, false),
            ("late", 101, true),
            ("new", 100, false),
            ("new", 0, false),
        ] {
            assert_eq!(new.replaces(handle, made), expected, "{handle} {made}");
        }
        let mut many = replacement("new");
        (0..100).for_each(|number| many.retire(number.to_string()));
        many.retire("99".into());
        assert_eq!((many.retired.len(), many.has_retired("99"), many.has_retired("0")), (MOST_RETIRED, true, false));
    }

    #[test]
    fn a_new_credential_survives_the_broker_and_the_next_one_remembers_it() {
        let temp = tempfile::tempdir().unwrap();
        let (alice, bob) = (of(2001, 40), of(2002, 40));
        let (known, _) = open(temp.path());
        assert_eq!(known.put(alice, replacement("a")).unwrap(), None);
        known.put(bob, Replacement { exp: 2_000, ..replacement("b") }).unwrap();
        known.retire(alice, "old").unwrap();
        let before = known.put(alice, replacement("c")).unwrap().unwrap();
        assert_eq!(before.handle, "a");
        let file = temp.path().join("2001-40.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        drop(known);

        std::fs::write(temp.path().join("other"), "x").unwrap();
        std::fs::write(temp.path().join(".2001-41.json.00"), "x").unwrap();
        std::fs::write(temp.path().join("2001-42.json"), "{").unwrap();
        std::fs::set_permissions(temp.path().join("2001-42.json"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let (known, unreadable) = open(temp.path());
        assert_eq!(unreadable, ["the content of 2001-42.json is damaged"]);
        assert!(!temp.path().join(".2001-41.json.00").exists() && temp.path().join("other").exists());
        let own = known.get(alice).unwrap();
        assert_eq!((own.handle.as_str(), &own.retired[..]), ("c", &["old".to_owned(), "a".to_owned()][..]));
        assert!(known.has_any(2001) && known.has_any(2002) && !known.has_any(2003));
        assert_eq!((known.all().len(), known.of_user(2001).len()), (2, 1));

        known.expire(999).unwrap();
        assert_eq!(known.all().len(), 2);
        known.expire(1_000).unwrap();
        assert_eq!((handle(&known, alice), handle(&known, bob), file.exists()), (None, Some("b".into()), false));
    }

    #[test]
    fn one_that_is_over_has_no_file_and_is_known_until_nobody_needs_it() {
        let temp = tempfile::tempdir().unwrap();
        let (known, _) = open(temp.path());
        let alice = of(2001, 40);
        known.put(alice, replacement("a")).unwrap();
        known.forget(alice, "other").unwrap();
        assert_eq!(handle(&known, alice), Some("a".into()));
        known.forget(alice, "a").unwrap();
        known.forget(alice, "a").unwrap();
        assert_eq!((handle(&known, alice), known.has_any(2001), known.of_user(2001).len()), (None, false, 1));
        assert!(!temp.path().join("2001-40.json").exists());
        known.prune(|_, own| own.handle == "a");
        assert_eq!(known.of_user(2001).len(), 1);
        known.prune(|_, _| false);
        assert_eq!(known.of_user(2001).len(), 0);
    }

    #[test]
    fn a_user_cannot_fill_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let (known, _) = open(temp.path());
        let entry = || Entry { replacement: Arc::new(replacement("a")), is_over: false };
        let many = (0..1_000).map(|job| (of(1, job), entry()));
        known.known().extend(many);
        assert!(matches!(known.put(of(1, 5_000), replacement("b")), Err(ReplacementError::TooManyOfUser)));
        known.put(of(1, 7), replacement("b")).unwrap();
        known.put(of(2, 7), replacement("b")).unwrap();
        known.known().extend((0..20_000).map(|job| (of(3, job), entry())));
        assert!(matches!(known.put(of(4, 7), replacement("b")), Err(ReplacementError::TooMany)));
    }
}
