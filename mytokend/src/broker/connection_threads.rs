// SPDX-License-Identifier: MIT OR Apache-2.0
//! The threads that serve the broker's connections. Each has a runtime of its own: tokio's scheduler for several threads would get into
//! the PAM module too, because its crates are built together with the broker's.

use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, available_parallelism};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;

use super::server::Server;

/// Most threads. One serves thousands of nodes; with several, one that waits for a lock or a file delays only its own connections.
const MOST: usize = 4;

/// How long the end waits for a thread that reads or writes a file for an enrolment. A file is written whole or not at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// The threads.
pub(super) struct ConnectionThreads {
    threads: Vec<JoinHandle<()>>,
}

impl ConnectionThreads {
    /// Starts a thread for each processor, but at least two. They accept at `listener`, which does not block, until `stopped` changes.
    ///
    /// # Errors
    /// When the system gives no thread, no descriptor or no runtime.
    pub(super) fn start(
        server: &Arc<Server>,
        listener: &TcpListener,
        stopped: &watch::Receiver<()>,
    ) -> io::Result<Self> {
        let count = available_parallelism().map_or(1, usize::from).clamp(2, MOST);
        let threads = (0..count).map(|_| start(Arc::clone(server), listener.try_clone()?, stopped.clone()));
        Ok(Self { threads: threads.collect::<io::Result<_>>()? })
    }

    /// Waits until the connections have their answers.
    pub(super) fn wait(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn start(server: Arc<Server>, listener: TcpListener, stopped: watch::Receiver<()>) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    Builder::new().name("connections".to_owned()).spawn(move || {
        // A panic while accepting must not leave the other connections of this thread without answers.
        let accept = || runtime.block_on(server.accept(&listener, stopped.clone()));
        while catch_unwind(AssertUnwindSafe(accept)).is_err() {}
        // Who connects now is refused at once and asks another broker.
        drop(listener);
        runtime.block_on(server.finish());
        runtime.shutdown_timeout(PATIENCE);
    })
}
