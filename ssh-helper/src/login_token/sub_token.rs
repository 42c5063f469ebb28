// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sub-token that was created for a login, and its revocation if the host refuses the login.
//!
//! A refusal does not mean that the transfer code is unused: a hostile host redeems it before it refuses. Then the code
//! no longer exists, and only the handle leads to the mytoken behind it (MT-40).

use std::time::{Duration, Instant};

use mytoken::InputError;
use mytoken::server::ServerError;
use mytoken::server::{Granted, Server};
use mytoken::token::unverified_claims;
use mytoken::token_store::{StoredToken, UsedFor};
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Error, Secret};

use crate::mytoken_sources::MytokenSource;
use crate::printable::printable;
use mytoken::time_format::duration;

/// A sub-token that was created for a login.
pub struct CreatedSubToken {
    granted: Granted,
    /// Its lifetime when it was created. `None`: it does not expire.
    lifetime: Option<Duration>,
    code_lifetime: Option<u64>,
    created: Instant,
    parent: Option<String>,
    name: String,
    host: String,
}

impl CreatedSubToken {
    /// A sub-token of `parent` for `host`, with this name in the server's lists. `now`: the server's time of day, Unix seconds.
    pub fn new(granted: Granted, now: u64, parent: &StoredToken, name: &str, host: &str) -> Self {
        let lifetime = granted.expires_at.map(|exp| Duration::from_secs(exp.saturating_sub(now)));
        let (parent, name, host) = (token_id(parent), name.to_owned(), host.to_owned());
        // A code for a mytoken that has expired is of no use.
        let code_lifetime = granted.code_expires_at.into_iter().chain(granted.expires_at).min();
        let code_lifetime = code_lifetime.map(|exp| exp.saturating_sub(now));
        Self { granted, lifetime, code_lifetime, created: Instant::now(), parent, name, host }
    }

    /// Seconds from the creation to the end of its code or of the sub-token itself, if the server says it.
    pub fn code_lifetime(&self) -> Option<u64> {
        self.code_lifetime
    }

    /// Revokes the sub-token and its own sub-tokens. After an error it may still be valid.
    pub fn revoke(&self, mytokens: &MytokenSource, server: &Server<'_>, deadline: Deadline) -> Result<(), Error> {
        let by_handle = self.revoke_by_handle(mytokens, server, deadline);
        if by_handle.is_err() {
            // Revokes a code that no host has redeemed. The server's answer is the same for a redeemed code, so it
            // proves nothing.
            let _ = server.revoke(&self.granted.mytoken, true, deadline);
        }
        by_handle
    }

    fn revoke_by_handle(&self, mytokens: &MytokenSource, server: &Server<'_>, deadline: Deadline) -> Result<(), Error> {
        let Some(mut acquired) = mytokens.acquire(server.url(), deadline)? else {
            return Err(Error::Input(InputError::InvalidRequest {
                reason: "its parent mytoken is no longer stored".into(),
            }));
        };
        let parent = acquired.stored().mytoken.clone();
        let mut keep = |successor: &Secret| acquired.store_successor(successor).map_err(Into::into);
        let revoked = server.revoke_other(&parent, &self.granted.mom_id, true, &mut keep, deadline);
        acquired.note(&revoked, UsedFor::Other);
        match revoked {
            // A valid parent may revoke its sub-token. If the server refuses, the sub-token no longer exists: the host
            // has revoked it.
            Err(
                Error::Server(ServerError::MissingCapability { .. })
                | Error::Server(ServerError::Rejected { status: 403, .. }),
            ) if self.is_child_of(acquired.stored()) && server.accepts(&parent, deadline).is_ok() => Ok(()),
            other => other,
        }
    }

    fn is_child_of(&self, stored: &StoredToken) -> bool {
        self.parent.is_some() && self.parent == token_id(stored)
    }

    /// A warning for the user after a failed revocation. `stored` is the mytoken that is stored now.
    pub fn warning(&self, error: &Error, stored: Option<&StoredToken>, server: &ServerUrl) -> String {
        let lifetime = match self.lifetime {
            Some(lifetime) => {
                format!("is valid for {}", duration(lifetime.saturating_sub(self.created.elapsed()).as_secs()))
            }
            None => "does not expire".to_owned(),
        };
        // `mytoken-ssh logout` revokes the sub-tokens of the stored mytoken, so it must be the parent.
        let logout =
            if stored.is_some_and(|stored| self.is_child_of(stored)) { "run mytoken-ssh logout, or " } else { "" };
        format!(
            "{}: the mytoken for this login was not revoked ({error}). If the host has redeemed it, it {lifetime}. \
             To revoke it, {logout}revoke \"{}\" at {server}",
            self.host,
            printable(&self.name),
        )
    }
}

/// An identifier that a mytoken keeps when it rotates.
fn token_id(entry: &StoredToken) -> Option<String> {
    let jti = unverified_claims(&entry.mytoken).map(|claims| claims.unverified().jti.clone());
    jti.into_iter().chain([entry.mom_id.clone()]).find(|id| !id.is_empty())
}
