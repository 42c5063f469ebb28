// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a sub-token that can only get access tokens.

use std::sync::Arc;

use mytoken::capabilities::{AT, Capabilities};
use mytoken::http::{HttpClient, HttpSettings, ServerClock};
use mytoken::restrictions::Clause;
use mytoken::server::{Deliver, Discovery, Granted, Server, ServerError, SubTokenRequest, refuse_rotation};
use mytoken::token::unverified_claims;
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Error, Secret};

use super::credential::CreatedToken;
use super::error::SubmitError;
use super::notes;
use super::parent::Parent;
use super::patience::{Patience, Sends};
use super::request_threads::{InThreads, InTurn, RequestThreads, Unrevoked};

/// Makes it with one request at a time.
pub(crate) fn create(
    server: &Server<'_>,
    mut parent: Parent<'_>,
    wanted: &[Clause],
    name: &str,
    patience: &Patience<'_>,
) -> Result<Granted, SubmitError> {
    let capabilities = Capabilities::new([AT]).map_err(Error::from)?;
    let (token, clauses) = (parent.token().clone(), parent.clauses().map(<[_]>::to_vec));
    let request = sub_token_request(&token, clauses.as_deref(), wanted, &capabilities, name);
    let sends = if parent.rotates() { Sends::Single } else { Sends::InTurn };
    let mut requests = InTurn::new(|| {
        let made = server.create(&request, &mut |successor| parent.keep(successor), patience.answers());
        parent.ended(&made);
        made
    });
    patience.request(sends, &mut requests).map_err(|error| refused(error, &token, clauses.as_deref()))
}

/// Makes it with a second request if the first has no answer. The parent must allow that ([`Parent::may_overlap`]).
pub(super) struct Overlapping<'a> {
    /// Speaks HTTP/1.1, so a second request has a connection of its own.
    pub http: &'a Arc<HttpClient>,
    pub settings: &'a HttpSettings,
    pub threads: &'a RequestThreads,
}

impl Overlapping<'_> {
    /// The sub-token, and the number of requests that have no answer yet. What they still bring is revoked in their threads.
    pub(super) fn create(
        &self,
        server: &Server<'_>,
        parent: &mut Parent<'_>,
        wanted: &[Clause],
        name: &str,
        patience: &Patience<'_>,
    ) -> (Result<Granted, SubmitError>, u32) {
        let capabilities = match Capabilities::new([AT]) {
            Ok(capabilities) => capabilities,
            Err(error) => return (Err(SubmitError::Client(error.into())), 0),
        };
        let request = Arc::new(OwnedRequest {
            http: Arc::clone(self.http),
            settings: self.settings.clone(),
            url: server.url().clone(),
            discovery: server.discovery().clone(),
            clock: server.server_clock(),
            parent: parent.token().clone(),
            parent_clauses: parent.clauses().map(<[_]>::to_vec),
            wanted: wanted.to_vec(),
            capabilities,
            name: name.to_owned(),
            answers: patience.answers(),
        });
        let late = Arc::clone(&request);
        let mut requests = InThreads::new(self.threads, move || request.send(), move |granted| late.revoke(granted));
        let result = patience.request(Sends::Overlapping, &mut requests);
        match &result {
            Ok(_) => parent.ended(&Ok(())),
            Err(Some(error)) => parent.ended(&Err::<(), _>(error.clone())),
            // No request has ended.
            Err(None) => {}
        }
        (result.map_err(|error| refused(error, parent.token(), parent.clauses())), requests.open())
    }
}

/// A request with all that its thread needs.
struct OwnedRequest {
    http: Arc<HttpClient>,
    settings: HttpSettings,
    url: ServerUrl,
    discovery: Discovery,
    /// `None`: the server does not tell it, and this machine's clock counts.
    clock: Option<ServerClock>,
    parent: Secret,
    parent_clauses: Option<Vec<Clause>>,
    wanted: Vec<Clause>,
    capabilities: Capabilities,
    name: String,
    answers: Deadline,
}

impl OwnedRequest {
    fn send(&self) -> Result<Granted, Error> {
        let server = Server::from_discovery(&self.http, &self.url, self.discovery.clone())?;
        let clauses = self.parent_clauses.as_deref();
        let request = sub_token_request(&self.parent, clauses, &self.wanted, &self.capabilities, &self.name);
        server.with_server_clock(self.clock).once().create(&request, &mut refuse_rotation, self.answers)
    }

    fn revoke(&self, granted: Granted) -> Result<(), Unrevoked> {
        let (url, discovery, settings) = (self.url.clone(), self.discovery.clone(), self.settings.clone());
        let token = CreatedToken { sub_token: granted.mytoken, url, discovery, settings };
        token.revoke().map_err(|error| Unrevoked { name: self.name.clone(), error })
    }
}

fn refused(error: Option<Error>, parent: &Secret, stored: Option<&[Clause]>) -> SubmitError {
    match error {
        None => SubmitError::Abandoned,
        // Today's limits of the mytoken itself: the server does not say which of them it was.
        Some(error @ Error::Server(ServerError::UsageRestricted { .. })) => {
            SubmitError::Restricted { error, limits: notes::limits(&restrictions_of(parent, stored)) }
        }
        Some(error) => SubmitError::Client(error),
    }
}

/// The clauses of a mytoken, as far as it or the store tells them.
pub(crate) fn restrictions_of(token: &Secret, stored: Option<&[Clause]>) -> Vec<Clause> {
    let own = || unverified_claims(token).map(|claims| claims.unverified().restrictions.clone());
    stored.map(<[_]>::to_vec).or_else(own).unwrap_or_default()
}

pub(super) fn sub_token_request<'a>(
    parent: &'a Secret,
    parent_clauses: Option<&'a [Clause]>,
    wanted: &'a [Clause],
    capabilities: &'a Capabilities,
    name: &'a str,
) -> SubTokenRequest<'a> {
    SubTokenRequest { parent, parent_clauses, wanted, capabilities, name, deliver: Deliver::Token }
}
