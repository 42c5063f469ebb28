// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user's token store: one file per mytoken server, `~/.config/mytoken/tokens/<server>.json`.
//!
//! When a token rotates, the server's answer invalidates the old token, and two simultaneous uses invalidate each other's successor
//! (MT-43, MT-44). So the store stays locked during the request *and* until the successor is stored, see
//! [`AcquiredToken::store_successor`]. The successor is stored durably: temporary file, fsync, rename, fsync of the directory. Disk space
//! for it is reserved before the request, so that a token is not used if the disk is full.

mod disk;
mod entry;
mod error;

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use self::disk::{Coming, Disk, Reservation, damaged};
pub use self::entry::{StoredToken, Trouble, UsedFor};
pub use self::error::StoreError;
use crate::private_files::Lock;
use crate::server::ServerError;
use crate::urls::ServerUrl;
use crate::{Clock, Deadline, Error, Secret, SystemClock};

/// Time limit for the lock, to note what a request said about a token.
const NOTE_TIME: Duration = Duration::from_secs(1);

/// Bytes that are reserved beyond the size of the current token. A successor has the claims of its predecessor, so this is enough.
const RESERVE_MARGIN: usize = 4096;

/// The store. Reading needs no lock, because a write replaces the whole file.
#[derive(Debug)]
pub struct TokenStore {
    disk: Disk,
}

impl TokenStore {
    /// The directory of a user's store: `.config/mytoken/tokens` below the home directory.
    #[must_use]
    pub fn default_path(home: &Path) -> PathBuf {
        home.join(".config/mytoken/tokens")
    }

    /// Opens the store in `dir`. A missing directory is made with mode 0700.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] if others can access the directory or it is a symbolic link, [`StoreError::Unusable`] otherwise.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { disk: Disk::open(dir)? })
    }

    /// The token for `server`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] if others can access the file, [`StoreError::Damaged`] if it is not a token for this server.
    pub fn token(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        Ok(self.entry(server)?.map(|entry| self.after_crash(entry)))
    }

    /// The entry on disk.
    fn entry(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        let name = file_name(server);
        let Some(entry) = self.read(&name)? else { return Ok(None) };
        if entry.server != *server {
            return Err(damaged(&self.disk.path_of(&name), &format!("it holds a token for {}", entry.server)));
        }
        Ok(Some(entry))
    }

    /// The entry as the next holder of the lock finds it, if the process that used it was killed.
    fn after_crash(&self, entry: StoredToken) -> StoredToken {
        let name = file_name(&entry.server);
        let is_left_over = || self.disk.has_successor(&name);
        if !entry.rotates() || !is_left_over() {
            return entry;
        }
        // Nobody holds the lock, so that the space is not of somebody who is using it. It may have been freed meanwhile.
        let lock = self.disk.lock(Deadline::after(Duration::ZERO));
        if lock.is_ok() && is_left_over() { self.settled(entry) } else { entry }
    }

    /// The entry after a process was killed that used it. The caller holds the lock, and there is space for a successor: a whole one is the
    /// token from now on; otherwise nobody knows whether there is one, and the token is in doubt.
    fn settled(&self, entry: StoredToken) -> StoredToken {
        match self.left_over(&entry) {
            Some(successor) => successor,
            None => StoredToken { trouble: entry.trouble.or(Some(Trouble::AnswerLost)), ..entry },
        }
    }

    /// The whole successor of `entry` that a killed process has written and not put into its place.
    fn left_over(&self, entry: &StoredToken) -> Option<StoredToken> {
        let bytes = self.disk.read_successor(&file_name(&entry.server)).ok().flatten()?;
        serde_json::from_slice(&bytes).ok().filter(|left: &StoredToken| left.is_successor_of(entry))
    }

    /// All tokens, sorted by file name.
    ///
    /// # Errors
    /// As [`TokenStore::token`].
    pub fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let read = |name: &String| Ok(self.read(name)?.map(|entry| self.after_crash(entry)));
        self.disk.names()?.iter().filter_map(|name| read(name).transpose()).collect()
    }

    /// Waits until `deadline` for the lock of the store. The lock is released when the guard is dropped or the process ends.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another process held the lock until `deadline`.
    pub fn lock(&self, deadline: Deadline) -> Result<LockedStore<'_>, StoreError> {
        Ok(LockedStore { store: self, room: None, _lock: self.disk.lock(deadline)? })
    }

    /// The token for `server`, for one request. If the token rotates, the store is locked until the [`AcquiredToken`] is dropped, and disk
    /// space for the successor is reserved. A token that does not rotate needs neither.
    ///
    /// # Errors
    /// As [`TokenStore::acquire_to_ask`]; [`StoreError::Unusable`] if there is no disk space for a successor. The token must not be used
    /// then.
    pub fn acquire(&self, server: &ServerUrl, deadline: Deadline) -> Result<Option<AcquiredToken<'_>>, StoreError> {
        let Some(mut acquired) = self.acquire_to_ask(server, deadline)? else { return Ok(None) };
        if acquired.guard.is_some() {
            let room = self.bytes(&acquired.entry)?.len() + RESERVE_MARGIN;
            acquired.reservation = Some(self.disk.reserve(&file_name(server), Coming::Successor, room)?);
        }
        Ok(Some(acquired))
    }

    /// As [`TokenStore::acquire`], for a request that replaces no token: without room for a successor, so that nothing is left in doubt if
    /// this process is killed.
    ///
    /// # Errors
    /// As [`TokenStore::token`] and [`TokenStore::lock`]; [`StoreError::Dangerous`] if nobody may present the token.
    pub fn acquire_to_ask(
        &self,
        server: &ServerUrl,
        deadline: Deadline,
    ) -> Result<Option<AcquiredToken<'_>>, StoreError> {
        let acquired =
            |entry, guard| AcquiredToken { store: self, entry, guard, reservation: None, deadline, replaced: false };
        match self.token(server)? {
            Some(entry) if entry.rotates() => {}
            Some(entry) => return Ok(Some(acquired(entry, None))),
            None => return Ok(None),
        }
        let mut guard = self.lock(deadline)?;
        guard.settle_crash(server)?;
        // Read it again: another process may have rotated the token while this one waited for the lock.
        match guard.token(server)? {
            Some(entry) if entry.is_dangerous() => Err(StoreError::Dangerous { server: server.to_string() }),
            entry => Ok(entry.map(|entry| acquired(entry, Some(guard)))),
        }
    }

    fn bytes(&self, entry: &StoredToken) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let wrong =
            |error: serde_json::Error| damaged(&self.disk.path_of(&file_name(&entry.server)), &error.to_string());
        serde_json::to_vec_pretty(entry).map(Zeroizing::new).map_err(wrong)
    }

    fn read(&self, name: &str) -> Result<Option<StoredToken>, StoreError> {
        let Some(bytes) = self.disk.read(name)? else { return Ok(None) };
        // serde_json's messages can quote the text, which contains the token. So only the position is shown.
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let place = format!("line {}, column {}: {:?} error", error.line(), error.column(), error.classify());
            damaged(&self.disk.path_of(name), &place)
        })
    }
}

