// SPDX-License-Identifier: MIT OR Apache-2.0
//! The claims of a mytoken (MT-50).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Jwt;
use crate::capabilities::Capabilities;
use crate::restrictions::Clause;

/// What a mytoken says. From [`crate::server::Server::introspect`] the server vouches for it; in [`UnverifiedClaims`] it is not verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct MytokenClaims {
    /// The mytoken server.
    pub iss: String,
    /// The token's id, which stays when it rotates.
    #[serde(default)]
    pub jti: String,
    /// The provider at which the holder logged in.
    #[serde(default)]
    pub oidc_iss: String,
    /// The holder at that provider.
    #[serde(default)]
    pub oidc_sub: String,
    /// Expiry in Unix seconds; absent: by the clauses only.
    #[serde(default)]
    pub exp: Option<u64>,
    /// Start in Unix seconds.
    #[serde(default)]
    pub nbf: Option<u64>,
    /// Issue time of this sequence number.
    #[serde(default)]
    pub iat: Option<u64>,
    /// When the person logged in.
    #[serde(default)]
    pub auth_time: Option<u64>,
    /// 1, and one more after each rotation.
    #[serde(default)]
    pub seq_no: Option<u64>,
    /// What the holder calls it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Clauses; empty: unrestricted.
    #[serde(default, deserialize_with = "or_default")]
    pub restrictions: Vec<Clause>,
    /// Capabilities.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Rotation; absent or empty: never.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

/// When a mytoken is replaced by a successor (MT-43).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rotation {
    /// After each access token.
    #[serde(default, rename = "on_AT", skip_serializing_if = "std::ops::Not::not")]
    pub on_at: bool,
    /// After each other counted use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_other: bool,
    /// Seconds for which a successor lives when it is not used; 0: no such limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lifetime: u64,
    /// Whether presenting an outdated token kills the whole tree.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_revoke: bool,
}

impl Rotation {
    /// Whether any use replaces the token.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.on_at || self.on_other
    }
}

impl MytokenClaims {
    /// Whether any use replaces the token.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.rotation.is_some_and(|rotation| rotation.rotates())
    }
}

/// The claims of a mytoken, not verified: text from the person who presented it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedClaims(MytokenClaims);

impl UnverifiedClaims {
    pub(super) fn from_payload(payload: &Map<String, Value>) -> Option<Self> {
        MytokenClaims::deserialize(Value::Object(payload.clone())).ok().map(Self)
    }

    /// What the token claims. The name is a warning: an attacker writes here what they like.
    #[must_use]
    pub fn unverified(&self) -> &MytokenClaims {
        &self.0
    }
}

/// By claim `token_type` or header `typ`.
pub(super) fn is_mytoken(jwt: &Jwt, payload: &Map<String, Value>) -> bool {
    payload.get("token_type").and_then(Value::as_str) == Some("mytoken")
        || jwt.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case("MT+JWT"))
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}
