// SPDX-License-Identifier: MIT OR Apache-2.0
//! One request after the other asks slurmctld where a job was submitted. The requests of one host that run at a time are few: one that was
//! stolen must not keep all others waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::PATIENCE;

/// Most requests of one host at a time. All of them are served within [`PATIENCE`] if slurmctld answers within a second.
const MOST_OF_HOST: usize = 4;

/// Number of requests by host.
type Counts = Arc<Mutex<HashMap<String, usize>>>;

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Turns {
    /// When slurmctld was last asked about the host of a submission, elapsed time. Held during the question, and while the disk is written.
    last: Arc<AsyncMutex<Duration>>,
    counts: Counts,
}

/// A request of a host, until it is dropped.
pub(super) struct Entered {
    counts: Counts,
    host: String,
}

impl Turns {
    /// `None`: so many requests of this host run already.
    pub(super) fn enter(&self, host: &str) -> Option<Entered> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(host.to_owned()).or_default();
        (*count < MOST_OF_HOST).then(|| {
            *count += 1;
            Entered { counts: Arc::clone(&self.counts), host: host.to_owned() }
        })
    }

    /// Waits for the turn. `None`: that takes too long.
    pub(super) async fn take(&self) -> Option<OwnedMutexGuard<Duration>> {
        timeout(PATIENCE, Arc::clone(&self.last).lock_owned()).await.ok()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.host) {
            *count = count.saturating_sub(1);
        }
        counts.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_many_requests_leaves_the_turn_to_the_others() {
        let turns = Turns::default();
        let entered: Vec<Entered> = (0..MOST_OF_HOST).filter_map(|_| turns.enter("n1")).collect();
        assert_eq!(entered.len(), MOST_OF_HOST);
        assert!(turns.enter("n1").is_none() && turns.enter("login1").is_some());
        drop(entered);
        assert!(turns.enter("n1").is_some());
        assert!(turns.counts.lock().unwrap().is_empty(), "all of them have ended");
    }
}
