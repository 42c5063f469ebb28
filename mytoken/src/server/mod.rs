// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken server: one request type and one answer type per operation. Every answer is checked against its request, and a rotated
//! token is stored before anything else is done with an answer.
//!
//! Only JSON is sent (MT-05), the mytoken always in the body and never empty (MT-03).

mod access;
mod call;
mod codes;
mod discovery;
mod error;
mod info;
mod oidc_flow;
mod revoke;
mod subtoken;
mod wire;

use crate::InputError;
use crate::cache::Storage;
use crate::document::PrivateDocument;
use crate::http::HttpClient;
use crate::urls::ServerUrl;
use crate::{Clock, Deadline, Error, Secret, SystemClock};

pub use access::{AccessToken, AccessTokenRequest};
pub use codes::TransferCode;
pub use discovery::{Discovery, Provider};
pub use error::ServerError;
pub use info::{HistoryEvent, Introspection};
pub use oidc_flow::{LoginRequest, PendingLogin, Poll};
pub use subtoken::{Deliver, SubTokenRequest};
pub use wire::{Granted, GrantedKind};

/// Stores the successor of a rotated token durably (temporary file, fsync, rename, under the lock held since before the request).
/// It is called before anything else is done with an answer, and once more when it fails.
pub type OnRotation<'r> = &'r mut dyn FnMut(&Secret) -> Result<(), Error>;

/// For callers whose tokens never rotate and who have no storage: a successor would be lost, so it is an error.
///
/// # Errors
/// Always [`ServerError::RotatedTokenNotStored`].
pub fn refuse_rotation(_successor: &Secret) -> Result<(), Error> {
    Err(Error::Server(ServerError::RotatedTokenNotStored {
        reason: "this program cannot store rotating tokens".to_owned(),
    }))
}

/// How long a stored discovery document is used, in seconds. Each request counts against the server's limit.
const DISCOVERY_AGE: u64 = 3_600;

/// A mytoken server whose endpoints are known.
pub struct Server<'h> {
    http: &'h HttpClient,
    clock: &'h dyn Clock,
    url: ServerUrl,
    discovery: Discovery,
    once: bool,
}

impl<'h> Server<'h> {
    /// Fetches and checks the server's discovery document. Cache [`Server::discovery`] for an hour: every request counts against the
    /// server's limit of 100 in 300 s per address (MT-07).
    ///
    /// # Errors
    /// [`ServerError::ForeignIssuer`] when the document belongs to another server, [`UrlError`](crate::urls::UrlError) when an endpoint is not https,
    /// else what the network says.
    pub fn discover(http: &'h HttpClient, url: &ServerUrl, deadline: Deadline) -> Result<Self, Error> {
        let discovery = discovery::fetch(http, url, call::Repeat::Harmless, deadline)?;
        Self::from_discovery(http, url, discovery)
    }

    /// The server by the discovery document in `storage`, if it is at most an hour old; else as [`Server::discover`], and the new document
    /// is stored.
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
        let stored = document.read(DISCOVERY_AGE).and_then(|stored| Self::from_discovery(http, url, stored).ok());
        stored.map_or_else(
            || Self::discover(http, url, deadline).inspect(|server| document.write(server.discovery())),
            Ok,
        )
    }

    /// As [`Server::discover`], asked once and never waiting for a 429 to end.
    ///
    /// # Errors
    /// As [`Server::discover`].
    pub fn discover_once(http: &'h HttpClient, url: &ServerUrl, deadline: Deadline) -> Result<Self, Error> {
        let discovery = discovery::fetch(http, url, call::Repeat::Once, deadline)?;
        Self::from_discovery(http, url, discovery)
    }

    /// A server from a cached discovery document, which is checked again.
    ///
    /// # Errors
    /// As [`Server::discover`], without network.
    pub fn from_discovery(http: &'h HttpClient, url: &ServerUrl, discovery: Discovery) -> Result<Self, Error> {
        discovery.check(url, http.loopback_http())?;
        Ok(Self { http, clock: &SystemClock, url: url.clone(), discovery, once: false })
    }

    /// The same server by another clock.
    #[must_use]
    pub fn with_clock(self, clock: &'h dyn Clock) -> Self {
        Self { clock, ..self }
    }

    /// The same server, asked once: a request that may have arrived is not sent again, however harmless that seems, and a 429 is not
    /// waited out. For callers whose token may have a single use left: the second try would be refused, and "try later" would become
    /// "refused".
    #[must_use]
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// What the server says about itself.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }
}

/// An empty token or code would be an error at the server, or be looked for elsewhere.
fn usable(secret: &Secret) -> Result<(), Error> {
    if secret.is_empty() {
        return Err(Error::Input(InputError::InvalidRequest { reason: "there is no token".to_owned() }));
    }
    Ok(())
}
