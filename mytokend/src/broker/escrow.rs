// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sealed credentials of submissions that the broker keeps until their jobs need them: jobs whose environment was replaced bring only a
//! handle. They are ciphertext. One file for each, because a pending job outlives a broker.
//!
//! Memory knows which texts there are. Its lock is never held while the disk works, because a disk can hang.

mod known_texts;
mod text_files;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mytoken::private_files::{Directory, FileError, Owner};
use mytoken_wire::{Handle, sealed};
use serde::{Deserialize, Serialize};

use super::status::EscrowStatus;
use super::submission_key::{SubmissionKey, TextHash};
#[cfg(test)]
pub(super) use known_texts::MOST as MOST_TEXTS;
use known_texts::{Known, MOST, MOST_OF_HOST, MOST_OF_USER, MOST_OF_USER_ON_HOST, Texts};

pub use text_files::{TextDirectory, TextFiles};

/// Where a text is kept. Jobs bring the handle alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextKey {
    /// The user.
    pub uid: u32,
    /// The handle of the submission.
    pub handle: String,
}

/// Why a text is not kept. A sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The handle is in use.
    #[error("another credential is kept under this handle")]
    InUse,
    /// A request or a removal of the same handle has not ended: the disk is slow.
    #[error("the broker is still writing or removing a credential under this handle")]
    Busy,
    /// The user has too many.
    #[error("the broker keeps {MOST_OF_USER} credentials of this user already")]
    TooManyOfUser,
    /// This host has given too many of the user.
    #[error("the broker keeps {MOST_OF_USER_ON_HOST} credentials of this user from this host already")]
    TooManyOfUserOnHost,
    /// This host has given too many.
    #[error("the broker keeps {MOST_OF_HOST} credentials from this host already")]
    TooManyOfHost,
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
    /// The host that gave it. Only this one may say that it is not needed any more.
    #[serde(default)]
    pub host: String,
    /// The URL of the mytoken server by whose clock it expires. Empty: an earlier release has kept the text.
    #[serde(default)]
    pub server: String,
}

/// The texts. Memory holds their names and expiries only.
#[derive(Debug)]
pub struct Escrow {
    files: Box<dyn TextFiles>,
    texts: Mutex<Texts>,
}

/// A place for a text.
pub enum Reserved {
    /// One is kept under this key already: [`Escrow::check_same`].
    Kept,
    /// It is free. Whoever waits for the writer holds the claim.
    Free(Writer, Claim),
}

