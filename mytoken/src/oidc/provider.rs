// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys from the providers themselves: discovery, JWKS, and what is kept on disk between logins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Fresh, IssuerSettings, KeySet, KeySource};
use crate::breaker::Breaker;
use crate::cache::{DiskCache, file_name};
use crate::http::{DOCUMENT_LIMIT, LazyClient};
use crate::{Clock, Deadline, Error};

/// How long fetching keys may take, so that old ones can still be used within a login's deadline.
const FETCH: Duration = Duration::from_secs(6);

/// Tokens with unknown `kid`s, which anybody can make, cause at most one request in this many seconds.
const UNKNOWN_KEY_PAUSE: u64 = 60;

/// Version of the cached form.
const VERSION: u32 = 1;

/// Fetches keys from providers.
pub struct ProviderKeys<'a> {
    http: &'a LazyClient<'a>,
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
}

/// A provider's keys as they lie on disk.
#[derive(Serialize, Deserialize)]
struct Cached {
    v: u32,
    issuer: String,
    fetched: u64,
    keys: KeySet,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl<'a> ProviderKeys<'a> {
    /// Keys over HTTP, kept in `cache`.
    #[must_use]
    pub fn new(http: &'a LazyClient<'a>, cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { http, cache, clock }
    }

    fn load(&self, issuer: &IssuerSettings) -> Option<Cached> {
        let cached: Cached = serde_json::from_slice(&self.cache?.read(&file_name("jwks", &issuer.url))?).ok()?;
        // A time in the future comes from a clock that was wrong then: nothing can be said about the age.
        (cached.v == VERSION && cached.issuer == issuer.url && cached.fetched <= self.clock.now()).then_some(cached)
    }

    fn store(&self, issuer: &IssuerSettings, keys: &KeySet) {
        let cached = Cached { v: VERSION, issuer: issuer.url.clone(), fetched: self.clock.now(), keys: keys.clone() };
        if let (Some(cache), Ok(bytes)) = (self.cache, serde_json::to_vec(&cached)) {
            let _ = cache.write(&file_name("jwks", &issuer.url), &bytes);
        }
    }

    fn fetch(&self, issuer: &IssuerSettings, deadline: Deadline) -> Result<KeySet, String> {
        let breaker = Breaker::new(self.cache, self.clock);
        if breaker.is_open(&issuer.url) {
            return Err(format!("{} did not answer a moment ago", issuer.url));
        }
        let failed = |error: Error| {
            if matches!(error, Error::Unreachable { .. } | Error::TooLate { .. }) {
                breaker.open(&issuer.url);
            }
            error.to_string()
        };
        let client = self.http.get().map_err(|error| error.to_string())?;
        let deadline = deadline.at_most(FETCH);
        let get = |url: &str| {
            let answer = client.get(url, None, deadline, DOCUMENT_LIMIT).map_err(failed)?;
            if answer.status == 200 { Ok(answer) } else { Err(format!("{url} answered with status {}", answer.status)) }
        };
        let base = issuer.url.strip_suffix('/').unwrap_or(&issuer.url);
        let discovery: Discovery = get(&format!("{base}/.well-known/openid-configuration"))?.json()?;
        if !issuer.is(&discovery.issuer) {
            return Err(format!("the discovery document of {base} belongs to another issuer"));
        }
        let keys = KeySet::parse(&get(&discovery.jwks_uri)?.body)?;
        breaker.close(&issuer.url);
        Ok(keys)
    }
}

impl KeySource for ProviderKeys<'_> {
    fn keys(&self, issuer: &IssuerSettings, fresh: Fresh, deadline: Deadline) -> Result<KeySet, String> {
        let cached = self.load(issuer);
        let age = cached.as_ref().map(|cached| self.clock.now() - cached.fetched);
        let good_until = match fresh {
            Fresh::Enough => issuer.jwks_max_age.as_secs(),
            Fresh::Unknown => UNKNOWN_KEY_PAUSE,
        };
        match (cached, age) {
            (Some(cached), Some(age)) if age < good_until => Ok(cached.keys),
            (cached, age) => match self.fetch(issuer, deadline) {
                Ok(keys) => {
                    self.store(issuer, &keys);
                    Ok(keys)
                }
                Err(reason) => match cached {
                    Some(cached) if age.is_some_and(|age| age < issuer.jwks_stale_if_error.as_secs()) => {
                        Ok(cached.keys)
                    }
                    _ => Err(reason),
                },
            },
        }
    }
}
