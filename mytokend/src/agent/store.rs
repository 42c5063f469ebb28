// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores changed leases. The disk may hang, and every request needs the lease table, so a thread of its own stores them: who changes a
//! lease only says so. What could not be stored, because `/run` is full, is stored later.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mytoken::private_files::FileError;
use zeroize::Zeroizing;

use super::lease::{Lease, LeaseKey};
use super::{Agent, name};
use crate::log::Level;

/// Longest wait before the plugin's record of a start or end is removed: it may be the only copy of a credential.
pub(super) const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// Where leases are stored.
pub trait LeaseRecords: Send + Sync {
    /// Replaces the record of a lease.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&self, key: &LeaseKey, record: &[u8]) -> Result<(), FileError>;

    /// Deletes the record of a lease, if there is one.
    ///
    /// # Errors
    /// When it cannot be deleted.
    fn delete(&self, key: &LeaseKey) -> Result<(), FileError>;
}

/// The leases that have changed since they were stored, or that were removed from the table.
#[derive(Default)]
pub(super) struct Changes {
    elsewhere: OnceLock<Box<dyn LeaseRecords>>,
    state: Mutex<State>,
    /// Notified when there is something to store.
    changed: Condvar,
    /// Notified after each attempt to store.
    tried: Condvar,
    /// Held by the one that stores: an older state must not replace a newer one. Locked before the lease table.
    writer: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Each key once, with the number of its first change.
    waiting: VecDeque<(u64, LeaseKey)>,
    /// The same keys.
    marked: HashSet<LeaseKey>,
    last: u64,
    /// All changes up to this number were stored, or could not be stored.
    tried: u64,
    /// The leases whose last change could not be stored. This was told.
    unstored: HashSet<LeaseKey>,
    /// The lease that is being stored.
    writing: Option<LeaseKey>,
    has_thread: bool,
    stopping: bool,
}

impl State {
    fn mark(&mut self, key: &LeaseKey) {
        if self.marked.insert(key.clone()) {
            self.last += 1;
            self.waiting.push_back((self.last, key.clone()));
        }
    }

    fn mark_unstored(&mut self) {
        let unstored: Vec<LeaseKey> = self.unstored.iter().cloned().collect();
        unstored.iter().for_each(|key| self.mark(key));
    }
}

impl Changes {
    /// The lease of `key` has changed, or is gone. What could not be stored before is tried again with it.
    pub(super) fn mark(&self, key: &LeaseKey) {
        let mut state = self.state();
        state.mark(key);
        state.mark_unstored();
        self.changed.notify_all();
    }

    /// The thread that stores begins.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        (state.has_thread, state.stopping) = (true, false);
    }

    /// The thread that stores ends after what waits now.
    pub(super) fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// Whether nothing waits or is being stored.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.writing.is_none()
    }

    /// Whether the last state of every lease is stored.
    pub(super) fn is_stored(&self) -> bool {
        self.is_idle() && self.state().unstored.is_empty()
    }

    /// Whether the last state of the lease of `key` is stored, if there is one.
    pub(super) fn has_stored(&self, key: &LeaseKey) -> bool {
        let state = self.state();
        !state.marked.contains(key) && !state.unstored.contains(key) && state.writing.as_ref() != Some(key)
    }

    /// The next lease to store.
    fn take(&self) -> Option<(u64, LeaseKey)> {
        let mut state = self.state();
        let (number, key) = state.waiting.pop_front()?;
        state.marked.remove(&key);
        state.writing = Some(key.clone());
        Some((number, key))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record of a lease.
pub(super) fn record(lease: &Lease) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let unusable = |error: serde_json::Error| FileError::Unusable { path: name(lease), reason: error.to_string() };
    serde_json::to_vec(lease).map(Zeroizing::new).map_err(unusable)
}

impl Agent {
    /// Leases are stored there from now on, and not in the runtime directory. For tests.
    pub fn store_leases_in(&self, elsewhere: Box<dyn LeaseRecords>) {
        let _ = self.changes.elsewhere.set(elsewhere);
    }

    /// Stores the leases that could not be stored before.
    pub fn store_again(&self) {
        let mut state = self.changes.state();
        state.mark_unstored();
        if !state.waiting.is_empty() {
            self.changes.changed.notify_all();
        }
    }

    /// Waits until the changes that were made so far are stored or could not be stored. What is answered must survive the end of the agent;
    /// a disk that hangs must not stop every answer. Not with the lease table locked.
    pub(super) fn wait_until_stored(&self, longest: Duration) {
        let state = self.changes.state();
        if !state.has_thread {
            drop(state);
            while self.store_next() {}
            return;
        }
        let last = state.last;
        let waits = |state: &mut State| state.tried < last && state.has_thread;
        drop(self.changes.tried.wait_timeout_while(state, longest, waits));
    }

    /// Stores what changes, until [`Changes::stop`].
    pub(super) fn run_store(&self) {
        loop {
            while self.store_one() {}
            let idle = |state: &mut State| state.waiting.is_empty() && !state.stopping;
            let state = self.changes.changed.wait_while(self.changes.state(), idle);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                state.has_thread = false;
                self.changes.tried.notify_all();
                return;
            }
        }
    }

    /// The same as [`Self::store_next`]. An internal error must not end the thread: every answer would wait for it.
    fn store_one(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.store_next())).unwrap_or_else(|_| {
            let mut state = self.changes.state();
            state.tried = state.waiting.front().map_or(state.last, |(next, _)| next.saturating_sub(1));
            // It is stored again with the next change, as one for which there was no room.
            let key = state.writing.take();
            state.unstored.extend(key);
            self.changes.tried.notify_all();
            true
        })
    }

    /// Stores one lease as it is now. Returns whether there was one.
    fn store_next(&self) -> bool {
        let _one = self.changes.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((number, key)) = self.changes.take() else { return false };
        // The lock is held for the copy alone.
        let copy = self.leases().get(&key).map(|lease| (name(lease), record(lease)));
        let records: &dyn LeaseRecords = self.changes.elsewhere.get().map_or(&*self.runtime_dir, Box::as_ref);
        let (name, stored) = match copy {
            Some((name, record)) => (Some(name), record.and_then(|record| records.put(&key, &record))),
            None => (None, records.delete(&key)),
        };
        let mut state = self.changes.state();
        // Told once, not at each attempt.
        let line = match (&stored, &name) {
            (Ok(()), Some(name)) if state.unstored.remove(&key) => {
                Some((Level::Info, format!("{name}: its state is stored now")))
            }
            (Err(error), Some(name)) if state.unstored.insert(key.clone()) => {
                let text = format!("{name}: its state could not be stored: {error}; the agent tries again");
                Some((Level::Error, text))
            }
            (result, None) => {
                state.unstored.remove(&key);
                result.as_ref().err().map(|error| (Level::Error, error.to_string()))
            }
            _ => None,
        };
        (state.tried, state.writing) = (number, None);
        self.changes.tried.notify_all();
        drop(state);
        if let Some((level, text)) = line {
            self.log.line(level, &text);
        }
        true
    }
}
