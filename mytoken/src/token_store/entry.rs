// SPDX-License-Identifier: MIT OR Apache-2.0
//! An entry of the token store: a mytoken and its properties.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::capabilities::Capabilities;
use crate::restrictions::Clause;
use crate::server::Granted;
use crate::token::{Rotation, unverified_claims};
use crate::urls::{IssuerUrl, ServerUrl};

/// A user's mytoken with the rights that the server granted. On disk it is one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredToken {
    /// The only server to which the token is sent.
    pub server: ServerUrl,
    /// The provider at which the user logged in.
    pub issuer: IssuerUrl,
    /// The token's name in the server's lists.
    pub name: String,
    /// The token; if it rotates, the newest successor.
    pub mytoken: Secret,
    /// The server's public name of the token, for revocation by hand.
    #[serde(default)]
    pub mom_id: String,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Its clauses; empty: unrestricted.
    #[serde(default)]
    pub restrictions: Vec<Clause>,
    /// When it rotates; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Expiry in Unix seconds; absent: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Time of the login in Unix seconds.
    pub created: u64,
    /// What speaks against it since its last use; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_trouble")]
    pub trouble: Option<Trouble>,
    /// PEM file of the certificates that were trusted at login, if the user named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// A word of a later release is no reason not to read the token.
fn known_trouble<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Trouble>, D::Error> {
    let word = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(word).ok())
}

/// What a token is used for in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedFor {
    /// An access token.
    AccessToken,
    /// Another counted use: a sub-token, or the revocation of another token.
    Other,
    /// A question about it, which counts no use.
    Question,
}

impl UsedFor {
    /// Whether the request can replace the token.
    pub(super) fn replaces(self, token: &StoredToken) -> bool {
        token.rotation.is_some_and(|rotation| match self {
            Self::AccessToken => rotation.on_at,
            Self::Other => rotation.on_other,
            Self::Question => false,
        })
    }
}

/// What speaks against a stored token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Nobody knows whether the server has replaced it: the answer to a request was lost, or the process that used it ended in between.
    AnswerLost,
    /// The server refused it: expired, revoked, replaced or not valid yet.
    Refused,
}

impl StoredToken {
    /// The entry for a mytoken that a login at `server` granted at `now` (Unix seconds).
    #[must_use]
    pub fn from_grant(server: ServerUrl, issuer: IssuerUrl, name: &str, granted: &Granted, now: u64) -> Self {
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
            trouble: None,
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

    /// Whether it can be used from a time after `now` (Unix seconds), and not now: the clauses that have not ended begin later.
    pub(super) fn begins_later(&self, now: u64) -> bool {
        let mut coming = self.restrictions.iter().filter(|clause| clause.exp.is_none_or(|exp| exp > now)).peekable();
        coming.peek().is_some() && coming.all(|clause| clause.nbf.is_some_and(|nbf| nbf > now))
    }

    /// Whether it came in the place of `other` by a rotation: the same login and the same token, in another version.
    pub(super) fn is_successor_of(&self, other: &Self) -> bool {
        let id = |entry: &Self| unverified_claims(&entry.mytoken).map(|claims| claims.unverified().jti.clone());
        let same = |one: &str, another: &str| !one.is_empty() && one == another;
        let same_id = match (id(self), id(other)) {
            (Some(own), Some(others)) => same(&own, &others),
            _ => same(&self.mom_id, &other.mom_id),
        };
        same_id && (&self.server, &self.issuer, self.created) == (&other.server, &other.issuer, other.created)
    }

    /// Whether nobody may present it: an answer was lost, and if the server has replaced it, the old one revokes all that was made from it
    /// (MT-43).
    #[must_use]
    pub fn is_dangerous(&self) -> bool {
        self.trouble == Some(Trouble::AnswerLost) && self.rotation.is_some_and(|rotation| rotation.auto_revoke)
    }

    /// Replaces the token by its successor. If the rotation has a lifetime, the successor has another expiry (MT-46).
    pub(super) fn set_successor(&mut self, successor: &Secret) {
        self.mytoken = successor.clone();
        self.trouble = None;
        if let Some(claims) = unverified_claims(successor) {
            self.expires_at = claims.unverified().exp;
        }
    }
}
