// SPDX-License-Identifier: MIT OR Apache-2.0
//! Documents that all logins of a host share: a provider's keys, the mytoken server's discovery document.
//!
//! Each login is a process of its own, and any text at a prompt can make one need such a document. So a process records its attempt
//! on disk before it sends the request, and the outcome after it: after a failure no process asks again within [`PAUSE`]. When the
//! asking process ended without an outcome, another one may ask after 8 s.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{DiskCache, Storage, file_name};
use crate::private_files::FileError;
use crate::{Clock, Deadline};

/// After a failure no process asks again for this many seconds.
pub const PAUSE: u64 = 60;

/// How long one attempt may take, so that something is left of a login's deadline, and how long others wait for its outcome.
const ATTEMPT: Duration = Duration::from_secs(6);

/// How long to wait for the lock to record an outcome. The login waits as long.
const NOTE: Duration = Duration::from_secs(2);

/// An attempt without outcome after this many seconds belonged to a process that is gone: the next one may try.
const ABANDONED: u64 = 8;

/// Pause between two looks for the outcome of another process's attempt.
const LOOK: Duration = Duration::from_millis(50);

/// Version of the form on disk.
const VERSION: u32 = 3;

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentError {
    /// Fetching it failed, now or less than [`PAUSE`] seconds ago.
    Fetch(FetchError),
    /// Another process is fetching it and has no answer yet, or the deadline has passed.
    InProgress,
    /// The attempt could not be recorded on disk, so there was none: without a record every forged token would cause a request.
    NotRecorded(
        /// What is wrong with the cache.
        String,
    ),
}

/// Why fetching failed, as it is remembered for later logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchError {
    /// It may be there later.
    Unavailable(String),
    /// The server had no request left; the seconds that it named are in the ledger.
    #[serde(rename = "Busy")]
    TooManyRequests,
    /// The configuration names something that is not a mytoken server, or a different server.
    Configuration(String),
    /// The server refused it.
    Refused(String),
}

/// How old a document may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAge {
    /// Used without asking, in seconds.
    pub fresh: u64,
    /// Used when a newer one cannot be had, in seconds.
    pub stale_if_error: u64,
    /// Whether an old one does while another process is fetching.
    pub stale_while_fetching: bool,
}

/// A document at one address.
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
    document: Option<Dated>,
    attempt: Option<Attempt>,
}

impl State {
    /// The state in `bytes` if it is of `source`; an empty one otherwise. Parts from the future were written by a wrong clock and are left
    /// out, because their age is unknown. So is a document that is not `readable`.
    fn parse(bytes: Option<&[u8]>, source: &str, now: u64, readable: &dyn Fn(&str) -> bool) -> Self {
        let state: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
        let empty = Self { v: VERSION, source: source.to_owned(), document: None, attempt: None };
        let Some(mut state) = state.filter(|state| state.v == VERSION && state.source == source) else {
            return empty;
        };
        state.document = state.document.filter(|document| document.at <= now && readable(&document.content));
        state.attempt = state.attempt.filter(|attempt| attempt.at <= now);
        state
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }
}

/// A document in JSON and when it was fetched.
#[derive(Serialize, Deserialize)]
struct Dated {
    at: u64,
    content: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Attempt {
    at: u64,
    outcome: Outcome,
}

#[derive(Clone, Serialize, Deserialize)]
enum Outcome {
    Awaited,
    Failed(FetchError),
    /// It was fetched, but there was no room for it.
    NotStored,
}

/// The next step.
enum Next {
    Use(String),
    Unavailable(DocumentError, Option<String>),
    Wait(Option<String>),
    Ask(Option<String>),
}

impl<'a> SharedDocument<'a> {
    /// The document of kind `kind` from `source`, an address. Without a cache nothing is shared: for the tools of an ordinary user.
    #[must_use]
    pub fn new(kind: &str, source: &'a str, cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { cache, clock, source, file: file_name(kind, source) }
    }

    /// The document from disk, or from `fetch`, which gets the deadline of its attempt.
    ///
    /// # Errors
    /// [`DocumentError`], when there is not even an old one.
    pub fn get<T: Serialize + DeserializeOwned>(
        &self,
        age: MaxAge,
        deadline: Deadline,
        fetch: impl FnOnce(Deadline) -> Result<T, FetchError>,
    ) -> Result<T, DocumentError> {
        let Some(cache) = self.cache else { return fetch(deadline.at_most(ATTEMPT)).map_err(DocumentError::Fetch) };
        let readable = |content: &str| decode::<T>(content).is_some();
        // It was readable a moment ago.
        let known = |content: String| decode(&content).ok_or(DocumentError::InProgress);
        match self.wait(cache, age, deadline, &readable) {
            Next::Use(content) => known(content),
            Next::Unavailable(missing, old) => old.map_or(Err(missing), known),
            Next::Wait(old) => old.map_or(Err(DocumentError::InProgress), known),
            Next::Ask(old) => match fetch(deadline.at_most(ATTEMPT)) {
                Ok(document) => {
                    self.store(cache, serde_json::to_string(&document).ok());
                    Ok(document)
                }
                Err(failure) => {
                    self.note(cache, Outcome::Failed(failure.clone()));
                    old.map_or(Err(DocumentError::Fetch(failure)), known)
                }
            },
        }
    }

