// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configured mytoken server, as a login uses it: every request is counted before it is sent, the discovery document is kept on
//! disk, and a server that does not answer gets no request for a while.

use mytoken::cache::DiskCache;
use mytoken::document::{DocumentError, FetchError, MaxAge, SharedDocument};
use mytoken::http::{HttpClient, LazyClient};
use mytoken::server::{AccessTokenRequest, Server, ServerError, refuse_rotation};
use mytoken::token::unverified_claims;
use mytoken::urls::{IssuerUrl, ServerUrl, same_base};
use mytoken::{Clock, Deadline, Error, Secret};

use crate::budget::{Allowance, RequestProvider};
use crate::counted_requests::{CountedRequests, Told};
use crate::refusal::{Limit, Refusal};
use crate::service::TokenService;

/// How old a discovery document may be. While there is no newer one, an old one is as good: it only holds addresses of the same
/// server.
const DISCOVERY: MaxAge = MaxAge { fresh: 3_600, stale_if_error: 86_400, stale_while_fetching: true };

/// The configured mytoken server.
pub struct ServerTokens<'a> {
    url: ServerUrl,
    http: &'a LazyClient<'a>,
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
    allowance: &'a Allowance<'a>,
}

impl<'a> ServerTokens<'a> {
    /// The server at `url`.
    #[must_use]
    pub fn new(
        url: ServerUrl,
        http: &'a LazyClient<'a>,
        cache: Option<&'a DiskCache>,
        clock: &'a dyn Clock,
        allowance: &'a Allowance<'a>,
    ) -> Self {
        Self { url, http, cache, clock, allowance }
    }

    /// The server for the entered token, if there is no backoff for it and the token is new in this connection.
    fn available_server(&self, entered: &Secret, deadline: Deadline) -> Result<Server<'_>, Refusal> {
        self.with_requests(|requests| requests.check_before(Some(entered), deadline))?;
        self.discover(deadline)
    }

    /// Its requests. The discovery document is the request without a claim of its sender.
    fn with_requests<T>(&self, act: impl FnOnce(&CountedRequests<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let look = |answer_by| Server::discover_once(self.http.get()?, &self.url, answer_by).map(drop);
        let looks_up_name = || self.http.get().is_ok_and(HttpClient::looks_up_name);
        act(&CountedRequests {
            url: self.url.as_str(),
            allowance: self.allowance,
            told: Told::Agent,
            look: &look,
            looks_up_name: &looks_up_name,
        })
    }

    /// The server, by its discovery document. The fetch is not counted: it happens once an hour, or once a minute when it fails,
    /// whatever users enter.
    pub(crate) fn discover(&self, deadline: Deadline) -> Result<Server<'_>, Refusal> {
        let url = self.url.as_str();
        let http = self.http.get()?;
        let fetch = |deadline| match Server::discover_once(http, &self.url, deadline) {
            Ok(server) => Ok(server.discovery().clone()),
            Err(error) => {
                self.allowance.record_error(url, RequestProvider::UNKNOWN, &error, deadline);
                Err(fetch_error(&error))
            }
        };
        let discovery = SharedDocument::new("server", url, self.cache, self.clock)
            .get(DISCOVERY, deadline, fetch)
            .map_err(|error| match error {
                DocumentError::Fetch(FetchError::Unavailable(reason)) => Refusal::Unavailable(reason),
                DocumentError::Fetch(FetchError::TooManyRequests) => {
                    // Only the ledger knows the seconds.
                    let unknown = Refusal::TooManyRequests { wait: 60, limit: Limit::Server };
                    self.allowance.check_backoff(url).err().unwrap_or(unknown)
                }
                DocumentError::Fetch(FetchError::Configuration(reason)) => Refusal::Configuration(reason),
                DocumentError::Fetch(FetchError::Refused(reason)) => Refusal::ExchangeRefused(reason),
                DocumentError::InProgress => {
                    Refusal::Unavailable(format!("{url} has not yet answered the request of another login"))
                }
                DocumentError::NotRecorded(reason) => Refusal::Unavailable(format!(
                    "{url} gets no request, because its answer cannot be stored: {reason}"
                )),
            })?;
        Ok(Server::from_discovery(http, &self.url, discovery)?.with_clock(self.clock).once())
    }

    /// Counts and sends one request. `entered` is the entered token, if the request holds it.
    fn send<T>(
        &self,
        entered: Option<&Secret>,
        provider: RequestProvider<'_>,
        deadline: Deadline,
        send: impl FnOnce(Deadline) -> Result<T, Error>,
    ) -> Result<T, Refusal> {
        self.with_requests(|requests| requests.send(entered, provider, deadline, send))
    }

    /// Refuses a login with a link while the server gets no requests. Counts nothing.
    pub(crate) fn check_before_link(&self, deadline: Deadline) -> Result<(), Refusal> {
        self.with_requests(|requests| requests.check_before(None, deadline))?;
        self.allowance.check_backoff(self.url.as_str())
    }

    /// Counts and sends one request of a login with a link. Nothing in it is of the person.
    pub(crate) fn send_for_link<T>(
        &self,
        deadline: Deadline,
        send: impl FnOnce(Deadline) -> Result<T, Error>,
    ) -> Result<T, Refusal> {
        self.send(None, RequestProvider::UNKNOWN, deadline, send)
    }

    /// The URL of a provider.
    pub(crate) fn issuer_url(&self, url: &str) -> Result<IssuerUrl, Refusal> {
        IssuerUrl::parse(url, self.http.get()?.loopback_http()).map_err(|error| Error::from(error).into())
    }

    /// The provider that the server asks when it exchanges this mytoken. Its silence must not refuse the holders of other tokens. Only
    /// providers of the server's discovery document count.
    fn provider_of(&self, server: &Server<'_>, mytoken: &Secret) -> Option<String> {
        let claims = unverified_claims(mytoken)?;
        let claimed = &claims.unverified().oidc_iss;
        let mut providers = server.discovery().providers_supported.iter();
        providers.find(|provider| same_base(&provider.issuer, claimed)).map(|provider| provider.issuer.clone())
    }
}

