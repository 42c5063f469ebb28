// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the requests of a submission are sent: one after another, or each in a thread of its own.

use std::sync::mpsc::{self, Receiver, SendError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mytoken::Error;
use mytoken::http::HttpError;

/// How requests are sent, and the time.
pub(super) trait Requests<T> {
    /// Sends one. [`Self::answer`] gives its answer.
    fn send(&mut self);

    /// The next answer to any of them, if one comes within `wait`. Without `wait` a request must be open.
    fn answer(&mut self, wait: Option<Duration>) -> Option<Result<T, Error>>;

    /// The time since the first one could be sent.
    fn elapsed(&self) -> Duration;
}

/// One request after another, in the caller's thread.
pub(super) struct InTurn<T, S> {
    send: S,
    answer: Option<Result<T, Error>>,
    begin: Instant,
}

impl<T, S: FnMut() -> Result<T, Error>> InTurn<T, S> {
    pub(super) fn new(send: S) -> Self {
        Self { send, answer: None, begin: Instant::now() }
    }
}

impl<T, S: FnMut() -> Result<T, Error>> Requests<T> for InTurn<T, S> {
    fn send(&mut self) {
        self.answer = Some((self.send)());
    }

    fn answer(&mut self, wait: Option<Duration>) -> Option<Result<T, Error>> {
        if self.answer.is_none() {
            thread::sleep(wait.unwrap_or_default());
        }
        self.answer.take()
    }

    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// A sub-token that no job uses and that is still alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrevoked {
    /// Its name in the user's list of mytokens.
    pub name: String,
    /// Why it could not be revoked.
    pub error: Error,
}

/// The threads of requests. Some of them go on when the submission has its answer, and end with their process: it must wait for them.
#[derive(Default)]
pub struct RequestThreads(Mutex<Vec<JoinHandle<Result<(), Unrevoked>>>>);

impl RequestThreads {
    /// Waits until each request has its answer or its deadline, and what came too late is revoked. Returns what could not be revoked.
    pub fn wait(&self) -> Vec<Unrevoked> {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect()
    }

    fn start(&self, work: impl FnOnce() -> Result<(), Unrevoked> + Send + 'static) -> std::io::Result<()> {
        let thread = thread::Builder::new().spawn(work)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }
}

/// Each request in a thread of its own. What comes after this was dropped goes to `late`.
pub(super) struct InThreads<'t, T, S, L> {
    threads: &'t RequestThreads,
    send: Arc<S>,
    late: Arc<L>,
    sender: SyncSender<Result<T, Error>>,
    answers: Receiver<Result<T, Error>>,
    /// Of a request whose thread could not be started.
    failed: Option<Error>,
    open: u32,
    begin: Instant,
}

impl<'t, T, S, L> InThreads<'t, T, S, L>
where
    T: Send + 'static,
    S: Fn() -> Result<T, Error> + Send + Sync + 'static,
    L: Fn(T) -> Result<(), Unrevoked> + Send + Sync + 'static,
{
    pub(super) fn new(threads: &'t RequestThreads, send: S, late: L) -> Self {
        // Without room for an answer: a thread keeps its own until it is taken, and gets it back if nobody takes it any more.
        let (sender, answers) = mpsc::sync_channel(0);
        let (send, late) = (Arc::new(send), Arc::new(late));
        Self { threads, send, late, sender, answers, failed: None, open: 0, begin: Instant::now() }
    }

    /// Number of requests whose answers were not taken.
    pub(super) fn open(&self) -> u32 {
        self.open
    }
}

impl<T, S, L> Requests<T> for InThreads<'_, T, S, L>
where
    T: Send + 'static,
    S: Fn() -> Result<T, Error> + Send + Sync + 'static,
    L: Fn(T) -> Result<(), Unrevoked> + Send + Sync + 'static,
{
    fn send(&mut self) {
        let (send, late, sender) = (Arc::clone(&self.send), Arc::clone(&self.late), self.sender.clone());
        let started = self.threads.start(move || match sender.send(send()) {
            Err(SendError(Ok(granted))) => late(granted),
            Ok(()) | Err(SendError(Err(_))) => Ok(()),
        });
        match started {
            Ok(()) => self.open = self.open.saturating_add(1),
            Err(error) => {
                let reason = format!("the system cannot start a thread: {error}");
                self.failed = Some(Error::Http(HttpError::Settings { reason }));
            }
        }
    }

    fn answer(&mut self, wait: Option<Duration>) -> Option<Result<T, Error>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let answer = match wait {
            Some(wait) => self.answers.recv_timeout(wait).ok(),
            None => self.answers.recv().ok(),
        };
        if answer.is_some() {
            self.open = self.open.saturating_sub(1);
        }
        answer
    }

    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn unrevoked(number: usize) -> Unrevoked {
        let error = HttpError::TooLate { host: "https://mt.example.org".to_owned() };
        Unrevoked { name: format!("site:{number}"), error: error.into() }
    }

    /// Request 0 is answered after request 1. The numbers that were late, and what could not be revoked.
    fn first_one_late(revoke: fn(usize) -> Result<(), Unrevoked>) -> (Vec<usize>, Vec<Unrevoked>) {
        let threads = RequestThreads::default();
        let (begun, has_begun) = mpsc::channel();
        let (open, opened) = mpsc::channel::<()>();
        let (opened, count) = (Mutex::new(opened), AtomicUsize::new(0));
        let send = move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            begun.send(number).unwrap();
            if number == 0 {
                opened.lock().unwrap().recv().unwrap();
            }
            Ok(number)
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let late_ones = Arc::clone(&seen);
        let late = move |number| {
            late_ones.lock().unwrap().push(number);
            revoke(number)
        };
        let mut requests = InThreads::new(&threads, send, late);
        requests.send();
        assert_eq!(has_begun.recv(), Ok(0));
        assert_eq!(requests.answer(Some(Duration::from_millis(1))), None);
        requests.send();
        assert_eq!(requests.answer(None), Some(Ok(1)));
        assert_eq!(requests.open(), 1);
        drop(requests);
        open.send(()).unwrap();
        let left = threads.wait();
        assert!(threads.wait().is_empty(), "nothing is told twice");
        let seen = seen.lock().unwrap().clone();
        (seen, left)
    }

    #[test]
    fn what_comes_after_another_answer_is_revoked() {
        assert_eq!(first_one_late(|_| Ok(())), (vec![0], Vec::new()));
        assert_eq!(first_one_late(|number| Err(unrevoked(number))), (vec![0], vec![unrevoked(0)]));
    }

    #[test]
    fn an_answer_that_waits_to_be_taken_is_not_lost() {
        let (threads, seen) = (RequestThreads::default(), Arc::new(AtomicUsize::new(0)));
        let late_ones = Arc::clone(&seen);
        let late = move |number| {
            late_ones.fetch_add(number, Ordering::SeqCst);
            Ok(())
        };
        let mut requests = InThreads::new(&threads, || Ok(1), late);
        requests.send();
        requests.send();
        assert_eq!(requests.answer(None), Some(Ok(1)));
        drop(requests);
        assert_eq!((threads.wait().len(), seen.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn requests_in_turn_have_their_answers_at_once() {
        let mut number = 0;
        let mut requests = InTurn::new(|| {
            number += 1;
            Ok(number)
        });
        requests.send();
        assert_eq!(requests.answer(None), Some(Ok(1)));
        assert_eq!(requests.answer(Some(Duration::from_millis(1))), None);
        requests.send();
        assert_eq!(requests.answer(Some(Duration::from_secs(60))), Some(Ok(2)), "without a pause");
    }
}