    /// For how many more seconds no process asks again because fetching failed. `None`: it did not fail, or long ago.
    #[must_use]
    pub fn failing_for(&self) -> Option<u64> {
        let bytes = self.cache?.read(&self.file)?;
        let attempt = self.parse(Some(&bytes), &|_| true).attempt?;
        let failed = matches!(attempt.outcome, Outcome::Failed(_) | Outcome::NotStored);
        PAUSE.checked_sub(self.clock.now().saturating_sub(attempt.at)).filter(|left| failed && *left > 0)
    }

    /// Waits until there is a document or a failure, or until this process may ask. The latter is then recorded.
    fn wait(&self, cache: &DiskCache, age: MaxAge, deadline: Deadline, readable: &dyn Fn(&str) -> bool) -> Next {
        let patience = deadline.at_most(ATTEMPT);
        loop {
            match self.next(self.parse(cache.read(&self.file).as_deref(), readable), age) {
                Next::Wait(old) => {
                    let enough = age.stale_while_fetching && old.is_some();
                    if enough || patience.remaining().is_none() {
                        return Next::Wait(old);
                    }
                    std::thread::sleep(LOOK);
                }
                Next::Ask(old) if deadline.remaining().is_none() => return Next::Wait(old),
                Next::Ask(old) => match self.begin(cache, age, deadline, readable) {
                    Ok(true) => return Next::Ask(old),
                    Ok(false) => {} // another was quicker
                    Err(error) => return Next::Unavailable(DocumentError::NotRecorded(error.to_string()), old),
                },
                settled => return settled,
            }
        }
    }

    fn parse(&self, bytes: Option<&[u8]>, readable: &dyn Fn(&str) -> bool) -> State {
        State::parse(bytes, self.source, self.clock.now(), readable)
    }

    fn next(&self, state: State, age: MaxAge) -> Next {
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
        let attempt = state.attempt.map(|attempt| (now.saturating_sub(attempt.at), attempt.outcome));
        match (fresh, attempt) {
            (Some(fresh), _) => Next::Use(fresh),
            (None, Some((since, Outcome::Awaited))) if since < ABANDONED => Next::Wait(old),
            (None, Some((since, Outcome::Failed(failure)))) if since < PAUSE => {
                Next::Unavailable(DocumentError::Fetch(failure), old)
            }
            (None, Some((since, Outcome::NotStored))) if since < PAUSE => {
                Next::Unavailable(DocumentError::NotRecorded("the cache is full".to_owned()), old)
            }
            (None, _) => Next::Ask(old),
        }
    }

    /// Records that this process asks; `false` when another process recorded the same before.
    fn begin(
        &self,
        cache: &DiskCache,
        age: MaxAge,
        deadline: Deadline,
        readable: &dyn Fn(&str) -> bool,
    ) -> Result<bool, FileError> {
        let mut first = false;
        let mut begin = |bytes: Option<&[u8]>| {
            first = matches!(self.next(self.parse(bytes, readable), age), Next::Ask(_));
            let attempt = Attempt { at: self.clock.now(), outcome: Outcome::Awaited };
            let state = State { attempt: Some(attempt), ..self.parse(bytes, readable) };
            if first { state.bytes() } else { None }
        };
        cache.update(&self.file, deadline, &mut begin).map(|()| first)
    }

    /// Stores a document, or records that there is no room for it.
    fn store(&self, cache: &DiskCache, content: Option<String>) {
        let document = content.map(|content| Dated { at: self.clock.now(), content });
        let state = State { v: VERSION, source: self.source.to_owned(), document, attempt: None };
        if cache.update(&self.file, Deadline::after(NOTE), &mut |_| state.bytes()).is_err() {
            self.note(cache, Outcome::NotStored);
        }
    }

    /// Records the outcome of an attempt without a document. An error is ignored: the attempt itself is on record.
    fn note(&self, cache: &DiskCache, outcome: Outcome) {
        let attempt = Attempt { at: self.clock.now(), outcome };
        let mut note =
            |bytes: Option<&[u8]>| State { attempt: Some(attempt.clone()), ..self.parse(bytes, &|_| true) }.bytes();
        let _ = cache.update(&self.file, Deadline::after(NOTE), &mut note);
    }
}

/// A document that one user or one process keeps for itself. A failure to fetch it is not remembered.
pub struct PrivateDocument<'a> {
    storage: &'a dyn Storage,
    clock: &'a dyn Clock,
    source: &'a str,
    file: String,
}

impl<'a> PrivateDocument<'a> {
    /// The document of kind `kind` from `source`, an address.
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

    /// Stores a new document. Without room for it, it is fetched again the next time.
    pub fn write<T: Serialize>(&self, document: &T) {
        let Ok(content) = serde_json::to_string(document) else { return };
        let document = Some(Dated { at: self.clock.now(), content });
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

    #[test]
    fn a_private_document_is_used_for_its_age_and_for_its_source_only() {
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
