// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys from the issuers: discovery, JWKS, and the copies on disk between logins.

use mytoken::cache::DiskCache;
use mytoken::config::IssuerSettings;
use mytoken::document::{DocumentError, FetchError, MaxAge, SharedDocument};
use mytoken::http::LazyClient;
use mytoken::{Clock, Deadline};

use super::{KeyFreshness, KeySet, KeySource, KeysUnavailable, ProviderMetadata};

/// Anybody can invent a `kid`. Tokens with an unknown one cause at most one request in this many seconds.
const UNKNOWN_KEY_INTERVAL: u64 = 60;

/// Fetches keys from their issuers.
pub struct ProviderKeys<'a> {
    http: &'a LazyClient<'a>,
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
}

impl<'a> ProviderKeys<'a> {
    /// Keys over HTTP, kept in `cache`. Without a cache, every call sends a request.
    #[must_use]
    pub fn new(http: &'a LazyClient<'a>, cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { http, cache, clock }
    }

    fn fetch(&self, issuer: &IssuerSettings, deadline: Deadline) -> Result<KeySet, String> {
        let client = self.http.get().map_err(|error| error.to_string())?;
        let document = ProviderMetadata::fetch(client, issuer, deadline).map_err(|error| error.to_string())?;
        document.keys(client, issuer, deadline).map_err(|error| error.to_string())
    }
}

impl KeySource for ProviderKeys<'_> {
    fn keys(
        &self,
        issuer: &IssuerSettings,
        freshness: KeyFreshness,
        deadline: Deadline,
    ) -> Result<KeySet, KeysUnavailable> {
        let age = MaxAge {
            fresh: match freshness {
                KeyFreshness::Configured => issuer.jwks_max_age.as_secs(),
                KeyFreshness::Newest => UNKNOWN_KEY_INTERVAL,
            },
            stale_if_error: issuer.jwks_stale_if_error.as_secs(),
            // A token whose key is not in the old set waits for the new one.
            stale_while_fetching: freshness == KeyFreshness::Configured,
        };
        let url = &issuer.url;
        SharedDocument::new("jwks", url, self.cache, self.clock)
            .get(age, deadline, |deadline| self.fetch(issuer, deadline).map_err(FetchError::Unavailable))
            .map_err(|error| KeysUnavailable { reason: describe_missing(url, error) })
    }
}

/// Why there is no document of the provider at `url`.
pub(crate) fn describe_missing(url: &str, error: DocumentError) -> String {
    match error {
        DocumentError::Fetch(
            FetchError::Unavailable(reason) | FetchError::Configuration(reason) | FetchError::Refused(reason),
        ) => {
            format!("{reason} (not asked again for a minute)")
        }
        DocumentError::Fetch(FetchError::TooManyRequests) => {
            format!("{url} refused a request: too many requests (not asked again for a minute)")
        }
        DocumentError::InProgress => format!("{url} has not yet answered the request of another login"),
        DocumentError::NotRecorded(reason) => {
            format!("{url} gets no request, because its answer cannot be stored: {reason}")
        }
    }
}
