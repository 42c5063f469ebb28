// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sealed credentials of submissions that the broker keeps until their jobs need them: jobs whose environment was replaced bring only a
//! handle. They are ciphertext. One file for each, because a pending job outlives a broker.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mytoken::private_files::{Directory, FileError, Owner};
use mytoken_wire::{Handle, sealed};
use serde::{Deserialize, Serialize};

use super::submission::SubmissionKey;

/// Most texts of one user. Submissions of a loop share one.
const MOST_OF_USER: usize = 4_000;

/// Most texts.
const MOST: usize = 200_000;

/// Mode of the files.
const MODE: u32 = 0o600;

/// Largest file: a sealed text has at most 16 KiB.
const LIMIT: usize = 24 * 1024;

/// Why a text is not kept. A sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The handle is in use.
    #[error("another credential is kept under this handle")]
    InUse,
    /// The user has too many.
    #[error("the broker keeps {MOST_OF_USER} credentials of this user already")]
    TooManyOfUser,
    /// There are too many.
    #[error("the broker keeps {MOST} credentials already")]
    TooMany,
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptText {
    /// The sealed text.
    pub sealed: String,
    /// Expiry of its sub-token, Unix seconds.
    pub exp: u64,
    /// This broker revokes the sub-token if no job ever starts with it.
    pub follows: bool,
}

/// The texts. Memory holds their names and expiries only.
#[derive(Debug)]
pub struct Escrow {
    directory: Directory,
    owner: Owner,
    known: Mutex<HashMap<SubmissionKey, u64>>,
}

