// SPDX-License-Identifier: MIT OR Apache-2.0
//! Documents that are fetched and cached: a provider's keys, the mytoken server's discovery document.
//!
//! All logins of a host share a [`SharedDocument`]. Each login is a process of its own, and any text at a prompt can make it need the
//! document. So a process records its attempt on disk before it sends the request, and the outcome afterwards. After a failure no
//! process sends a request for [`PAUSE`] seconds. If a process ends without an outcome, another process can try after 8 s. If it ended after
//! a long wait for the answer, as sshd ends a login (SSH-10), that is a failure until 11 s after its begin: a new attempt would wait as
//! long. Not for longer, because whoever waits at the prompt chooses the end, and the document may have been about to come.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{DiskCache, Storage, file_name};
use crate::long_wait::{LONG_WAIT, notice_long_wait};
use crate::private_files::FileError;
use crate::{Clock, Deadline, Process};

/// Seconds after a failure in which no process sends a request.
pub const PAUSE: u64 = 60;

/// Time limit for one attempt, and for waiting for another process's attempt. It leaves a part of the login's time.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(6);

/// Time limit for getting the lock to record an outcome. The login waits meanwhile.
const RECORD_LIMIT: Duration = Duration::from_secs(2);

/// The part of the caller's time that is reserved for that.
const RECORD_TIME: Duration = Duration::from_millis(500);

/// Seconds after which an attempt without outcome is abandoned: its process has ended.
const ABANDONED_AFTER: u64 = 8;

/// The same for a process that has waited for [`LONG_WAIT`]: the time counts from its record of that.
const ENDED_PAUSE: u64 = ABANDONED_AFTER + LONG_WAIT.as_secs();

/// Pause between two checks for the outcome of another process's attempt.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Version of the file format.
const VERSION: u32 = 3;

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentError {
    /// The fetch failed, now or less than [`PAUSE`] seconds ago.
    Fetch(FetchError),
    /// Another process is fetching it and has no answer yet, or the deadline has passed.
    InProgress,
    /// No request was sent, because the attempt could not be recorded on disk. Without the record each forged token would cause a request.
    NotRecorded(
        /// What is wrong with the cache.
        String,
    ),
}

/// Why a fetch failed. It is stored for later logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchError {
    /// A later attempt can succeed.
    Unavailable(String),
    /// The server's request limit is reached. The seconds that it named are in the ledger of logins.
    #[serde(rename = "Busy")]
    TooManyRequests,
    /// The configured URL does not belong to a mytoken server, or belongs to a different server.
    Configuration(String),
    /// The server refused the request.
    Refused(String),
}

/// How long a document is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAge {
    /// Up to this age, in seconds, it is used without a request.
    pub fresh: u64,
    /// Up to this age, in seconds, it is used if a newer one cannot be fetched.
    pub stale_if_error: u64,
    /// Whether an old one is used while another process fetches a newer one.
    pub stale_while_fetching: bool,
}

/// A document that all processes of a host share.
pub struct SharedDocument<'a> {
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
    source: &'a str,
    file: String,
}

#[derive(Serialize, Deserialize)]
struct State {
    v: u32,
    source: String,
    document: Option<StoredDocument>,
    attempt: Option<FetchAttempt>,
}

