// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gets a first mytoken by the OIDC flow: the user confirms in a browser, and the client polls.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::{Context, Repeat};
use super::grant::AUTHORIZATION_CODE;
use super::subtoken::{invalid, short_name};
use super::wire::seconds;
use super::{Grant, Granted, Server};
use crate::capabilities::Capabilities;
use crate::http::ANSWER_LIMIT;
use crate::restrictions::Clause;
use crate::server::ServerError;
use crate::token::Rotation;
use crate::urls::{self, IssuerUrl};
use crate::{Deadline, Error, Secret};

/// A request for a login. The user can change all of it on the consent page (MT-27), so check the result by [`Granted::broader_than`].
#[derive(Debug, Clone)]
pub struct LoginRequest<'a> {
    /// The provider at which the user logs in. It must be one of the server's providers.
    pub issuer: &'a IssuerUrl,
    /// Capabilities of the mytoken; never empty.
    pub capabilities: &'a Capabilities,
    /// Clauses of the mytoken. Together they may have at most one audience, because the provider gets only one (MT-29).
    pub restrictions: &'a [Clause],
    /// When the mytoken rotates. Only for a client that alone uses the token and stores its successors durably.
    pub rotation: Option<Rotation>,
    /// Name of the mytoken in the user's lists; cut at 80 characters.
    pub name: &'a str,
    /// Name of the program on the consent page.
    pub application_name: &'a str,
}

/// A login that waits for the user.
#[derive(Debug, Clone)]
pub struct PendingLogin {
    /// The link for the user. It is secret: whoever sees it can compute the polling code (MT-31).
    pub consent_uri: Secret,
    /// The polling code.
    pub polling_code: Secret,
    /// Time limit for the login, from the answer on.
    pub expires_in: Duration,
    /// Pause between polls.
    pub interval: Duration,
}

/// The answer to one poll.
#[derive(Debug, Clone)]
pub enum Poll {
    /// The user has not finished.
    Pending,
    /// The mytoken. The server sends this answer only once, so store it before anything else.
    Granted(Box<Granted>),
}

#[derive(Serialize)]
struct Start<'a> {
    grant_type: &'static str,
    oidc_flow: &'static str,
    client_type: &'static str,
    response_type: &'static str,
    oidc_issuer: &'a str,
    capabilities: &'a Capabilities,
    #[serde(skip_serializing_if = "<[Clause]>::is_empty")]
    restrictions: &'a [Clause],
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<Rotation>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    application_name: &'a str,
}

/// Longest pause between two polls, in seconds. A longer pause that the server names is shortened, because the user waits.
const INTERVAL_LIMIT: u64 = 60;

#[derive(Deserialize)]
struct Started {
    consent_uri: Secret,
    polling_code: Secret,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    interval: Option<u64>,
}

#[derive(Serialize)]
struct PollBody<'a> {
    grant_type: &'static str,
    polling_code: &'a Secret,
}