impl Escrow {
    /// The texts in this directory.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn open(directory: Directory, owner: Owner) -> Result<Self, FileError> {
        Self::with_files(Box::new(TextDirectory::new(directory, owner)))
    }

    /// The texts in these files.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn with_files(files: Box<dyn TextFiles>) -> Result<Self, FileError> {
        let mut texts = Texts::default();
        for name in files.names()? {
            if is_unfinished(&name) {
                // The broker was killed while it wrote. If this fails, the next start tries again.
                let _ = files.remove(&name);
            }
            let Some(key) = key_of(&name) else { continue };
            // One that cannot be read is kept, and counts: it may be the disk.
            let content = files.read(&name).ok().flatten();
            let bytes = content.as_ref().map_or(0, |content| content.len() as u64);
            let text = content.and_then(|content| parse(&content));
            let hash = text.as_ref().map(|text| TextHash::of(&text.sealed));
            let (exp, host, server) = text
                .map_or_else(|| (u64::MAX, String::new(), String::new()), |text| (text.exp, text.host, text.server));
            texts.insert(key, Known { text: hash, exp, bytes, host, server, writer: None, is_over: false });
        }
        Ok(Self { files, texts: Mutex::new(texts) })
    }

    /// Finds a place for a text. It does not wait for the disk.
    ///
    /// # Errors
    /// [`EscrowError`].
    pub fn reserve(self: &Arc<Self>, key: &TextKey, text: &KeptText) -> Result<Reserved, EscrowError> {
        // Texts and numbers always have a JSON form.
        let bytes = serde_json::to_vec(text).unwrap_or_default();
        let mut texts = self.texts();
        match texts.known.get(key) {
            Some(known) if known.is_kept() => return Ok(Reserved::Kept),
            Some(_) => return Err(EscrowError::Busy),
            None => {}
        }
        texts.check_room(key.uid, &text.host)?;
        texts.last_writer += 1;
        let number = texts.last_writer;
        let known = Known {
            text: Some(TextHash::of(&text.sealed)),
            exp: text.exp,
            bytes: bytes.len() as u64,
            host: text.host.clone(),
            server: text.server.clone(),
            writer: Some(number),
            is_over: false,
        };
        texts.insert(key.clone(), known);
        drop(texts);
        let writer = Writer { escrow: Arc::clone(self), key: key.clone(), bytes, is_written: false };
        Ok(Reserved::Free(writer, Claim { escrow: Arc::clone(self), key: key.clone(), number }))
    }

    /// Compares a text with the one that is kept under this key. It waits for the disk.
    ///
    /// # Errors
    /// [`EscrowError::InUse`] if that is another one, or [`EscrowError::File`].
    pub fn check_same(&self, key: &TextKey, sealed: &str) -> Result<(), EscrowError> {
        let same = self.get(key)?.is_some_and(|kept| kept.sealed == sealed);
        if same { Ok(()) } else { Err(EscrowError::InUse) }
    }

    /// The text that is kept under this key. It waits for the disk.
    ///
    /// # Errors
    /// [`FileError`], when there is a file that cannot be used.
    pub fn get(&self, key: &TextKey) -> Result<Option<KeptText>, FileError> {
        if !self.has(key) {
            return Ok(None);
        }
        Ok(self.files.read(&file_name(key))?.and_then(|content| parse(&content)))
    }

    /// Whether a text is kept under this key, as memory says.
    #[must_use]
    pub fn has(&self, key: &TextKey) -> bool {
        self.texts().known.get(key).is_some_and(Known::is_kept)
    }

    /// The keys of all texts that are kept.
    #[must_use]
    pub fn keys(&self) -> Vec<TextKey> {
        let texts = self.texts();
        texts.known.iter().filter(|(_, known)| known.is_kept()).map(|(key, _)| key.clone()).collect()
    }

    /// The submission of the text that is kept under this key, as memory says.
    #[must_use]
    pub fn submission(&self, key: &TextKey) -> Option<SubmissionKey> {
        let text = self.texts().known.get(key).filter(|known| known.is_kept())?.text?;
        Some(SubmissionKey { uid: key.uid, handle: key.handle.clone(), text })
    }

    /// How many texts are kept, and more about them. `on`: whether new ones are taken.
    #[must_use]
    pub fn status(&self, on: bool) -> EscrowStatus {
        let texts = self.texts();
        let mut status = EscrowStatus { on, ..EscrowStatus::default() };
        for known in texts.known.values().filter(|known| known.is_kept()) {
            status.texts += 1;
            status.bytes = status.bytes.saturating_add(known.bytes);
            // Of a damaged one the expiry is not known.
            if known.exp != u64::MAX {
                status.first_expiry = Some(status.first_expiry.map_or(known.exp, |first| first.min(known.exp)));
            }
        }
        status
    }

    /// The submission is over: nobody gets its text any more. The next sweep removes the file.
    pub fn forget(&self, key: &TextKey) {
        if let Some(known) = self.texts().known.get_mut(key) {
            known.is_over = true;
        }
    }

    /// The same of the text of this submission. That of another one with the same handle stays.
    pub fn forget_submission(&self, submission: &SubmissionKey) {
        let key = TextKey { uid: submission.uid, handle: submission.handle.clone() };
        if let Some(known) = self.texts().known.get_mut(&key) {
            known.is_over |= known.text.is_none_or(|text| text == submission.text);
        }
    }

    /// The same, if it was `host` that gave the text. Returns whether nothing is kept under this key.
    #[must_use]
    pub fn forget_of(&self, host: &str, key: &TextKey) -> bool {
        let mut texts = self.texts();
        let Some(known) = texts.known.get_mut(key) else { return true };
        known.is_over |= known.host == host;
        known.is_over
    }

    /// Forgets the texts whose sub-tokens have expired. `time_at` tells the time of day at a mytoken server, Unix seconds.
    pub fn expire(&self, time_at: impl Fn(&str) -> u64) {
        for known in self.texts().known.values_mut() {
            known.is_over |= known.exp <= time_at(&known.server);
        }
    }

    /// Removes the files of texts that are not needed any more. One thread calls it, which waits for the disk.
    ///
    /// # Errors
    /// The last [`FileError`]. The other files are removed, and this one is tried again.
    pub fn sweep(&self) -> Result<(), FileError> {
        let is_due = |known: &Known| known.is_over && known.writer.is_none();
        let texts = self.texts();
        let due: Vec<TextKey> =
            texts.known.iter().filter(|(_, known)| is_due(known)).map(|(key, _)| key.clone()).collect();
        drop(texts);
        let mut swept = Ok(());
        for key in due {
            match self.files.remove(&file_name(&key)) {
                Ok(()) => self.texts().remove(&key),
                Err(error) => swept = Err(error),
            }
        }
        swept
    }

    /// A write has ended. What is left of one that failed is swept.
    fn written(&self, key: &TextKey, is_written: bool) {
        if let Some(known) = self.texts().known.get_mut(key) {
            known.writer = None;
            known.is_over |= !is_written;
        }
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a text to its place. While it lives, nobody else writes or removes it.
pub struct Writer {
    escrow: Arc<Escrow>,
    key: TextKey,
    bytes: Vec<u8>,
    is_written: bool,
}

impl Writer {
    /// Writes it, and waits for the disk.
    ///
    /// # Errors
    /// [`EscrowError::File`].
    pub fn write(mut self) -> Result<(), EscrowError> {
        self.escrow.files.write(&file_name(&self.key), &self.bytes)?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.escrow.written(&self.key, self.is_written);
    }
}

/// Held by whoever waits for a [`Writer`]. Without it, a text that is written later is removed: its host was told that it is not kept.
pub struct Claim {
    escrow: Arc<Escrow>,
    key: TextKey,
    number: u64,
}

impl Claim {
    /// Waits no longer. Returns whether the text is kept all the same: it was written at the last moment.
    #[must_use]
    pub fn give_up(&self) -> bool {
        let mut texts = self.escrow.texts();
        let Some(known) = texts.known.get_mut(&self.key) else { return false };
        known.is_over |= known.writer == Some(self.number);
        known.is_kept()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = self.give_up();
    }
}

fn parse(content: &[u8]) -> Option<KeptText> {
    let text: KeptText = serde_json::from_slice(content).ok()?;
    sealed::parse(&text.sealed).is_ok().then_some(text)
}

fn file_name(key: &TextKey) -> String {
    format!("{}-{}.json", key.uid, key.handle)
}

/// The key of a file. Handles are checked before they become names.
fn key_of(name: &str) -> Option<TextKey> {
    let (uid, handle) = name.strip_suffix(".json")?.split_once('-')?;
    Some(TextKey { uid: uid.parse().ok()?, handle: Handle::parse(handle)?.to_string() })
}

/// Whether a file was being written: [`Directory::write_durably`] puts a dot before its name and a random number behind it.
fn is_unfinished(name: &str) -> bool {
    name.strip_prefix('.').and_then(|name| name.rsplit_once('.')).is_some_and(|(name, _)| key_of(name).is_some())
}

#[cfg(test)]
mod tests;
