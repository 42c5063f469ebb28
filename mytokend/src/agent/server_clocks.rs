// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clocks of the mytoken servers, as their answers tell them. They outlive a reload: until the next answer, this host would go by its own
//! clock again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytoken::http::ServerClock;

/// The clocks, by the URL of the server.
#[derive(Debug, Default)]
pub struct ServerClocks(Mutex<HashMap<String, ServerClock>>);

impl ServerClocks {
    /// An answer of the server at `url` has told its clock.
    pub fn note(&self, url: &str, clock: ServerClock) {
        self.clocks().insert(url.to_owned(), clock);
    }

    /// The time of day at a server at this elapsed time, Unix seconds. `None`: it has not told it.
    #[must_use]
    pub fn at(&self, url: &str, elapsed: Duration) -> Option<u64> {
        self.clocks().get(url).map(|clock| clock.at(elapsed))
    }

    fn clocks(&self) -> MutexGuard<'_, HashMap<String, ServerClock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
