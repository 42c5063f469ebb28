// SPDX-License-Identifier: MIT OR Apache-2.0
//! The claims of a mytoken (MT-50).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Jwt;
use crate::capabilities::Capabilities;
use crate::restrictions::Clause;

/// The claims of a mytoken. The server confirms those from [`crate::server::Server::introspect`]; those in [`UnverifiedClaims`] are not
/// verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct MytokenClaims {
    /// The mytoken server.
    pub iss: String,
    /// The token's id. A rotation does not change it.
    #[serde(default)]
    pub jti: String,
    /// The provider at which the holder logged in.
    #[serde(default)]
    pub oidc_iss: String,
    /// The holder's subject at that provider.
    #[serde(default)]
    pub oidc_sub: String,
    /// Expiry in Unix seconds; absent: only the clauses limit it.
    #[serde(default)]
    pub exp: Option<u64>,
    /// Begin of validity in Unix seconds.
    #[serde(default)]
    pub nbf: Option<u64>,
    /// Issue time of this sequence number, in Unix seconds.
    #[serde(default)]
    pub iat: Option<u64>,
    /// Time of the login, in Unix seconds.
    #[serde(default)]
    pub auth_time: Option<u64>,
    /// 1, and one more after each rotation.
    #[serde(default)]
    pub seq_no: Option<u64>,
    /// The name that the holder chose.
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

/// When the server replaces a mytoken by a successor (MT-43).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rotation {
    /// After each access token.
    #[serde(default, rename = "on_AT", skip_serializing_if = "std::ops::Not::not")]
    pub on_at: bool,
    /// After each other counted use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_other: bool,
    /// Seconds after which an unused successor expires; 0: no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lifetime: u64,
    /// Whether the use of an outdated token revokes all mytokens of the tree.
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

/// The claims of a mytoken, not verified: they are the text of the person who presented it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedClaims(MytokenClaims);

impl UnverifiedClaims {
    pub(super) fn from_payload(payload: &Map<String, Value>) -> Option<Self> {
        MytokenClaims::deserialize(Value::Object(payload.clone())).ok().map(Self)
    }

    /// The claims. An attacker can write anything into them.
    #[must_use]
    pub fn unverified(&self) -> &MytokenClaims {
        &self.0
    }
}

/// Whether claim `token_type` or header `typ` says that the token is a mytoken.
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
