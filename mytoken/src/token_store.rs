// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user's token store: one file per mytoken server, `~/.config/mytoken/tokens/<server>.json`.
//!
//! A rotating token is dead the moment the server has answered, and two overlapping users of one knock each other out
//! (MT-43, MT-44). So the store's lock is held over the request *and* the storage of the successor, see [`AcquiredToken::store_successor`],
//! and storing is durable: temporary file, fsync, rename, fsync of the directory. Reservation for the successor is taken before the request:
//! on a full disk the token is not used at all.

mod disk;
mod entry;
mod error;

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use self::disk::{Disk, Reservation, damaged};
pub use self::entry::StoredToken;
pub use self::error::StoreError;
use super::private_files::Lock;
use crate::urls::ServerUrl;
use crate::{Deadline, Secret};

/// A successor has the claims of its predecessor; this much more is taken, in bytes.
const RESERVE_MARGIN: usize = 4096;

/// The store. Reading needs no lock, because files are replaced as a whole.
#[derive(Debug)]
pub struct TokenStore {
    disk: Disk,
}

impl TokenStore {
    /// Where a user's store is: `.config/mytoken/tokens` below the home directory.
    #[must_use]
    pub fn default_path(home: &Path) -> PathBuf {
        home.join(".config/mytoken/tokens")
    }

    /// Opens the store in `dir`, made with mode 0700 when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] when others can reach the directory or it is a symbolic link, [`StoreError::Unusable`] otherwise.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { disk: Disk::open(dir)? })
    }

    /// The token for `server`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Unsafe`] when others can reach the file, [`StoreError::Damaged`] when it is no entry for this server.
    pub fn token(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        let name = file_name(server);
        let Some(entry) = self.read(&name)? else { return Ok(None) };
        if entry.server != *server {
            return Err(damaged(&self.disk.path_of(&name), &format!("it holds a token for {}", entry.server)));
        }
        Ok(Some(entry))
    }

    /// All tokens, sorted by file name.
    ///
    /// # Errors
    /// As [`TokenStore::token`].
    pub fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        self.disk.names()?.iter().filter_map(|name| self.read(name).transpose()).collect()
    }

    /// Waits until `deadline` for the lock of the store. It ends with the guard or with the process.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another process held it all the time.
    pub fn lock(&self, deadline: Deadline) -> Result<LockedStore<'_>, StoreError> {
        Ok(LockedStore { store: self, _lock: self.disk.lock(deadline)? })
    }

    /// The token for `server`, to be presented to the server once: the store is locked from before it is read until the answer is
    /// stored when the token rotates, with room for its successor, and not at all when it does not.
    ///
    /// # Errors
    /// As [`TokenStore::token`] and [`TokenStore::lock`]; [`StoreError::Unusable`] when there is no room for a successor. Then the token must
    /// not be used.
    pub fn acquire(&self, server: &ServerUrl, deadline: Deadline) -> Result<Option<AcquiredToken<'_>>, StoreError> {
        match self.token(server)? {
            Some(entry) if entry.rotates() => {}
            Some(entry) => return Ok(Some(AcquiredToken { store: self, entry, guard: None, room: None, deadline })),
            None => return Ok(None),
        }
        let guard = self.lock(deadline)?;
        // Read again: whoever had the lock before has probably rotated it.
        let Some(entry) = guard.token(server)? else { return Ok(None) };
        let room = Some(self.disk.reserve(&file_name(server), self.bytes(&entry)?.len() + RESERVE_MARGIN)?);
        Ok(Some(AcquiredToken { store: self, entry, guard: Some(guard), room, deadline }))
    }

    fn bytes(&self, entry: &StoredToken) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let wrong =
            |error: serde_json::Error| damaged(&self.disk.path_of(&file_name(&entry.server)), &error.to_string());
        serde_json::to_vec_pretty(entry).map(Zeroizing::new).map_err(wrong)
    }

    fn read(&self, name: &str) -> Result<Option<StoredToken>, StoreError> {
        let Some(bytes) = self.disk.read(name)? else { return Ok(None) };
        // serde_json's messages can quote the text, which holds the token: say the place only.
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
    _lock: Lock,
}

impl LockedStore<'_> {
    /// As [`TokenStore::token`].
    ///
    /// # Errors
    /// As [`TokenStore::token`].
    pub fn token(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        self.store.token(server)
    }

    /// Stores `entry` in the place of the server's former one. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it cannot be written; then the former one is still there, unless only the
    /// directory's own sync failed.
    pub fn put(&mut self, entry: &StoredToken) -> Result<(), StoreError> {
        self.store.disk.replace(&file_name(&entry.server), &self.store.bytes(entry)?)
    }

    /// Whether there is room for an entry of `server`: to be asked before something that ends with [`LockedStore::put`].
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when there is none.
    pub fn check_room(&mut self, server: &ServerUrl) -> Result<(), StoreError> {
        let name = file_name(server);
        let room = self.store.disk.reserve(&name, 2 * RESERVE_MARGIN)?;
        self.store.disk.release(&name, room);
        Ok(())
    }

    /// Removes the server's token; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Unusable`].
    pub fn remove(&mut self, server: &ServerUrl) -> Result<bool, StoreError> {
        self.store.disk.remove(&file_name(server))
    }
}

/// A stored token in use.
#[derive(Debug)]
pub struct AcquiredToken<'store> {
    store: &'store TokenStore,
    entry: StoredToken,
    guard: Option<LockedStore<'store>>,
    room: Option<Reservation>,
    deadline: Deadline,
}

impl Drop for AcquiredToken<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.store.disk.release(&file_name(&self.entry.server), room);
        }
    }
}

impl AcquiredToken<'_> {
    /// What is stored.
    #[must_use]
    pub fn stored(&self) -> &StoredToken {
        &self.entry
    }

    /// Stores the successor that a server's answer brought: hand it to the calls of [`crate::server`] as
    /// `&mut |successor| held.store_successor(successor)`, with the same `held` whose token is presented.
    ///
    /// # Errors
    /// As [`TokenStore::lock`] and [`LockedStore::put`].
    pub fn store_successor(&mut self, successor: &Secret) -> Result<(), StoreError> {
        let mut entry = self.entry.clone();
        entry.succeed(successor);
        if let Some(guard) = &mut self.guard {
            match self.room.take() {
                Some(room) => {
                    self.store.disk.replace_in(&file_name(&entry.server), room, &self.store.bytes(&entry)?)?;
                }
                // The second attempt.
                None => guard.put(&entry)?,
            }
        } else {
            // A token that is said not to rotate did. Somebody may have logged in meanwhile, and theirs stays.
            let mut guard = self.store.lock(self.deadline)?;
            if guard.token(&entry.server)?.is_some_and(|stored| stored.mytoken == self.entry.mytoken) {
                guard.put(&entry)?;
            }
        }
        self.entry = entry;
        Ok(())
    }
}

/// `mytoken.example.org.json`, `localhost:8443%2Fpath.json`, `http:%2F%2Flocalhost:8000.json`: readable and injective.
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
