// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configured mytoken server, as a login uses it: every request is counted before it is sent, the discovery document is kept on
//! disk, and a server that does not answer gets no request for a while.

use std::time::Duration;

use mytoken::cache::DiskCache;
use mytoken::document::{DocumentError, FetchError, MaxAge, SharedDocument};
use mytoken::http::{HttpClient, HttpError, LazyClient};
use mytoken::server::{AccessTokenRequest, Server, refuse_rotation};
use mytoken::token::unverified_claims;
use mytoken::urls::{ServerUrl, same_base};
use mytoken::{Clock, Deadline, Error, Secret};

use crate::budget::{Allowance, RequestProvider};
use crate::refusal::{Limit, Refusal};
use crate::service::TokenService;

/// How old a discovery document may be. While there is no newer one, an old one is as good: it only holds addresses of the same
/// server.
const DISCOVERY: MaxAge = MaxAge { fresh: 3_600, stale_if_error: 86_400, stale_while_fetching: true };

/// Time of a probe: a server that takes longer for its discovery document counts as silent. It is reserved for [`ServerTokens::probe`]. After
/// a login was ended while it waited, the next login waits for it.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Time that is reserved for recording what an answer means, or that there was none. The login waits for the lock of the ledger meanwhile.
const RECORD_TIME: Duration = Duration::from_millis(500);

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
        self.allowance.refuse_repeated(entered)?;
        // A shorter probe would take a slow server for a silent one.
        let has_time = deadline.remaining().is_some_and(|left| left > PROBE_TIME);
        if has_time && self.allowance.settle_ended_logins(self.url.as_str(), deadline) {
            self.probe_after_ended_login(deadline);
        }
        self.allowance.check_backoff(self.url.as_str())?;
        self.discover(deadline)
    }

    /// The server, by its discovery document. The fetch is not counted: it happens once an hour, or once a minute when it fails,
    /// whatever users enter.
    fn discover(&self, deadline: Deadline) -> Result<Server<'_>, Refusal> {
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

    /// Counts and sends one request, and records what its failure means for later requests. `entered` is the entered token, if the request
    /// holds it.
    fn send<T>(
        &self,
        entered: Option<&Secret>,
        provider: RequestProvider<'_>,
        deadline: Deadline,
        send: impl FnOnce(Deadline) -> Result<T, Error>,
    ) -> Result<T, Refusal> {
        let url = self.url.as_str();
        self.allowance.count_request(url, provider, deadline)?;
        let Some(left) = deadline.remaining() else { return Err(Refusal::DeadlinePassed) };
        if let Some(token) = entered {
            self.allowance.record_sent(token);
        }
        let (probe_time, record_time) = (PROBE_TIME.min(left / 4), RECORD_TIME.min(left / 8));
        let probe_by = deadline.earlier(record_time);
        let (answer, _recorded) =
            self.allowance.wait_for(url, provider, deadline, || send(probe_by.earlier(probe_time)));
        answer.inspect(|_| self.allowance.record_answer(url, provider, deadline)).map_err(|error| {
            match &error {
                // There was no connection, so the entered text is not the cause.
                Error::Http(error) if error.is_without_connection() => self.record_silence_for_all(deadline),
                Error::Http(HttpError::Unreachable { .. } | HttpError::TooLate { .. }) => {
                    // A process that was stopped until now must not take a late answer for a silent server.
                    if probe_by.remaining().is_some_and(|left| left >= probe_time / 2) {
                        self.probe(probe_by, deadline);
                    }
                    self.allowance.record_silence(url, provider, deadline);
                }
                _ => self.allowance.record_error(url, provider, &error, deadline),
            }
            Refusal::from(error)
        })
    }

    /// Asks whether the server is silent for all requests, or only for this token. Some tokens make the server wait: for a provider
    /// that their holder chose, or for the server itself (a short token that rotates, MT-45). The answer serves the next login, not this
    /// one.
    fn probe(&self, answer_by: Deadline, deadline: Deadline) {
        let counted = self.allowance.count_request(self.url.as_str(), RequestProvider::UNKNOWN, answer_by);
        if counted.is_ok() && self.is_silent(answer_by, deadline) {
            self.record_silence_for_all(deadline);
        }
    }

    /// Asks the same after a login that was ended. Its sender may have chosen the end, so it has shown nothing about the server. Only a server
    /// that is silent itself for the whole time stops other addresses, not name servers that are slow: with those, logins still work.
    fn probe_after_ended_login(&self, deadline: Deadline) {
        let looks_up_name = || self.http.get().is_ok_and(HttpClient::looks_up_name);
        if self.is_silent(deadline.at_most(PROBE_TIME), deadline) && !looks_up_name() {
            self.record_silence_for_all(deadline);
        }
    }

    /// Whether a request for discovery, which holds no claim of its sender, gets no answer. Records another error until `deadline`.
    fn is_silent(&self, answer_by: Deadline, deadline: Deadline) -> bool {
        let Ok(http) = self.http.get() else { return false };
        match Server::discover_once(http, &self.url, answer_by) {
            Err(Error::Http(error)) => {
                error.is_without_connection()
                    || matches!(error, HttpError::Unreachable { .. } | HttpError::TooLate { .. })
            }
            Err(error) => {
                self.allowance.record_error(self.url.as_str(), RequestProvider::UNKNOWN, &error, deadline);
                false
            }
            Ok(_) => false,
        }
    }

    fn record_silence_for_all(&self, deadline: Deadline) {
        self.allowance.record_silence(self.url.as_str(), RequestProvider::NO_CLAIM, deadline);
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
        Ok(self.discover(deadline)?.revoke(mytoken, false, deadline)?)
    }
}
