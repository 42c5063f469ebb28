// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configured mytoken server as a login uses it: each request counted before it leaves, discovery kept on disk, a server that does
//! not answer left alone.

use std::time::Duration;

use mytoken::cache::DiskCache;
use mytoken::document::{Age, Failure, Missing, SharedDocument};
use mytoken::http::HttpError;
use mytoken::http::LazyClient;
use mytoken::names::{ServerUrl, same_base};
use mytoken::server::{AccessTokenRequest, Server, no_storage};
use mytoken::token::unverified_claims;
use mytoken::{Clock, Deadline, Error, Secret};

use super::Refusal;
use super::budget::{Allowance, Behind};
use super::service::{Exchanged, TokenService, Wanted};

/// How old a discovery document may be. An old one is as good while nobody gives a newer: it only names addresses of the same server.
const DISCOVERY: Age = Age { fresh: 3_600, stale: 86_400, while_awaited: true };

/// What is kept of a login's time for the question whether the server is there at all.
const PROBE: Duration = Duration::from_secs(2);

/// Nobody's mytoken: a request for which only the server itself matters.
const NOBODY: Behind<'static> = Behind { provider: None, vouched: false };

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

    /// The server, unless it is left alone.
    fn server(&self, deadline: Deadline) -> Result<Server<'_>, Refusal> {
        self.allowance.check(self.url.as_str())?;
        self.known(deadline)
    }

    /// The server, by its discovery document. Fetching that is not counted: it happens once an hour, or once a minute when it fails,
    /// whatever is typed.
    fn known(&self, deadline: Deadline) -> Result<Server<'_>, Refusal> {
        let url = self.url.as_str();
        let http = self.http.get()?;
        let fetch = |deadline| match Server::discover_once(http, &self.url, deadline) {
            Ok(server) => Ok(server.discovery().clone()),
            Err(error) => {
                self.allowance.told(url, NOBODY, &error);
                Err(failure(&error))
            }
        };
        let discovery = SharedDocument::new("server", url, self.cache, self.clock)
            .get(DISCOVERY, deadline, fetch)
            .map_err(|missing| match missing {
                Missing::Failed(Failure::Unavailable(reason)) => Refusal::Unavailable(reason),
                Missing::Failed(Failure::Busy) => {
                    // Without a ledger nothing is known of the seconds.
                    self.allowance.check(url).err().unwrap_or(Refusal::Busy { wait: 60, what: "server_limit" })
                }
                Missing::Failed(Failure::Configuration(reason)) => Refusal::Configuration(reason),
                Missing::Failed(Failure::Refused(reason)) => Refusal::ExchangeRefused(reason),
                Missing::Awaited => Refusal::Unavailable(format!("{url} has not answered another login yet")),
                Missing::Forgetful(reason) => {
                    Refusal::Unavailable(format!("{url} is not asked, because nothing can be remembered: {reason}"))
                }
            })?;
        Ok(Server::from_discovery(http, &self.url, discovery)?.with_clock(self.clock).once())
    }

    /// Sends one counted request and notes what follows from its failure.
    fn send<T>(
        &self,
        behind: Behind<'_>,
        deadline: Deadline,
        send: impl FnOnce(Deadline) -> Result<T, Error>,
    ) -> Result<T, Refusal> {
        let url = self.url.as_str();
        self.allowance.ask(url, behind, deadline)?;
        let Some(left) = deadline.remaining() else { return Err(Refusal::Late) };
        let probe = PROBE.min(left / 4);
        send(deadline.earlier(probe)).inspect(|_| self.allowance.answered(url, behind.provider)).map_err(|error| {
            match &error {
                // No connection was made, so nothing of what was typed had a part in it.
                Error::Http(HttpError::Unreachable { sent: false, .. }) => self.silence(),
                Error::Http(HttpError::Unreachable { .. }) | Error::Http(HttpError::TooLate { .. }) => {
                    // Who was held up until now learns nothing from an answer that is late.
                    if deadline.remaining().is_some_and(|left| left >= probe / 2) {
                        self.probe(deadline);
                    }
                    self.allowance.silence(url, behind);
                }
                _ => self.allowance.told(url, behind, &error),
            }
            Refusal::from(error)
        })
    }

    /// Whether the server is silent for everybody, or only for one token: some make it wait, for a provider that their holder chose or
    /// for itself (a short token that rotates, MT-45). In a request for discovery nothing is somebody's word.
    /// The answer is used by the next login, not by this one.
    fn probe(&self, deadline: Deadline) {
        let counted = self.allowance.ask(self.url.as_str(), NOBODY, deadline);
        if let (Ok(()), Ok(http)) = (counted, self.http.get()) {
            match Server::discover_once(http, &self.url, deadline) {
                Err(Error::Http(HttpError::Unreachable { .. }) | Error::Http(HttpError::TooLate { .. })) => {
                    self.silence();
                }
                Err(error) => self.allowance.told(self.url.as_str(), NOBODY, &error),
                Ok(_) => {}
            }
        }
    }

    fn silence(&self) {
        self.allowance.silence(self.url.as_str(), Behind { vouched: true, ..NOBODY });
    }

    /// Whom the server waits for when it exchanges this mytoken: the provider behind it, whose silence must not lock out the holders
    /// of others. Only a provider that the server has is noted.
    fn provider(&self, server: &Server<'_>, mytoken: &Secret) -> Option<String> {
        let claims = unverified_claims(mytoken)?;
        let claimed = &claims.unverified().oidc_iss;
        let mut providers = server.discovery().providers_supported.iter();
        providers.find(|provider| same_base(&provider.issuer, claimed)).map(|provider| provider.issuer.clone())
    }
}

/// What is remembered for later logins of a discovery document that could not be had.
fn failure(error: &Error) -> Failure {
    let reason = error.to_string();
    match Refusal::from(error.clone()) {
        Refusal::Configuration(_) => Failure::Configuration(reason),
        Refusal::ExchangeRefused(_) => Failure::Refused(reason),
        Refusal::Busy { .. } => Failure::Busy,
        _ => Failure::Unavailable(reason),
    }
}

impl TokenService for ServerTokens<'_> {
    fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Secret, Refusal> {
        let server = self.server(deadline)?;
        Ok(self.send(NOBODY, deadline, |deadline| server.redeem(code, deadline))?.mytoken)
    }

    fn exchange(
        &self,
        mytoken: &Secret,
        vouched: bool,
        wanted: &Wanted<'_>,
        deadline: Deadline,
    ) -> Result<Exchanged, Refusal> {
        let request =
            AccessTokenRequest { mytoken, scope: wanted.scope, audience: wanted.audience, comment: wanted.comment };
        // A hold that has appeared since it was redeemed must not cost somebody a mytoken.
        let server = if vouched { self.known(deadline)? } else { self.server(deadline)? };
        let provider = self.provider(&server, mytoken);
        let behind = Behind { provider: provider.as_deref(), vouched };
        // Nobody here could give a successor back to the person, so a token that rotates after all is refused.
        let token = self.send(behind, deadline, |deadline| server.access_token(&request, &mut no_storage, deadline))?;
        Ok(Exchanged { token: token.token })
    }

    fn revoke(&self, mytoken: &Secret, deadline: Deadline) -> Result<(), Refusal> {
        // No hold matters and no budget: what was handed out here is taken back.
        self.allowance.count();
        // Its children, if it was somebody's own token before, are none of this login's.
        Ok(self.known(deadline)?.revoke(mytoken, false, deadline)?)
    }
}