impl Server<'_> {
    /// Begins a login and returns the link for the user.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::InputError::InvalidRequest) and [`ServerError::NotOffered`] before anything is sent; else the error of the
    /// server or the network.
    pub fn start_login(&self, request: &LoginRequest<'_>, deadline: Deadline) -> Result<PendingLogin, Error> {
        self.check_login(request)?;
        let providers = &self.discovery.providers_supported;
        let provider = providers.iter().find(|provider| request.issuer.matches(&provider.issuer)).ok_or_else(|| {
            Error::Server(ServerError::NotOffered {
                server: self.url.to_string(),
                what: format!("logins at {}", request.issuer),
            })
        })?;
        let body = Start {
            grant_type: Grant::OidcFlow.name(),
            oidc_flow: AUTHORIZATION_CODE,
            client_type: "native",
            response_type: "token",
            oidc_issuer: &provider.issuer,
            capabilities: request.capabilities,
            restrictions: request.restrictions,
            rotation: request.rotation.filter(Rotation::rotates),
            name: &short_name(request.name),
            application_name: &short_name(request.application_name),
        };
        let answer = self.post(&self.discovery.mytoken_endpoint, &body, Repeat::Harmless, ANSWER_LIMIT, deadline)?;
        if answer.status != 200 {
            return Err(self.refusal(&answer, Context::Plain));
        }
        let started: Started = answer.json().map_err(|reason| self.not_understood(&answer, &reason))?;
        let link_accepted = urls::parse_url(started.consent_uri.expose()).is_ok_and(|url| {
            // The link is printed on a terminal and opened in a browser.
            url.as_str() == started.consent_uri.expose() && urls::check_scheme(&url, self.http.loopback_http()).is_ok()
        });
        if !link_accepted || started.polling_code.is_empty() {
            return Err(self.not_understood(&answer, "no usable link or polling code"));
        }
        Ok(PendingLogin {
            consent_uri: started.consent_uri,
            polling_code: started.polling_code,
            expires_in: Duration::from_secs(started.expires_in.unwrap_or(300)),
            interval: Duration::from_secs(started.interval.unwrap_or(5).min(INTERVAL_LIMIT)),
        })
    }

    fn check_login(&self, request: &LoginRequest<'_>) -> Result<(), Error> {
        if request.capabilities.is_empty() {
            return Err(invalid("a login needs at least one capability"));
        }
        let audiences: BTreeSet<&String> = request.restrictions.iter().flat_map(|clause| &clause.audience).collect();
        if audiences.len() > 1 {
            return Err(invalid("a login can have only one audience; log in once per audience"));
        }
        let now = self.now();
        if request.restrictions.iter().any(|clause| clause.exp.is_some_and(|exp| exp <= now)) {
            return Err(invalid("a restriction of the login ends in the past"));
        }
        self.check_supported(request.restrictions)
    }

    /// Polls once. Each poll counts towards the server's request limit, so do not poll more often than `interval`.
    ///
    /// # Errors
    /// [`ServerError::Declined`]; [`ServerError::CodeRefused`] if the time is over or the mytoken was fetched before; else the error of the
    /// server or the network.
    pub fn poll(&self, pending: &PendingLogin, deadline: Deadline) -> Result<Poll, Error> {
        let body = PollBody { grant_type: Grant::PollingCode.name(), polling_code: &pending.polling_code };
        let answer = self.post(&self.discovery.mytoken_endpoint, &body, Repeat::Never, ANSWER_LIMIT, deadline)?;
        if answer.status == 428 {
            return Ok(Poll::Pending);
        }
        self.granted(&answer).map(|granted| Poll::Granted(Box::new(granted)))
    }

    /// Polls until the user has finished, the login's time is over, or `deadline` passes. `sleep` waits for at most a second, and breaks
    /// if the user cancels. It is called between polls only, because the answer with the token comes only once. Before each `sleep`,
    /// `on_tick` gets the remaining time. If the server is temporarily unavailable, polling continues.
    ///
    /// # Errors
    /// As [`Server::poll`]; [`ServerError::LoginNotConfirmed`] if the time is over, [`ServerError::LoginAbandoned`] if `sleep` broke. If the
    /// exchange of the code at the provider failed, the server answers "pending" until the end, and only the browser shows the reason
    /// (MT-30).
    pub fn wait(
        &self,
        pending: &PendingLogin,
        deadline: Deadline,
        sleep: &mut dyn FnMut(Duration) -> ControlFlow<()>,
        on_tick: &mut dyn FnMut(Duration),
    ) -> Result<Granted, Error> {
        const TICK: Duration = Duration::from_secs(1);
        let ends = deadline.at_most(pending.expires_in);
        let mut slept = Duration::ZERO;
        loop {
            let mut pause = pending.interval;
            while !pause.is_zero() {
                let left = ends.remaining().unwrap_or_default().min(pending.expires_in.saturating_sub(slept));
                if left.is_zero() {
                    return Err(Error::Server(ServerError::LoginNotConfirmed));
                }
                on_tick(left);
                let step = pause.min(TICK).min(left);
                if sleep(step).is_break() {
                    return Err(Error::Server(ServerError::LoginAbandoned));
                }
                slept = slept.saturating_add(step);
                pause = pause.saturating_sub(step);
            }
            match self.poll(pending, ends) {
                Ok(Poll::Granted(granted)) => return Ok(*granted),
                Ok(Poll::Pending) => {}
                Err(error) if error.is_unavailable() => {}
                Err(error) => return Err(error),
            }
        }
    }
}
