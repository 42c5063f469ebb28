// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of a login to the provider of its access token. They are counted like those to the mytoken server.

use mytoken::cache::DiskCache;
use mytoken::config::IssuerSettings;
use mytoken::document::{DocumentError, FetchError, MaxAge, SharedDocument};
use mytoken::http::{HttpAnswer, HttpClient, HttpError, LazyClient};
use mytoken::server::ServerError;
use mytoken::{Clock, Deadline, Error};

use super::PresentedToken;
use crate::budget::{Allowance, RequestProvider};
use crate::counted_requests::{CountedRequests, Told};
use crate::oidc::{ProviderEndpoint, ProviderError, ProviderMetadata, Rejection, describe_missing};
use crate::refusal::Refusal;

/// How old the addresses of a provider may be. Old ones are as good while there are no newer ones.
const ADDRESSES: MaxAge = MaxAge { fresh: 3_600, stale_if_error: 86_400, stale_while_fetching: true };

/// The providers, as logins ask them.
pub struct ProviderRequests<'a> {
    http: &'a LazyClient<'a>,
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
    allowance: &'a Allowance<'a>,
}

/// An endpoint that can be asked, and what the provider calls itself.
pub(super) struct Endpoint<'u> {
    pub url: &'u str,
    pub issuer: &'u str,
}

impl<'a> ProviderRequests<'a> {
    /// The discovery documents are kept in `cache`.
    #[must_use]
    pub fn new(
        http: &'a LazyClient<'a>,
        cache: Option<&'a DiskCache>,
        clock: &'a dyn Clock,
        allowance: &'a Allowance<'a>,
    ) -> Self {
        Self { http, cache, clock, allowance }
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Sends one request to an endpoint of the provider. An answer of any status but 429 and 5xx is an answer.
    pub(super) fn ask(
        &self,
        which: ProviderEndpoint,
        presented: PresentedToken<'_>,
        issuer: &IssuerSettings,
        deadline: Deadline,
        request: impl FnOnce(&HttpClient, &Endpoint<'_>, Deadline) -> Result<HttpAnswer, HttpError>,
    ) -> Result<HttpAnswer, Refusal> {
        let look = |answer_by| match ProviderMetadata::fetch(self.http.get()?, issuer, answer_by) {
            Err(ProviderError::Http(error)) => Err(Error::from(error)),
            _ => Ok(()),
        };
        let looks_up_name = || self.http.get().is_ok_and(HttpClient::looks_up_name);
        let requests = CountedRequests {
            url: &issuer.url,
            allowance: self.allowance,
            told: Told::Nobody,
            look: &look,
            looks_up_name: &looks_up_name,
        };
        let entered = presented.entered.then_some(presented.token);
        let answer = requests.check_before(entered, deadline).and_then(|()| {
            let document = self.addresses(issuer, deadline)?;
            let url = document.endpoint(which, issuer).map_err(|error| unavailable(error.to_string()))?;
            let endpoint = Endpoint { url, issuer: document.issuer() };
            let client = self.http.get()?;
            let provider = RequestProvider { issuer: Some(&issuer.url), verified: !presented.entered };
            requests.send(entered, provider, deadline, |answer_by| {
                usable(request(client, &endpoint, answer_by)?, &issuer.url)
            })
        });
        answer.map_err(|refusal| match refusal {
            // A URL that must not be used is the provider's, too.
            Refusal::Unavailable(reason) | Refusal::ExchangeRefused(reason) => unavailable(reason),
            other => other,
        })
    }

    /// The addresses of the provider. Their fetch is not counted: it happens once an hour, or once a minute when it fails.
    fn addresses(&self, issuer: &IssuerSettings, deadline: Deadline) -> Result<ProviderMetadata, Refusal> {
        let fetch = |deadline| {
            let client = self.http.get().map_err(|error| FetchError::Unavailable(error.to_string()))?;
            ProviderMetadata::fetch(client, issuer, deadline)
                .map_err(|error| FetchError::Unavailable(error.to_string()))
        };
        SharedDocument::new(ProviderMetadata::KIND, &issuer.url, self.cache, self.clock)
            .get(ADDRESSES, deadline, fetch)
            .map_err(|error: DocumentError| unavailable(describe_missing(&issuer.url, error)))
    }
}

/// An answer that says something about the token or this client.
fn usable(answer: HttpAnswer, provider: &str) -> Result<HttpAnswer, Error> {
    let server = provider.to_owned();
    match answer.status {
        429 => Err(Error::Server(ServerError::TooManyRequests { server, retry_after: answer.retry_after })),
        status @ 500.. => Err(Error::Server(ServerError::Failed { server, status })),
        _ => Ok(answer),
    }
}

/// The refusal while the provider cannot be asked.
pub(super) fn unavailable(reason: String) -> Refusal {
    Rejection::ValidationUnavailable(reason).into()
}
