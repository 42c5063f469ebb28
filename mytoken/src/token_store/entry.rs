// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stored token and what is known about it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::capabilities::Capabilities;
use crate::restrictions::Clause;
use crate::server::Granted;
use crate::token::{Rotation, unverified_claims};
use crate::urls::{IssuerUrl, ServerUrl};

/// A user's mytoken with what the server granted. On disk it is one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredToken {
    /// Where the token is presented, and nowhere else.
    pub server: ServerUrl,
    /// The provider at which the user logged in.
    pub issuer: IssuerUrl,
    /// The token's name in the server's lists.
    pub name: String,
    /// The token: always the newest of a rotating one.
    pub mytoken: Secret,
    /// The server's public name of the token, for revocation by hand.
    #[serde(default)]
    pub mom_id: String,
    /// What it may do.
    pub capabilities: Capabilities,
    /// Within which bounds; empty: none.
    #[serde(default)]
    pub restrictions: Vec<Clause>,
    /// When the server replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Expiry in Unix seconds, absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// When it was stored first, Unix seconds.
    pub created: u64,
    /// PEM file of the certificates that were trusted at login, when the person named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl StoredToken {
    /// What a login at `server` granted at `now` (Unix seconds).
    #[must_use]
    pub fn of(server: ServerUrl, issuer: IssuerUrl, name: &str, granted: &Granted, now: u64) -> Self {
        Self {
            server,
            issuer,
            name: name.to_owned(),
            mytoken: granted.mytoken.clone(),
            mom_id: granted.mom_id.clone(),
            capabilities: granted.capabilities.clone(),
            restrictions: granted.restrictions.clone(),
            rotation: granted.rotation,
            expires_at: granted.expires_at,
            created: now,
            ca_file: None,
        }
    }

    /// Whether using the token replaces it, so that every use needs the store's lock.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.rotation.as_ref().is_some_and(Rotation::rotates)
    }

    /// Whether it has expired at `now` (Unix seconds).
    #[must_use]
    pub fn expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|exp| exp < now)
    }

    /// Takes the successor of a rotation. With a rotation lifetime the successor's expiry differs (MT-46).
    pub(super) fn succeed(&mut self, successor: &Secret) {
        self.mytoken = successor.clone();
        if let Some(claims) = unverified_claims(successor) {
            self.expires_at = claims.unverified().exp;
        }
    }
}