/// The error that is stored for later logins when the discovery document cannot be fetched.
fn fetch_error(error: &Error) -> FetchError {
    let reason = error.to_string();
    match Refusal::from(error.clone()) {
        Refusal::Configuration(_) => FetchError::Configuration(reason),
        Refusal::ExchangeRefused(_) => FetchError::Refused(reason),
        Refusal::TooManyRequests { .. } => FetchError::TooManyRequests,
        _ => FetchError::Unavailable(reason),
    }
}

impl TokenService for ServerTokens<'_> {
    fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Secret, Refusal> {
        let server = self.available_server(code, deadline)?;
        let redeem = |deadline| server.redeem(code, deadline);
        Ok(self.send(Some(code), RequestProvider::UNKNOWN, deadline, redeem)?.mytoken)
    }

    fn exchange(
        &self,
        request: &AccessTokenRequest<'_>,
        redeemed: bool,
        deadline: Deadline,
    ) -> Result<Secret, Refusal> {
        // A backoff that began after the redemption must not cost the user the mytoken.
        let entered = (!redeemed).then_some(request.mytoken);
        let server = match entered {
            Some(entered) => self.available_server(entered, deadline)?,
            None => self.discover(deadline)?,
        };
        let issuer = self.provider_of(&server, request.mytoken);
        let provider = RequestProvider { issuer: issuer.as_deref(), verified: redeemed };
        // A successor of a rotated mytoken could not be given back to the user, so such a login is refused.
        let exchange = |deadline| server.access_token(request, &mut refuse_rotation, deadline);
        Ok(self.send(entered, provider, deadline, exchange)?.token)
    }

    fn revoke(&self, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal> {
        // Neither a backoff nor the budget stops a revocation: this host caused the mytoken.
        self.allowance.count_revocation(self.url.as_str(), deadline);
        // Its sub-tokens stay: they can be older than this login.
        match self.discover(deadline)?.revoke(mytoken, false, deadline) {
            // Nobody can use it any more.
            Err(Error::Server(ServerError::TokenRefused { .. })) => Ok(()),
            revoked => Ok(revoked?),
        }
    }
}
