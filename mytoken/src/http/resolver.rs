// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resolves host names with the system's resolver. A lookup cannot be interrupted: with dead name servers it blocks for half a minute.
//!
//! reqwest by default runs the lookup in its runtime. Dropping the client would then wait for it, past every deadline. Here each lookup
//! has its own thread. Dropping the client joins the threads that have answered and detaches a thread that still hangs.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The function that looks up a name. Tests replace it.
type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The resolver of one client.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    running: Arc<Mutex<Vec<Running>>>,
}

struct Running {
    answer: Arc<Mutex<LookupState>>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct LookupState {
    given: bool,
    addresses: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

impl Resolver {
    /// The system's resolver.
    pub(super) fn system() -> Self {
        Self::with_lookup(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    pub(super) fn with_lookup(lookup: Lookup) -> Self {
        Self { lookup, running: Arc::default() }
    }

    fn start(&self, name: String) -> io::Result<Arc<Mutex<LookupState>>> {
        let answer = Arc::new(Mutex::new(LookupState::default()));
        let (lookup, shared) = (self.lookup, Arc::clone(&answer));
        let thread = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
            let addresses = lookup(&name);
            let mut answer = lock(&shared);
            answer.given = true;
            answer.addresses = Some(addresses);
            if let Some(waker) = answer.waker.take() {
                waker.wake();
            }
        })?;
        lock(&self.running).push(Running { answer: Arc::clone(&answer), thread });
        Ok(answer)
    }
}

/// Joins the threads of finished lookups when the client is dropped.
pub(super) struct Lookups(pub(super) Resolver);

impl Lookups {
    /// Whether one of them has no answer yet.
    pub(super) fn are_running(&self) -> bool {
        lock(&self.0.running).iter().any(|running| !lock(&running.answer).given)
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        for running in lock(&self.0.running).drain(..) {
            let given = lock(&running.answer).given;
            if given {
                let _ = running.thread.join();
            }
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let started = self.start(name.as_str().to_owned());
        Box::pin(async move {
            let answer = started?;
            let addresses = poll_fn(|context| {
                let mut answer = lock(&answer);
                answer.waker = Some(context.waker().clone());
                answer.addresses.take().map_or(Poll::Pending, Poll::Ready)
            })
            .await?;
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

/// Locks the mutex, even if it is poisoned: no code here panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