/// The locked store.
#[derive(Debug)]
pub struct LockedStore<'store> {
    store: &'store TokenStore,
    /// Disk space for a token of one server.
    room: Option<(ServerUrl, Reservation)>,
    _lock: Lock,
}

impl Drop for LockedStore<'_> {
    fn drop(&mut self) {
        self.release_room();
    }
}

impl LockedStore<'_> {
    /// As [`TokenStore::token`].
    ///
    /// # Errors
    /// As [`TokenStore::token`].
    pub fn token(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        let entry = self.store.entry(server)?;
        Ok(entry.map(|entry| {
            let is_left_over = entry.rotates() && self.store.disk.has_successor(&file_name(server));
            if is_left_over { self.store.settled(entry) } else { entry }
        }))
    }

    /// Replaces the token for the entry's server. The new token is durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if it cannot be written. The former token is then still stored, unless only the sync of the directory
    /// failed.
    pub fn put(&mut self, entry: &StoredToken) -> Result<(), StoreError> {
        let (name, bytes) = (file_name(&entry.server), self.store.bytes(entry)?);
        match self.room.take_if(|(server, _)| *server == entry.server) {
            Some((_, reservation)) => self.store.disk.replace_in(&name, reservation, &bytes)?,
            None => self.store.disk.replace(&name, &bytes)?,
        }
        // That of the former token.
        self.store.disk.forget_successor(&name);
        Ok(())
    }

    /// Writes down what [`LockedStore::token`] says after a process was killed.
    fn settle_crash(&mut self, server: &ServerUrl) -> Result<(), StoreError> {
        let name = file_name(server);
        let Some(entry) = self.store.entry(server)?.filter(StoredToken::rotates) else { return Ok(()) };
        if !self.store.disk.has_successor(&name) {
            return Ok(());
        }
        match self.store.left_over(&entry) {
            Some(_) => self.store.disk.take_successor(&name),
            None => self.put(&self.store.settled(entry)),
        }
    }

    /// Checks that there is disk space for a token of `server`. Call it before a login whose token is stored by [`LockedStore::put`].
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if there is none.
    pub fn check_room(&mut self, server: &ServerUrl) -> Result<(), StoreError> {
        self.keep_room(server)?;
        self.release_room();
        Ok(())
    }

    /// Keeps disk space for a token of `server` until [`LockedStore::put`] or the end of the lock.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if there is none.
    pub fn keep_room(&mut self, server: &ServerUrl) -> Result<(), StoreError> {
        self.release_room();
        let reservation = self.store.disk.reserve(&file_name(server), Coming::Entry, 2 * RESERVE_MARGIN)?;
        self.room = Some((server.clone(), reservation));
        Ok(())
    }

    fn release_room(&mut self) {
        if let Some((_, reservation)) = self.room.take() {
            self.store.disk.release(reservation);
        }
    }

    /// Removes the server's token. Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn remove(&mut self, server: &ServerUrl) -> Result<bool, StoreError> {
        let name = file_name(server);
        self.store.disk.forget_successor(&name);
        self.store.disk.remove(&name)
    }
}

