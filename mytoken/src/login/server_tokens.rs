// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configured mytoken server as a login uses it: discovery kept on disk, a server that does not answer left alone.

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::service::{Exchanged, TokenService, Wanted};
use crate::breaker::Breaker;
use crate::cache::{DiskCache, file_name};
use crate::http::LazyClient;
use crate::names::{ServerUrl, same_base};
use crate::server::{AccessTokenRequest, Discovery, Server, no_storage};
use crate::token::unverified_claims;
use crate::{Clock, Deadline, Error, Secret};

/// How long a discovery document is used without asking again, in seconds.
const DISCOVERY_AGE: u64 = 3_600;

/// The configured mytoken server.
pub struct ServerTokens<'a> {
    url: ServerUrl,
    http: &'a LazyClient<'a>,
    cache: Option<&'a DiskCache>,
    clock: &'a dyn Clock,
}

#[derive(Serialize, Deserialize)]
struct Cached {
    server: ServerUrl,
    fetched: u64,
    discovery: Discovery,
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
        let name = file_name("server", self.url.as_str());
        let cached = self.cache.and_then(|cache| serde_json::from_slice::<Cached>(&cache.read(&name)?).ok());
        let now = self.clock.now();
        if let Some(cached) = cached
            .filter(|cached| cached.server == self.url && cached.fetched <= now && now - cached.fetched < DISCOVERY_AGE)
        {
            return Ok(Server::from_discovery(http, &self.url, cached.discovery)?.with_clock(self.clock).once());
        }
        let server = Server::discover(http, &self.url, deadline)
            .map_err(|error| self.noted(error, Some(self.url.as_str())))?
            .with_clock(self.clock)
            .once();
        let cached = Cached { server: self.url.clone(), fetched: now, discovery: server.discovery().clone() };
        if let (Some(cache), Ok(bytes)) = (self.cache, serde_json::to_vec(&cached)) {
            let _ = cache.write(&name, &bytes);
        }
        Ok(server)
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
