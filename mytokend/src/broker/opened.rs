// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sealed texts that were opened in the last seconds. All nodes of a job bring the same one at the same time, and to open it is most of the
//! work for an answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::agent::credential_service::Admitted;

/// For this time an opened text is not looked at again. It may expire meanwhile; the mytoken server then refuses it.
const KEPT: Duration = Duration::from_secs(10);

/// Most texts. A node can send any, but each must be opened to be kept.
const MOST: usize = 1000;

/// What opened texts say.
#[derive(Debug, Default)]
pub struct Opened(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    uid: u32,
    admitted: Admitted,
    /// When it was opened, elapsed time.
    at: Duration,
}

impl Opened {
    /// What a text says, if it was opened for this user in the last seconds before `now`, elapsed time.
    #[must_use]
    pub fn get(&self, uid: u32, sealed: &str, now: Duration) -> Option<Admitted> {
        let entries = self.entries();
        let entry = entries.get(sealed)?;
        (entry.uid == uid && now.saturating_sub(entry.at) < KEPT).then(|| entry.admitted.clone())
    }

    /// A text was opened for this user at `now`, elapsed time.
    pub fn keep(&self, uid: u32, sealed: &str, admitted: &Admitted, now: Duration) {
        let mut entries = self.entries();
        if entries.len() >= MOST {
            entries.retain(|_, entry| now.saturating_sub(entry.at) < KEPT);
        }
        if entries.len() < MOST {
            entries.insert(sealed.to_owned(), Entry { uid, admitted: admitted.clone(), at: now });
        }
    }

    /// Forgets all: keys and servers may have changed.
    pub fn clear(&self) {
        self.entries().clear();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