/// A stored token that is being used for a request.
#[derive(Debug)]
pub struct AcquiredToken<'store> {
    store: &'store TokenStore,
    entry: StoredToken,
    guard: Option<LockedStore<'store>>,
    reservation: Option<Reservation>,
    deadline: Deadline,
    /// Whether the server has sent a successor.
    replaced: bool,
}

impl Drop for AcquiredToken<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.store.disk.release(reservation);
        }
    }
}

impl AcquiredToken<'_> {
    /// The token as it is stored.
    #[must_use]
    pub fn stored(&self) -> &StoredToken {
        &self.entry
    }

    /// Notes in the store what the outcome of a request says about the token. What cannot be written is not noted: the next use tells it.
    pub fn ended<T>(&mut self, outcome: &Result<T, Error>, used_for: UsedFor) {
        let trouble = match outcome {
            Ok(_) => None,
            Err(error) if error.is_acceptance() => None,
            // The next use may be within its time.
            Err(Error::Server(ServerError::TokenRefused { .. })) if self.entry.begins_later(SystemClock.now()) => {
                return;
            }
            Err(Error::Server(ServerError::TokenRefused { .. } | ServerError::RotatedTokenNotStored { .. })) => {
                Some(Trouble::Refused)
            }
            // With a successor, the answer has come.
            Err(error) if !self.replaced && used_for.replaces(&self.entry) && error.is_answer_lost() => {
                Some(Trouble::AnswerLost)
            }
            // It says nothing about the token.
            Err(_) => return,
        };
        if trouble != self.entry.trouble && self.note(trouble).is_ok() {
            self.entry.trouble = trouble;
        }
    }

    /// Writes it to the entry on disk, if that has this token: a login may have put another one there, or a successor that is not durable.
    fn note(&mut self, trouble: Option<Trouble>) -> Result<(), StoreError> {
        // Nothing is said of the former one where the next use finds its successor, which only could not be put into its place.
        if self.guard.is_some() && self.store.left_over(&self.entry).is_some() {
            return Ok(());
        }
        let name = file_name(&self.entry.server);
        let noted = |stored: Option<StoredToken>| {
            let stored = stored.filter(|stored| stored.mytoken == self.entry.mytoken)?;
            Some(StoredToken { trouble, ..stored })
        };
        match &mut self.guard {
            Some(guard) => {
                let Some(noted) = noted(self.store.entry(&self.entry.server)?) else { return Ok(()) };
                match self.reservation.take() {
                    Some(reservation) => self.store.disk.replace_in(&name, reservation, &self.store.bytes(&noted)?),
                    None => guard.put(&noted),
                }
            }
            None => {
                let mut guard = self.store.lock(Deadline::after(NOTE_TIME))?;
                match noted(self.store.entry(&self.entry.server)?) {
                    Some(noted) => guard.put(&noted),
                    None => Ok(()),
                }
            }
        }
    }

    /// Stores the successor from a server's answer. Pass it to the requests of [`crate::server`] that use this token, as
    /// `&mut |successor| Ok(acquired.store_successor(successor)?)`.
    ///
    /// # Errors
    /// As [`TokenStore::lock`] and [`LockedStore::put`].
    pub fn store_successor(&mut self, successor: &Secret) -> Result<(), StoreError> {
        let mut entry = self.entry.clone();
        entry.set_successor(successor);
        self.replaced = true;
        if let Some(guard) = &mut self.guard {
            match self.reservation.take() {
                Some(reservation) => {
                    self.store.disk.replace_in(&file_name(&entry.server), reservation, &self.store.bytes(&entry)?)?;
                }
                // A second attempt, or a second rotation.
                None => guard.put(&entry)?,
            }
        } else {
            // The token rotated although its entry says that it does not. If the user has logged in meanwhile, the new login stays.
            let mut guard = self.store.lock(self.deadline)?;
            if guard.token(&entry.server)?.is_some_and(|stored| stored.mytoken == self.entry.mytoken) {
                guard.put(&entry)?;
            }
        }
        self.entry = entry;
        Ok(())
    }
}

/// A readable file name, different for each server: `mytoken.example.org.json`, `localhost:8443%2Fpath.json`,
/// `http:%2F%2Flocalhost:8000.json`.
fn file_name(server: &ServerUrl) -> String {
    let url = server.to_string();
    let rest = url.strip_prefix("https://").unwrap_or(&url);
    let mut name = String::with_capacity(rest.len() + 5);
    for byte in rest.bytes() {
        if byte.is_ascii_alphanumeric() || b":-_[]".contains(&byte) || (byte == b'.' && !name.is_empty()) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name + ".json"
}

#[cfg(test)]
mod tests;
