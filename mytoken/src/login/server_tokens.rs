// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configured mytoken server as a login uses it: discovery kept on disk, a server that does not answer left alone.

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::service::{Exchanged, TokenService, Wanted};
use crate::breaker::Breaker;
use crate::cache::DiskCache;
use crate::document::{Age, Missing, SharedDocument};
use crate::http::LazyClient;
use crate::names::{ServerUrl, same_base};
use crate::server::{AccessTokenRequest, Server, no_storage};
use crate::token::unverified_claims;
use crate::{Clock, Deadline, Error, Secret};

/// How old a discovery document may be. An old one is as good while nobody gives a newer: it only names addresses of the same server.
const DISCOVERY: Age = Age { fresh: 3_600, stale: 86_400, while_awaited: true };

/// The configured mytoken server.
pub struct ServerTokens<'a> {
    url: ServerUrl,
    http: &'a LazyClient<'a>,
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
}

/// Why the server's discovery document could not be had, as it is remembered for later logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum NoDiscovery {
    /// It may be there later.
    Unavailable(String),
    /// The configuration names a server that is none, or another.
    Configuration(String),
    /// The server refused it.
    Refused(String),
}

impl<'a> ServerTokens<'a> {
    /// The server at `url`.
    #[must_use]
    pub fn new(url: ServerUrl, http: &'a LazyClient<'a>, cache: Option<&'a DiskCache>, clock: &'a dyn Clock) -> Self {
        Self { url, http, cache, clock }
    }

    fn breaker(&self) -> Breaker<'_> {
        Breaker::new(self.cache, self.clock)
    }

    fn server(&self, deadline: Deadline) -> Result<Server<'_>, Refusal> {
        if self.breaker().is_open(self.url.as_str()) {
            return Err(Refusal::Unavailable(format!("{} did not answer a moment ago", self.url)));
        }
        let http = self.http.get()?;
        let discovery = SharedDocument::new("server", self.url.as_str(), self.cache, self.clock)
            .get(DISCOVERY, deadline, |deadline| {
                let server =
                    Server::discover_once(http, &self.url, deadline).map_err(|error| NoDiscovery::from(&error))?;
                Ok(server.discovery().clone())
            })
            .map_err(|missing: Missing<NoDiscovery>| match missing {
                Missing::Failed(NoDiscovery::Unavailable(reason)) => Refusal::Unavailable(reason),
                Missing::Failed(NoDiscovery::Configuration(reason)) => Refusal::Configuration(reason),
                Missing::Failed(NoDiscovery::Refused(reason)) => Refusal::ExchangeRefused(reason),
                Missing::Awaited => Refusal::Unavailable(format!("{} has not answered another login yet", self.url)),
                Missing::Forgetful(reason) => Refusal::Unavailable(format!(
                    "{} is not asked, because nothing can be remembered: {reason}",
                    self.url
                )),
            })?;
        Ok(Server::from_discovery(http, &self.url, discovery)?.with_clock(self.clock).once())
    }

    /// Notes who did not answer: the server when it cannot be reached, else `silent`, whom it waited for as far as is known.
    fn noted(&self, error: Error, silent: Option<&str>) -> Refusal {
        match (&error, silent) {
            (Error::Unreachable { sent: false, .. }, _) => self.breaker().open(self.url.as_str()),
            (Error::Unreachable { .. } | Error::TooLate { .. }, Some(silent)) => self.breaker().open(silent),
            _ => {}
        }
        Refusal::from(error)
    }

    /// Whom the server waits for when it exchanges this mytoken: the provider behind it, whose silence must not lock out the holders
    /// of others. Nobody verified the claim, but a server does not wait for a lie, and only its own providers are noted. Silence after
    /// a short token says nothing: one that rotates makes the server wait for itself (dossier `mytoken-protocol` 18).
    fn behind(&self, server: &Server<'_>, mytoken: &Secret) -> Option<String> {
        let claims = unverified_claims(mytoken)?;
        let claimed = &claims.unverified().oidc_iss;
        let mut providers = server.discovery().providers_supported.iter();
        let provider = providers.find(|provider| same_base(&provider.issuer, claimed))?;
        Some(format!("{} {}", self.url, provider.issuer))
    }
}

impl From<&Error> for NoDiscovery {
    fn from(error: &Error) -> Self {
        let reason = error.to_string();
        match Refusal::from(error.clone()) {
            Refusal::Configuration(_) => Self::Configuration(reason),
            Refusal::ExchangeRefused(_) => Self::Refused(reason),
            _ => Self::Unavailable(reason),
        }
    }
}

impl TokenService for ServerTokens<'_> {
    fn redeem(&self, code: &Secret, deadline: Deadline) -> Result<Secret, Refusal> {
        let granted = self
            .server(deadline)?
            .redeem(code, deadline)
            .map_err(|error| self.noted(error, Some(self.url.as_str())))?;
        self.breaker().close(self.url.as_str());
        Ok(granted.mytoken)
    }

    fn exchange(&self, mytoken: &Secret, wanted: &Wanted<'_>, deadline: Deadline) -> Result<Exchanged, Refusal> {
        let request =
            AccessTokenRequest { mytoken, scope: wanted.scope, audience: wanted.audience, comment: wanted.comment };
        let server = self.server(deadline)?;
        let behind = self.behind(&server, mytoken);
        if behind.as_deref().is_some_and(|behind| self.breaker().is_open(behind)) {
            return Err(Refusal::Unavailable(format!("a provider behind {} did not answer a moment ago", self.url)));
        }
        // Nobody here could give a successor back to the person, so a token that rotates after all is refused.
        let token = server
            .access_token(&request, &mut no_storage, deadline)
            .map_err(|error| self.noted(error, behind.as_deref()))?;
        self.breaker().close(self.url.as_str());
        if let Some(behind) = &behind {
            self.breaker().close(behind);
        }
        Ok(Exchanged { token: token.token })
    }
}