impl State {
    /// The state in `bytes` if it belongs to `source`; an empty one otherwise. Parts with a future time are dropped: a wrong clock wrote
    /// them, so their age is unknown. A document that is not `readable` is dropped too.
    fn parse(bytes: Option<&[u8]>, source: &str, now: u64, readable: &dyn Fn(&str) -> bool) -> Self {
        let state: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
        let empty = Self { v: VERSION, source: source.to_owned(), document: None, attempt: None };
        let Some(mut state) = state.filter(|state| state.v == VERSION && state.source == source) else {
            return empty;
        };
        state.document = state.document.filter(|document| document.at <= now && readable(&document.content));
        state.attempt = state.attempt.filter(|attempt| attempt.at <= now).map(|attempt| attempt.judged(source));
        state
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

/// A document in JSON and the time of its fetch.
#[derive(Serialize, Deserialize)]
struct StoredDocument {
    at: u64,
    content: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct FetchAttempt {
    at: u64,
    outcome: Outcome,
    /// The fetching process, once it has waited for [`LONG_WAIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<Process>,
}

impl FetchAttempt {
    fn new(at: u64, outcome: Outcome) -> Self {
        Self { at, outcome, waiting: None }
    }

    /// This attempt, which has failed if its process ended while it waited.
    fn judged(self, source: &str) -> Self {
        let ended = self.waiting.is_some_and(|process| !process.is_running());
        if !(ended && matches!(self.outcome, Outcome::InProgress)) {
            return self;
        }
        let reason = format!("{source} did not answer before the login that waited for it was ended");
        Self { outcome: Outcome::Failed(FetchError::Unavailable(reason)), ..self }
    }

    /// Seconds from its begin or outcome in which no process sends a request, if it has failed.
    fn pause(&self) -> u64 {
        if self.waiting.is_some() { ENDED_PAUSE } else { PAUSE }
    }
}

#[derive(Clone, Serialize, Deserialize)]
enum Outcome {
    #[serde(rename = "Awaited")]
    InProgress,
    Failed(FetchError),
    /// The document was fetched but could not be stored.
    NotStored,
}

/// The next step. `Option<String>` is an old document that can be used if there is no newer one.
enum NextStep {
    Use(String),
    Fail(DocumentError, Option<String>),
    Wait(Option<String>),
    Fetch(Option<String>),
}

impl<'a> SharedDocument<'a> {
    /// The document of kind `kind` from the URL `source`. Without a cache each [`Self::get`] fetches it; tools of an ordinary user do so.
    #[must_use]
    pub fn new(kind: &str, source: &'a str, cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { cache, clock, source, file: file_name(kind, source) }
    }

    /// The document from disk, or from `fetch`, which gets the deadline of its attempt.
    ///
    /// # Errors
    /// [`DocumentError`], if there is not even an old document that can be used.
    pub fn get<T: Serialize + DeserializeOwned>(
        &self,
        age: MaxAge,
        deadline: Deadline,
        fetch: impl FnOnce(Deadline) -> Result<T, FetchError>,
    ) -> Result<T, DocumentError> {
        let Some(cache) = self.cache else {
            return fetch(deadline.at_most(ATTEMPT_LIMIT)).map_err(DocumentError::Fetch);
        };
        let readable = |content: &str| decode::<T>(content).is_some();
        // This cannot fail: `readable` decoded the same text.
        let decoded = |content: String| decode(&content).ok_or(DocumentError::InProgress);
        match self.wait(cache, age, deadline, &readable) {
            NextStep::Use(content) => decoded(content),
            NextStep::Fail(error, old) => old.map_or(Err(error), decoded),
            NextStep::Wait(old) => old.map_or(Err(DocumentError::InProgress), decoded),
            NextStep::Fetch(old) => match self.fetch_noticed(cache, deadline, fetch) {
                Ok(document) => {
                    self.store(cache, serde_json::to_string(&document).ok(), deadline);
                    Ok(document)
                }
                Err(error) => {
                    self.record_outcome(cache, Outcome::Failed(error.clone()), deadline);
                    old.map_or(Err(DocumentError::Fetch(error)), decoded)
                }
            },
        }
    }

    /// Fetches the document, and records a long wait for it.
    fn fetch_noticed<T>(&self, cache: &DiskCache, deadline: Deadline, fetch: impl FnOnce(Deadline) -> T) -> T {
        let notice = || {
            let Some(process) = Process::own() else { return };
            let mut record = |bytes: Option<&[u8]>| {
                let mut state: State = serde_json::from_slice(bytes?).ok()?;
                let attempt = state.attempt.as_mut()?;
                attempt.waiting = Some(process);
                state.bytes()
            };
            let _ = cache.update(&self.file, deadline.at_most(RECORD_LIMIT), &mut record);
        };
        let reserved = RECORD_TIME.min(deadline.remaining().unwrap_or_default() / 8);
        let attempt_by = deadline.earlier(reserved).at_most(ATTEMPT_LIMIT);
        notice_long_wait(LONG_WAIT, notice, || fetch(attempt_by))
    }

    /// The seconds for which no process sends a request, because a fetch failed. `None`: no fetch failed recently.
    #[must_use]
    pub fn failing_for(&self) -> Option<u64> {
        let bytes = self.cache?.read(&self.file)?;
        let attempt = self.parse(Some(&bytes), &|_| true).attempt?;
        let failed = matches!(attempt.outcome, Outcome::Failed(_) | Outcome::NotStored);
        let since = self.clock.now().saturating_sub(attempt.at);
        attempt.pause().checked_sub(since).filter(|left| failed && *left > 0)
    }

    /// Waits until there is a document or an error, or until this process can fetch the document. It records such an attempt.
    fn wait(&self, cache: &DiskCache, age: MaxAge, deadline: Deadline, readable: &dyn Fn(&str) -> bool) -> NextStep {
        let wait_until = deadline.at_most(ATTEMPT_LIMIT);
        loop {
            match self.next_step(self.parse(cache.read(&self.file).as_deref(), readable), age) {
                NextStep::Wait(old) => {
                    let use_old = age.stale_while_fetching && old.is_some();
                    if use_old || wait_until.remaining().is_none() {
                        return NextStep::Wait(old);
                    }
                    std::thread::sleep(POLL_INTERVAL);
                }
                NextStep::Fetch(old) if deadline.remaining().is_none() => return NextStep::Wait(old),
                NextStep::Fetch(old) => match self.record_attempt(cache, age, deadline, readable) {
                    Ok(true) => return NextStep::Fetch(old),
                    Ok(false) => {} // another process was faster
                    Err(error) => return NextStep::Fail(DocumentError::NotRecorded(error.to_string()), old),
                },
                step @ (NextStep::Use(_) | NextStep::Fail(..)) => return step,
            }
        }
    }

    fn parse(&self, bytes: Option<&[u8]>, readable: &dyn Fn(&str) -> bool) -> State {
        State::parse(bytes, self.source, self.clock.now(), readable)
    }

    fn next_step(&self, state: State, age: MaxAge) -> NextStep {
        let now = self.clock.now();
        let (mut fresh, mut old) = (None, None);
        if let Some(document) = state.document {
            let since = now.saturating_sub(document.at);
            if since < age.fresh {
                fresh = Some(document.content);
            } else if since < age.stale_if_error {
                old = Some(document.content);
            }
        }
        let pause = state.attempt.as_ref().map_or(PAUSE, FetchAttempt::pause);
        let attempt = state.attempt.map(|attempt| (now.saturating_sub(attempt.at), attempt.outcome));
        match (fresh, attempt) {
            (Some(fresh), _) => NextStep::Use(fresh),
            (None, Some((since, Outcome::InProgress))) if since < ABANDONED_AFTER => NextStep::Wait(old),
            (None, Some((since, Outcome::Failed(error)))) if since < pause => {
                NextStep::Fail(DocumentError::Fetch(error), old)
            }
            (None, Some((since, Outcome::NotStored))) if since < pause => {
                NextStep::Fail(DocumentError::NotRecorded("the cache is full".to_owned()), old)
            }
            (None, _) => NextStep::Fetch(old),
        }
    }

    /// Records that this process fetches the document. Returns `false` if another process has recorded its attempt before.
    fn record_attempt(
        &self,
        cache: &DiskCache,
        age: MaxAge,
        deadline: Deadline,
        readable: &dyn Fn(&str) -> bool,
    ) -> Result<bool, FileError> {
        let mut first = false;
        let mut record = |bytes: Option<&[u8]>| {
            first = matches!(self.next_step(self.parse(bytes, readable), age), NextStep::Fetch(_));
            let attempt = FetchAttempt::new(self.clock.now(), Outcome::InProgress);
            let state = State { attempt: Some(attempt), ..self.parse(bytes, readable) };
            if first { state.bytes() } else { None }
        };
        cache.update(&self.file, deadline, &mut record).map(|()| first)
    }

    /// Stores a document, or records that it could not be stored.
    fn store(&self, cache: &DiskCache, content: Option<String>, deadline: Deadline) {
        let document = content.map(|content| StoredDocument { at: self.clock.now(), content });
        let state = State { v: VERSION, source: self.source.to_owned(), document, attempt: None };
        if cache.update(&self.file, deadline.at_most(RECORD_LIMIT), &mut |_| state.bytes()).is_err() {
            self.record_outcome(cache, Outcome::NotStored, deadline);
        }
    }

    /// Records the outcome of an attempt without a document. An error is ignored, because the attempt itself is recorded.
    fn record_outcome(&self, cache: &DiskCache, outcome: Outcome, deadline: Deadline) {
        let attempt = FetchAttempt::new(self.clock.now(), outcome);
        let mut record =
            |bytes: Option<&[u8]>| State { attempt: Some(attempt.clone()), ..self.parse(bytes, &|_| true) }.bytes();
        let _ = cache.update(&self.file, deadline.at_most(RECORD_LIMIT), &mut record);
    }
}

/// A document that belongs to one user or one process. Failed fetches are not recorded.
pub struct PrivateDocument<'a> {
    storage: &'a dyn Storage,
    clock: &'a dyn Clock,
    source: &'a str,
    file: String,
}

impl<'a> PrivateDocument<'a> {
    /// The document of kind `kind` from the URL `source`.
    #[must_use]
    pub fn new(kind: &str, source: &'a str, storage: &'a dyn Storage, clock: &'a dyn Clock) -> Self {
        Self { storage, clock, source, file: file_name(kind, source) }
    }

    /// The stored document, if it is younger than `fresh` seconds.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, fresh: u64) -> Option<T> {
        let now = self.clock.now();
        let stored = State::parse(self.storage.read(&self.file).as_deref(), self.source, now, &|_| true).document?;
        if now.saturating_sub(stored.at) < fresh { decode(&stored.content) } else { None }
    }

    /// Stores a new document. If that fails, the document is fetched again the next time.
    pub fn write<T: Serialize>(&self, document: &T) {
        let Ok(content) = serde_json::to_string(document) else { return };
        let document = Some(StoredDocument { at: self.clock.now(), content });
        let state = State { v: VERSION, source: self.source.to_owned(), document, attempt: None };
        if let Some(bytes) = state.bytes() {
            let _ = self.storage.replace(&self.file, &bytes);
        }
    }
}

fn decode<T: DeserializeOwned>(content: &str) -> Option<T> {
    serde_json::from_slice(content.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use mytoken_wire::clock::FixedClock;

    use super::*;
    use crate::cache::MemoryCache;

    /// The cache on disk outlives an upgrade.
    #[test]
    fn stored_words_of_earlier_releases_are_read() {
        let error = |word: &str| serde_json::from_str::<FetchError>(word).unwrap();
        assert_eq!(error("\"Busy\""), FetchError::TooManyRequests);
        assert_eq!(error("{\"Unavailable\":\"x\"}"), FetchError::Unavailable("x".to_owned()));
        assert_eq!(error("{\"Configuration\":\"x\"}"), FetchError::Configuration("x".to_owned()));
        assert_eq!(error("{\"Refused\":\"x\"}"), FetchError::Refused("x".to_owned()));
        assert!(matches!(serde_json::from_str::<Outcome>("\"Awaited\""), Ok(Outcome::InProgress)));
    }

    #[test]
    fn a_private_document_is_used_until_it_is_too_old_and_only_for_its_source() {
        let storage = MemoryCache::default();
        let read = |source: &str, now| {
            PrivateDocument::new("server", source, &storage, &FixedClock(now)).read::<String>(3_600)
        };
        assert_eq!(read("https://a", 1_000), None);
        PrivateDocument::new("server", "https://a", &storage, &FixedClock(1_000)).write(&"text");
        assert_eq!(read("https://a", 4_599).as_deref(), Some("text"));
        assert_eq!((read("https://a", 4_600), read("https://a", 999)), (None, None));
        let copy = storage.read(&file_name("server", "https://a")).unwrap();
        storage.replace(&file_name("server", "https://b"), &copy).unwrap();
        assert_eq!(read("https://b", 1_001), None);
    }
}
