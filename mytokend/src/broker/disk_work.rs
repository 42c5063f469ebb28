// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work that waits for the disk, in threads beside those of the connections. A disk can hang for ever: then the caller gets an answer all
//! the same, and the threads that wait for the disk stay few.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Most threads at a time, of each [`DiskWork`]. One that hangs keeps its place.
pub(super) const PLACES: usize = 8;

/// Longest wait, for a place and the disk together. An agent waits two seconds for each of two brokers, and a user for the agent.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Why the work was not done. A sentence for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskTrouble {
    /// It may be done later.
    #[error("the disk of the broker does not answer")]
    Hangs,
    /// It panicked, or the broker stops.
    #[error("internal error of the broker")]
    Internal,
}

/// Threads for work of one kind.
#[derive(Debug)]
pub(super) struct DiskWork {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Default for DiskWork {
    fn default() -> Self {
        Self::new(PLACES, PATIENCE)
    }
}

impl DiskWork {
    /// So many threads at a time. A caller waits so long for a place and the work together.
    pub(super) fn new(places: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), patience }
    }

    /// Does the work in a thread, and returns what it returns. Work that has begun ends later when the wait is over; other work is dropped.
    ///
    /// # Errors
    /// [`DiskTrouble`].
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskTrouble> {
        let places = Arc::clone(&self.places);
        let done = timeout(self.patience, async move {
            let place = places.acquire_owned().await.ok()?;
            let working = spawn_blocking(move || {
                let _place = place;
                work()
            });
            working.await.ok()
        });
        done.await.map_err(|_| DiskTrouble::Hangs)?.ok_or(DiskTrouble::Internal)
    }

    /// Begins the work in a thread if there is a place, and waits neither for a place nor for the work. Returns whether it has begun.
    pub(super) fn begin(&self, work: impl FnOnce() + Send + 'static) -> bool {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return false };
        drop(spawn_blocking(move || {
            let _place = place;
            work();
        }));
        true
    }

    /// How long a caller of [`Self::run`] waits.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }
}

/// Does the work in a thread of its own, and waits for it: at the start, nothing else can be done meanwhile. Work that comes too late is left
/// alone.
///
/// # Errors
/// [`DiskTrouble`].
pub(super) fn in_time<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DiskTrouble> {
    let (done, waiting) = channel();
    let working = move || {
        let _ = done.send(work());
    };
    Builder::new().name("disk".to_owned()).spawn(working).map_err(|_| DiskTrouble::Internal)?;
    waiting.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => DiskTrouble::Hangs,
        RecvTimeoutError::Disconnected => DiskTrouble::Internal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_at_the_start_hears_that_the_disk_hangs() {
        let (release, held) = channel::<()>();
        assert_eq!(in_time(Duration::from_secs(20), || 7), Ok(7));
        let hangs = move || held.recv().is_ok();
        assert_eq!(in_time(Duration::from_millis(50), hangs), Err(DiskTrouble::Hangs));
        drop(release);
        let panicked = in_time::<()>(Duration::from_secs(20), || panic!("a test wants it"));
        assert_eq!(panicked, Err(DiskTrouble::Internal));
    }
}