impl Escrow {
    /// The texts in this directory.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn open(directory: Directory, owner: Owner) -> Result<Self, FileError> {
        let escrow = Self { directory, owner, known: Mutex::default() };
        let mut known = HashMap::new();
        for name in escrow.directory.names()? {
            let Some(key) = key_of(&name) else { continue };
            // One that cannot be read is kept, and counts: it may be the disk.
            let exp = escrow.get(&key).ok().flatten().map_or(u64::MAX, |kept| kept.exp);
            known.insert(key, exp);
        }
        *escrow.known() = known;
        Ok(escrow)
    }

    /// Keeps a text. The same text again is no error.
    ///
    /// # Errors
    /// [`EscrowError`].
    pub fn keep(&self, key: &SubmissionKey, text: &KeptText) -> Result<(), EscrowError> {
        // The lock is held for the write: two hosts could bring two texts under one handle.
        let mut known = self.known();
        if known.contains_key(key) {
            let same = self.get(key)?.is_some_and(|kept| kept.sealed == text.sealed);
            return if same { Ok(()) } else { Err(EscrowError::InUse) };
        }
        if known.len() >= MOST {
            return Err(EscrowError::TooMany);
        }
        if known.keys().filter(|other| other.uid == key.uid).count() >= MOST_OF_USER {
            return Err(EscrowError::TooManyOfUser);
        }
        // Texts and numbers always have a JSON form.
        let bytes = serde_json::to_vec(text).unwrap_or_default();
        self.directory.write_durably(&file_name(key), &bytes, self.owner, MODE)?;
        known.insert(key.clone(), text.exp);
        Ok(())
    }

    /// The text that is kept under this key.
    ///
    /// # Errors
    /// [`FileError`], when there is a file that cannot be used.
    pub fn get(&self, key: &SubmissionKey) -> Result<Option<KeptText>, FileError> {
        let name = file_name(key);
        let Some(bytes) = self.directory.read(&name, self.owner, MODE, LIMIT)? else { return Ok(None) };
        let text = serde_json::from_slice(&bytes).ok();
        Ok(text.filter(|text: &KeptText| sealed::parse(&text.sealed).is_ok()))
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> Vec<SubmissionKey> {
        self.known().keys().cloned().collect()
    }

    /// Number of texts.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// The submission is over: its text is not needed any more.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn forget(&self, key: &SubmissionKey) -> Result<(), FileError> {
        if self.known().remove(key).is_some() {
            self.directory.remove(&file_name(key))?;
        }
        Ok(())
    }

    /// Removes the texts whose sub-tokens have expired at `now`, Unix seconds.
    ///
    /// # Errors
    /// The first [`FileError`]. The others are removed.
    pub fn expire(&self, now: u64) -> Result<(), FileError> {
        let is_over = |(_, exp): &(&SubmissionKey, &u64)| **exp <= now;
        let over: Vec<SubmissionKey> = self.known().iter().filter(is_over).map(|(key, _)| key.clone()).collect();
        over.iter().map(|key| self.forget(key)).fold(Ok(()), Result::and)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SubmissionKey, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_name(key: &SubmissionKey) -> String {
    format!("{}-{}.json", key.uid, key.handle)
}

/// The key of a file. Handles are checked before they become names.
fn key_of(name: &str) -> Option<SubmissionKey> {
    let (uid, handle) = name.strip_suffix(".json")?.split_once('-')?;
    Some(SubmissionKey { uid: uid.parse().ok()?, handle: Handle::parse(handle)?.to_string() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn text(sealed: &str) -> KeptText {
        KeptText { sealed: format!("mt1.00000000.{sealed}"), exp: 1_000, follows: true }
    }

    fn key(uid: u32, digit: char) -> SubmissionKey {
        SubmissionKey { uid, handle: digit.to_string().repeat(32) }
    }

    fn open(path: &std::path::Path) -> Escrow {
        Escrow::open(Directory::open(path).unwrap(), Owner::current()).unwrap()
    }

    #[test]
    fn a_text_survives_the_broker_and_ends_with_its_sub_token() {
        let temp = tempfile::tempdir().unwrap();
        let (alice, bob) = (key(2001, 'a'), key(2002, 'a'));
        let escrow = open(temp.path());
        escrow.keep(&alice, &text("AAAA")).unwrap();
        escrow.keep(&alice, &text("AAAA")).unwrap();
        assert!(matches!(escrow.keep(&alice, &text("BBBB")), Err(EscrowError::InUse)));
        escrow.keep(&bob, &KeptText { exp: 2_000, ..text("BBBB") }).unwrap();
        let file = temp.path().join(format!("2001-{}.json", "a".repeat(32)));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        drop(escrow);

        std::fs::write(temp.path().join("other"), "x").unwrap();
        let escrow = open(temp.path());
        assert_eq!((escrow.count(), escrow.get(&alice).unwrap()), (2, Some(text("AAAA"))));
        assert_eq!(escrow.get(&key(2001, 'b')).unwrap(), None);
        escrow.expire(999).unwrap();
        assert_eq!(escrow.count(), 2);
        escrow.expire(1_000).unwrap();
        assert_eq!((escrow.keys(), file.exists()), (vec![bob.clone()], false));
        escrow.forget(&bob).unwrap();
        escrow.forget(&bob).unwrap();
        assert_eq!((escrow.count(), escrow.get(&bob).unwrap()), (0, None));
    }

    #[test]
    fn a_file_that_cannot_be_read_stays() {
        let temp = tempfile::tempdir().unwrap();
        let broken = key(2001, 'c');
        let escrow = open(temp.path());
        escrow.keep(&broken, &text("AAAA")).unwrap();
        std::fs::write(temp.path().join(file_name(&broken)), "{").unwrap();
        let escrow = open(temp.path());
        assert_eq!(escrow.get(&broken).unwrap(), None);
        assert!(matches!(escrow.keep(&broken, &text("AAAA")), Err(EscrowError::InUse)));
        escrow.expire(1 << 40).unwrap();
        assert_eq!(escrow.count(), 1);
    }

    #[test]
    fn a_user_cannot_fill_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let escrow = open(temp.path());
        let many = (0..MOST_OF_USER).map(|number| (SubmissionKey { uid: 1, handle: format!("{number:032x}") }, 1));
        escrow.known().extend(many);
        assert!(matches!(escrow.keep(&key(1, 'f'), &text("AAAA")), Err(EscrowError::TooManyOfUser)));
        escrow.keep(&key(2, 'f'), &text("AAAA")).unwrap();
    }
}
