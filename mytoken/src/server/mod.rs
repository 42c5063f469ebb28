// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to a mytoken server, with one request type and one answer type per operation. Each answer is compared with its request. A
//! rotated token is stored before anything else is done with an answer.
//!
//! Requests are always JSON (MT-05). The mytoken is always in the body and never empty (MT-03).

mod access;
mod call;
mod codes;
mod discovery;
mod error;
mod grant;
mod info;
mod oidc_flow;
mod revoke;
mod subtoken;
mod wire;

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::InputError;
use crate::cache::Storage;
use crate::document::PrivateDocument;
use crate::http::{AnswerHead, HttpClient, ServerClock, boot_id};
use crate::urls::ServerUrl;
use crate::{Clock, Deadline, Error, ScheduleClock, Secret, SystemClock};

pub use access::{AccessToken, AccessTokenRequest};
pub use codes::TransferCode;
pub use discovery::{Discovery, Provider};
pub use error::ServerError;
pub use grant::Grant;
pub use info::{HistoryEvent, Introspection};
pub use oidc_flow::{LoginRequest, PendingLogin, Poll};
pub use subtoken::{Deliver, SubTokenRequest};
pub use wire::{Granted, GrantedKind};

/// Stores the successor of a rotated token durably, under a lock that the caller holds since before the request. It is called before
/// anything else is done with an answer, and a second time if it fails.
pub type OnRotation<'r> = &'r mut dyn FnMut(&Secret) -> Result<(), Error>;

/// The [`OnRotation`] of callers whose tokens never rotate and who have no storage: a successor is an error, because it would be lost.
///
/// # Errors
/// Always [`ServerError::RotatedTokenNotStored`].
pub fn refuse_rotation(_successor: &Secret) -> Result<(), Error> {
    Err(Error::Server(ServerError::RotatedTokenNotStored {
        reason: "this program cannot store rotating tokens".to_owned(),
    }))
}

/// How long a stored discovery document is used, in seconds. Each request counts towards the server's limit.
const DISCOVERY_AGE: u64 = 3_600;

/// A mytoken server whose endpoints are known.
pub struct Server<'h> {
    http: &'h HttpClient,
    clock: &'h dyn Clock,
    url: ServerUrl,
    discovery: Discovery,
    head: AnswerHead,
    /// Its clock, as the last answer told it.
    measured: Mutex<Option<ServerClock>>,
    once: bool,
}

/// What is kept between processes.
#[derive(Serialize, Deserialize)]
struct StoredServer {
    #[serde(flatten)]
    discovery: Discovery,
    /// The server's clock, and the boot whose elapsed time it is compared with.
    #[serde(default)]
    server_clock: Option<(String, ServerClock)>,
    /// The server does not tell its clock.
    #[serde(default)]
    without_clock: bool,
}

impl StoredServer {
    fn of(server: &Server<'_>) -> Self {
        let clock = server.server_clock();
        let server_clock = boot_id().zip(clock);
        Self { discovery: server.discovery.clone(), server_clock, without_clock: clock.is_none() }
    }

    /// The server's clock. The outer `None`: it has to be asked.
    fn clock(&self) -> Option<Option<ServerClock>> {
        match &self.server_clock {
            Some((boot, clock)) if Some(boot) == boot_id().as_ref() => Some(Some(*clock)),
            _ => self.without_clock.then_some(None),
        }
    }
}

impl<'h> Server<'h> {
    /// Fetches and checks the server's discovery document. Cache [`Server::discovery`] for an hour, because every request counts towards
    /// the server's limit of 100 requests per 300 s and address (MT-07).
    ///
    /// # Errors
    /// [`ServerError::ForeignIssuer`] if the document belongs to another server, [`UrlError`](crate::urls::UrlError) if an endpoint is not
    /// https, else the error of the network.
    pub fn discover(http: &'h HttpClient, url: &ServerUrl, deadline: Deadline) -> Result<Self, Error> {
        let (discovery, head) = discovery::fetch(http, url, call::Repeat::Harmless, deadline)?;
        Ok(Self::from_discovery(http, url, discovery)?.with_head(head))
    }

    /// Uses the discovery document in `storage` if it is at most an hour old and came with the server's clock on this host. Otherwise
    /// fetches it as [`Server::discover`] and stores it.
    ///
    /// # Errors
    /// As [`Server::discover`].
    pub fn discover_cached(
        http: &'h HttpClient,
        url: &ServerUrl,
        storage: &dyn Storage,
        clock: &dyn Clock,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let document = PrivateDocument::new("server", url.as_str(), storage, clock);
        let stored = document.read(DISCOVERY_AGE).and_then(|stored: StoredServer| {
            let clock = stored.clock()?;
            Some(Self::from_discovery(http, url, stored.discovery).ok()?.with_server_clock(clock))
        });
        stored.map_or_else(
            || Self::discover(http, url, deadline).inspect(|server| document.write(&StoredServer::of(server))),
            Ok,
        )
    }

    /// As [`Server::discover`], but the request is not repeated, not even after a 429.
    ///
    /// # Errors
    /// As [`Server::discover`].
    pub fn discover_once(http: &'h HttpClient, url: &ServerUrl, deadline: Deadline) -> Result<Self, Error> {
        let (discovery, head) = discovery::fetch(http, url, call::Repeat::Once, deadline)?;
        Ok(Self::from_discovery(http, url, discovery)?.with_head(head))
    }

    /// Uses a cached discovery document. It is checked again.
    ///
    /// # Errors
    /// As [`Server::discover`], except errors of the network.
    pub fn from_discovery(http: &'h HttpClient, url: &ServerUrl, discovery: Discovery) -> Result<Self, Error> {
        discovery.check(url, http.loopback_http())?;
        let (head, measured) = (AnswerHead::default(), Mutex::default());
        Ok(Self { http, clock: &SystemClock, url: url.clone(), discovery, head, measured, once: false })
    }

    fn with_head(self, head: AnswerHead) -> Self {
        Self { head, ..self }.with_server_clock(head.clock)
    }

    /// The same server, whose clock was measured before.
    #[must_use]
    pub fn with_server_clock(self, clock: Option<ServerClock>) -> Self {
        Self { measured: Mutex::new(clock), ..self }
    }

    /// The server's clock, if it has told it.
    #[must_use]
    pub fn server_clock(&self) -> Option<ServerClock> {
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's time of day, Unix seconds; this machine's if the server has not told it.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.server_clock().map_or_else(|| self.clock.now(), |clock| clock.at(SystemClock.elapsed()))
    }

    /// A sentence, if this machine's clock differs much from the server's.
    #[must_use]
    pub fn clock_difference(&self) -> Option<String> {
        crate::http::clock_difference(self.now(), self.clock.now())
    }

    fn measured(&self, head: AnswerHead) {
        if head.clock.is_some() {
            *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = head.clock;
        }
    }

    /// The same server with another clock.
    #[must_use]
    pub fn with_clock(self, clock: &'h dyn Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same server, but no request that may have arrived is repeated, not even a harmless one or after a 429. For callers whose token
    /// may have only one use left: the second attempt would be refused, so a temporary error would become a final one.
    #[must_use]
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// The discovery document.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// The server's clock and its request limit, if it told them just now with its discovery document.
    #[must_use]
    pub fn head(&self) -> AnswerHead {
        self.head
    }
}

/// Refuses an empty token or code. The server would refuse it too, or search the token in another part of the request.
fn check_not_empty(secret: &Secret) -> Result<(), Error> {
    if secret.is_empty() {
        return Err(Error::Input(InputError::InvalidRequest { reason: "there is no token".to_owned() }));
    }
    Ok(())
}
