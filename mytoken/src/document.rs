// SPDX-License-Identifier: MIT OR Apache-2.0
//! Documents that all logins of a host share: a provider's keys, the mytoken server's discovery document.
//!
//! Each login is a process of its own, and anybody at a prompt can make one want such a document. So the attempt to fetch one is
//! noted on disk before the request leaves, and its outcome after: whatever it is, nobody asks again within [`PAUSE`]. Where the asking
//! process ended before there was an outcome, the next may ask after 8 s.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{DiskCache, file_name};
use crate::{Clock, Deadline};

/// After a failure nobody asks again for this many seconds.
pub const PAUSE: u64 = 60;

/// How long one attempt may take, so that something is left of a login's deadline, and how long others wait for its outcome.
const ATTEMPT: Duration = Duration::from_secs(6);

/// How long the lock is waited for to note an outcome: the login itself waits for that.
const NOTE: Duration = Duration::from_secs(2);

/// An attempt without outcome after this many seconds belonged to a process that is gone: the next one may try.
const ABANDONED: u64 = 8;

/// How often the outcome of another's attempt is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Version of the form on disk.
const VERSION: u32 = 2;

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing<E> {
    /// Fetching it failed, now or less than [`PAUSE`] seconds ago.
    Failed(E),
    /// Another process is fetching it and has no answer yet, or the deadline has passed.
    Awaited,
    /// No attempt could be noted on disk, so none was made: without a memory every forged token would cause one.
    Forgetful(
        /// What is wrong with the cache.
        String,
    ),
}

/// How old a document may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Used without asking, in seconds.
    pub fresh: u64,
    /// Used when a newer one cannot be had, in seconds.
    pub stale: u64,
    /// Whether an old one does while another process is fetching.
    pub while_awaited: bool,
}

/// A document at one address.
pub struct SharedDocument<'a> {
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
    source: &'a str,
    file: String,
}

#[derive(Serialize, Deserialize)]
struct State<T, E> {
    v: u32,
    source: String,
    document: Option<Dated<T>>,
    attempt: Option<Attempt<E>>,
}

