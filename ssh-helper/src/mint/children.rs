// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytokens that were made for the logins of one run, and taking them back from a host that refused.
//!
//! A refusal says nothing about the code: a hostile host redeems it first. Then the code is gone, and only the handle reaches the
//! mytoken behind it (dossier `mytoken-protocol` 8).

use mytoken::names::ServerUrl;
use mytoken::server::{Granted, Server};
use mytoken::store::{Entry, Store};
use mytoken::token::unverified_claims;
use mytoken::{Clock, Deadline, Error, Secret, SystemClock};

use crate::ssh::resolution::printable;
use crate::words;

/// A mytoken that was made for one login.
pub struct Child {
    granted: Granted,
    parent: Option<String>,
    name: String,
    host: String,
}

impl Child {
    /// A child of `parent`, shown in the server's lists as `name`.
    pub fn new(granted: Granted, parent: &Entry, name: &str, host: &str) -> Self {
        Self { granted, parent: identity(parent), name: name.to_owned(), host: host.to_owned() }
    }

    /// Revokes it, with what was made from it. The error says why it may live.
    pub fn take_back(&self, store: &Store, server: &Server<'_>, deadline: Deadline) -> Result<(), Error> {
        let by_handle = self.revoke_by_handle(store, server, deadline);
        if by_handle.is_err() {
            // Ends what was not redeemed. The answer is the same when it was.
            let _ = server.revoke(&self.granted.mytoken, true, deadline);
        }
        by_handle
    }

    fn revoke_by_handle(&self, store: &Store, server: &Server<'_>, deadline: Deadline) -> Result<(), Error> {
        let Some(mut held) = store.hold(server.url(), deadline)? else {
            return Err(Error::InvalidRequest {
                reason: "the mytoken that it was made from is not stored any more".into(),
            });
        };
        let parent = held.entry().mytoken.clone();
        let mut keep = |successor: &Secret| held.keep(successor);
        match server.revoke_other(&parent, &self.granted.mom_id, true, &mut keep, deadline) {
            // A living parent may revoke its child: so there is none any more, the host has revoked it.
            Err(Error::MissingCapability { .. } | Error::Rejected { status: 403, .. })
                if self.is_of(held.entry()) && is_alive(server, &parent, deadline) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn is_of(&self, stored: &Entry) -> bool {
        self.parent.is_some() && self.parent == identity(stored)
    }

    /// What the person must know when it could not be taken back.
    pub fn warning(&self, error: &Error, stored: Option<&Entry>, server: &ServerUrl) -> String {
        let life = match self.granted.expires_at {
            Some(exp) => format!("live for {}", words::span(exp.saturating_sub(SystemClock.now()))),
            None => "live without end".to_owned(),
        };
        let all = if stored.is_some_and(|stored| self.is_of(stored)) { "run mytoken-ssh logout, or " } else { "" };
        format!(
            "{}: the mytoken that was made for this login may still {life}, if the host has fetched it: it could not be revoked ({error}). \
             To end it, {all}revoke \"{}\" at {server}",
            self.host,
            printable(&self.name),
        )
    }
}

/// What stays the same when a mytoken rotates.
fn identity(entry: &Entry) -> Option<String> {
    let of_token = unverified_claims(&entry.mytoken).map(|claims| claims.unverified().jti.clone());
    of_token.into_iter().chain([entry.mom_id.clone()]).find(|name| !name.is_empty())
}

fn is_alive(server: &Server<'_>, mytoken: &Secret, deadline: Deadline) -> bool {
    match server.introspect(mytoken, deadline) {
        Ok(_) => true,
        // Only what is alive is asked for its capabilities.
        Err(error) => matches!(error, Error::MissingCapability { .. }),
    }
}
