// SPDX-License-Identifier: MIT OR Apache-2.0
//! The credential that an accepted login leaves for its session.

use mytoken::Secret;
use mytoken_wire::agent::RenewalCredential;
use serde::{Deserialize, Serialize};

/// The credential of a session: the access token of its login, and what renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCredential {
    /// The access token.
    pub access_token: Secret,
    /// Its expiry, Unix seconds.
    pub exp: u64,
    /// Until when it is accepted, Unix seconds: `exp` and the issuer's `leeway`.
    pub good_until: u64,
    /// Its remaining lifetime when it was verified, in seconds.
    pub lifetime: u64,
    /// The credential that renews it. `None`: the user entered an access token.
    pub renewal: Option<RenewalCredential>,
    /// Whether the mytoken of `renewal` was delegated: a transfer code brought it, and it may create sub-tokens.
    #[serde(default)]
    pub delegated: bool,
    /// Whether it was made for this session alone, by a login with a link, or as far as the claims of a delegated one tell (MT-35): nobody
    /// else uses it, so it may be revoked when the session ends, or when no session gets it.
    #[serde(default)]
    pub for_session: bool,
}

impl SessionCredential {
    /// The delegated mytoken, if there is one. It exists for the session alone: when no session gets it, it must be revoked.
    #[must_use]
    pub fn delegated(&self) -> Option<&RenewalCredential> {
        self.renewal.as_ref().filter(|_| self.delegated)
    }

    /// The mytoken that was made for this session alone. One of a login with a link may be unable to create sub-tokens; any other is
    /// delegated.
    #[must_use]
    pub fn own(&self) -> Option<&RenewalCredential> {
        self.renewal.as_ref().filter(|_| self.for_session)
    }

    /// The mytoken that is valid for nothing else: when no session gets it, it must be revoked.
    #[must_use]
    pub fn revocable(&self) -> Option<&RenewalCredential> {
        self.own().or_else(|| self.delegated())
    }
}