#[derive(Serialize, Deserialize)]
struct Dated<T> {
    at: u64,
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Attempt<E> {
    at: u64,
    outcome: Outcome<E>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Outcome<E> {
    Awaited,
    Failed(E),
    /// It was fetched, but there was no room for it.
    NotStored,
}

/// What is to be done.
enum Next<T, E> {
    Use(T),
    Missing(Missing<E>, Option<T>),
    Wait(Option<T>),
    Ask(Option<T>),
}

impl<'a> SharedDocument<'a> {
    /// The document of kind `kind` from `source`, an address. Without a cache nothing is shared: for the tools of an ordinary user.
    #[must_use]
    pub fn new(kind: &str, source: &'a str, cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { cache, clock, source, file: file_name(kind, source) }
    }

    /// The document: as it lies on disk, or by `fetch`, which gets the deadline of its attempt.
    ///
    /// # Errors
    /// [`Missing`], when there is not even an old one.
    pub fn get<T, E>(
        &self,
        age: Age,
        deadline: Deadline,
        fetch: impl FnOnce(Deadline) -> Result<T, E>,
    ) -> Result<T, Missing<E>>
    where
        T: Clone + Serialize + DeserializeOwned,
        E: Clone + Serialize + DeserializeOwned,
    {
        let Some(cache) = self.cache else { return fetch(deadline.at_most(ATTEMPT)).map_err(Missing::Failed) };
        let patience = deadline.at_most(ATTEMPT);
        loop {
            match self.next(self.parse(cache.read(&self.file).as_deref()), age) {
                Next::Use(content) => return Ok(content),
                Next::Missing(missing, old) => return old.ok_or(missing),
                Next::Wait(Some(old)) if age.while_awaited => return Ok(old),
                Next::Wait(old) if patience.remaining().is_none() => return old.ok_or(Missing::Awaited),
                Next::Wait(_) => std::thread::sleep(LOOK),
                Next::Ask(old) if deadline.remaining().is_none() => return old.ok_or(Missing::Awaited),
                Next::Ask(old) => match self.begin::<T, E>(cache, age, deadline) {
                    Ok(true) => return self.ask(cache, fetch(deadline.at_most(ATTEMPT)), old),
                    Ok(false) => {} // another was quicker
                    Err(error) => return old.ok_or_else(|| Missing::Forgetful(error.to_string())),
                },
            }
        }
    }

    /// For how many seconds nobody asks again because fetching failed; `None`: it did not, or long ago.
    #[must_use]
    pub fn failing_for(&self) -> Option<u64> {
        let bytes = self.cache?.read(&self.file)?;
        let attempt = self.parse::<serde_json::Value, serde_json::Value>(Some(&bytes)).attempt?;
        let failed = matches!(attempt.outcome, Outcome::Failed(_) | Outcome::NotStored);
        PAUSE.checked_sub(self.clock.now().saturating_sub(attempt.at)).filter(|left| failed && *left > 0)
    }

    fn parse<T: DeserializeOwned, E: DeserializeOwned>(&self, bytes: Option<&[u8]>) -> State<T, E> {
        let now = self.clock.now();
        let state: Option<State<T, E>> = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
        let empty = State { v: VERSION, source: self.source.to_owned(), document: None, attempt: None };
        let Some(mut state) = state.filter(|state| state.v == VERSION && state.source == self.source) else {
            return empty;
        };
        // A time in the future comes from a clock that was wrong then: nothing can be said about the age.
        state.document = state.document.filter(|document| document.at <= now);
        state.attempt = state.attempt.filter(|attempt| attempt.at <= now);
        state
    }

    fn next<T, E>(&self, state: State<T, E>, age: Age) -> Next<T, E> {
        let now = self.clock.now();
        let (mut fresh, mut old) = (None, None);
        if let Some(document) = state.document {
            let since = now.saturating_sub(document.at);
            if since < age.fresh {
                fresh = Some(document.content);
            } else if since < age.stale {
                old = Some(document.content);
            }
        }
        let attempt = state.attempt.map(|attempt| (now.saturating_sub(attempt.at), attempt.outcome));
        match (fresh, attempt) {
            (Some(fresh), _) => Next::Use(fresh),
            (None, Some((since, Outcome::Awaited))) if since < ABANDONED => Next::Wait(old),
            (None, Some((since, Outcome::Failed(error)))) if since < PAUSE => {
                Next::Missing(Missing::Failed(error), old)
            }
            (None, Some((since, Outcome::NotStored))) if since < PAUSE => {
                Next::Missing(Missing::Forgetful("the cache is full".to_owned()), old)
            }
            (None, _) => Next::Ask(old),
        }
    }

    /// Notes that this process asks; `false` when another one has noted the same since.
    fn begin<T, E>(&self, cache: &DiskCache, age: Age, deadline: Deadline) -> Result<bool, crate::Error>
    where
        T: Clone + Serialize + DeserializeOwned,
        E: Clone + Serialize + DeserializeOwned,
    {
        cache.update(&self.file, deadline, |bytes| {
            if !matches!(self.next(self.parse::<T, E>(bytes), age), Next::Ask(_)) {
                return (None, false);
            }
            let attempt = Attempt { at: self.clock.now(), outcome: Outcome::Awaited };
            (serde_json::to_vec(&State { attempt: Some(attempt), ..self.parse::<T, E>(bytes) }).ok(), true)
        })
    }

    /// Notes the outcome.
    fn ask<T, E>(&self, cache: &DiskCache, fetched: Result<T, E>, old: Option<T>) -> Result<T, Missing<E>>
    where
        T: Clone + Serialize + DeserializeOwned,
        E: Clone + Serialize + DeserializeOwned,
    {
        let now = self.clock.now();
        let note = |outcome: &Outcome<E>| {
            cache.update(&self.file, Deadline::after(NOTE), |bytes| {
                let attempt = Some(Attempt { at: now, outcome: outcome.clone() });
                (serde_json::to_vec(&State { attempt, ..self.parse::<T, E>(bytes) }).ok(), ())
            })
        };
        match fetched {
            Ok(content) => {
                let document = Some(Dated { at: now, content: content.clone() });
                let state = State::<T, E> { v: VERSION, source: self.source.to_owned(), document, attempt: None };
                let stored = cache.update(&self.file, Deadline::after(NOTE), |_| (serde_json::to_vec(&state).ok(), ()));
                if stored.is_err() {
                    let _ = note(&Outcome::NotStored);
                }
                Ok(content)
            }
            Err(error) => {
                let _ = note(&Outcome::Failed(error.clone()));
                old.ok_or(Missing::Failed(error))
            }
        }
    }
}
