// SPDX-License-Identifier: MIT OR Apache-2.0
//! The claims that say for whom an access token was made.

use serde::Deserialize;

/// The audience of WLCG tokens that are for any service (WLCG Common JWT Profiles 1.0, "aud").
pub const ANY_AUDIENCE: &str = "https://wlcg.cern.ch/jwt/v1/any";

/// A claim that says for whom an access token was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudienceClaim {
    /// The services that the token is for (RFC 7519 4.1.3).
    Aud,
    /// The client that got the token, in tokens of Keycloak and Entra ID.
    Azp,
    /// The client that got the token (RFC 9068 2.2).
    ClientId,
    /// The resource that the token was asked for. Some providers put the parameter of RFC 8707 there.
    Resource,
}

impl AudienceClaim {
    /// Its name in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aud => "aud",
            Self::Azp => "azp",
            Self::ClientId => "client_id",
            Self::Resource => "resource",
        }
    }
}
