// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps the counts of requests for the agent's next run. A file system may hang, and every request needs the counts, so a thread of its own
//! writes them: a request only says that they have changed. A broker keeps in the same way what it has revoked.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use mytoken::private_files::FileError;
use serde::Serialize;

/// Where the counts are kept.
pub trait Keep: Send + Sync {
    /// Replaces what is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    fn keep(&self, counts: &[u8]) -> Result<(), FileError>;
}

/// What is kept.
#[derive(Default)]
pub(crate) struct KeptForNextRun {
    place: OnceLock<Box<dyn Keep>>,
    state: Mutex<State>,
    /// The state has changed.
    turn: Condvar,
}

#[derive(Default)]
struct State {
    /// The counts have changed since the begin of the last write.
    changed: bool,
    stopping: bool,
    /// Why the last counts could not be written.
    trouble: Option<String>,
}

impl KeptForNextRun {
    pub(crate) fn set_place(&self, place: Box<dyn Keep>) {
        let _ = self.place.set(place);
    }

    /// The counts have changed.
    pub(crate) fn changed(&self) {
        self.state().changed = true;
        self.turn.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.turn.notify_all();
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// Writes the counts after each change, until [`Self::stop`]. `counts` gives those that are valid now.
    pub(crate) fn write<T: Serialize>(&self, counts: impl Fn() -> Option<T>) {
        while self.next() {
            let (Some(place), Some(counts)) = (self.place.get(), counts()) else { continue };
            let bytes = serde_json::to_vec(&counts).map_err(|error| error.to_string());
            let written = bytes.and_then(|bytes| place.keep(&bytes).map_err(|error| error.to_string()));
            self.state().trouble = written.err();
        }
    }

    /// Waits for the next change. `false`: there will be none.
    fn next(&self) -> bool {
        let idle = |state: &mut State| !state.changed && !state.stopping;
        let mut state = self.turn.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.changed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use mytoken::SystemClock;
    use mytoken::config::{FileTrust, Shared};

    use super::super::Budgets;
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A disk that begins a write, and ends it when it is told to.
    struct SlowDisk {
        begins: Mutex<Sender<()>>,
        may_end: Mutex<Receiver<()>>,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl Keep for SlowDisk {
        fn keep(&self, counts: &[u8]) -> Result<(), FileError> {
            let _ = self.begins.lock().unwrap().send(());
            let _ = self.may_end.lock().unwrap().recv();
            self.written.lock().unwrap().push(String::from_utf8(counts.to_vec()).unwrap());
            Ok(())
        }
    }

    fn budgets() -> Budgets {
        let dir = tempfile::tempdir().unwrap();
        let text = "[[server]]\nname = \"t\"\nurl = \"https://mt.example\"\nrequest_limit = 1000\n";
        std::fs::write(dir.path().join("mytoken.toml"), text).unwrap();
        let budgets = Budgets::new(Arc::new(SystemClock));
        budgets.configure(&shared(dir.path())).unwrap();
        budgets
    }

    fn shared(dir: &Path) -> Shared {
        Shared::load(dir, FileTrust::user(mytoken::private_files::Owner::current().uid)).unwrap()
    }

    #[test]
    fn a_blocked_write_delays_no_request_and_the_last_counts_are_kept() {
        let ((begins, begun), (end, may_end)) = (channel(), channel());
        let written = Arc::new(Mutex::new(Vec::new()));
        let disk = SlowDisk { begins: Mutex::new(begins), may_end: Mutex::new(may_end), written: Arc::clone(&written) };
        let budgets = Arc::new(budgets());
        budgets.keep_in(Box::new(disk), None).unwrap();
        let own = Arc::clone(&budgets);
        let writer = thread::spawn(move || own.write_counts());
        let (send, answered) = channel();
        let own = Arc::clone(&budgets);
        thread::spawn(move || {
            for user in 0..50 {
                own.submission("t", 2000 + user).unwrap();
                let _ = send.send(());
            }
        });
        begun.recv_timeout(TIMEOUT).expect("the first write");
        for _ in 0..50 {
            answered.recv_timeout(TIMEOUT).expect("an answer while the disk hangs");
        }
        assert_eq!(budgets.status(None)[0].left, 950, "the status does not wait either");
        assert!(written.lock().unwrap().is_empty());
        budgets.stop_writing();
        // All further writes end at once.
        drop(end);
        writer.join().unwrap();
        let written = written.lock().unwrap();
        assert!((1..=2).contains(&written.len()), "{}", written.len());
        assert!(written.last().unwrap().contains("2049"), "{written:?}");
    }
}
