// SPDX-License-Identifier: MIT OR Apache-2.0
//! The identity in a verified token.

use serde_json::{Map, Value};

use crate::oidc::AccessTokenClaims;

/// A verified identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Name of the issuer in the configuration.
    pub issuer: String,
    /// `iss`.
    pub iss: String,
    /// `sub`. Only the pair of issuer and subject is stable (OpenID Connect Core 5.7).
    pub sub: String,
    /// Scopes of the access token.
    pub scopes: Vec<String>,
    /// All claims.
    pub claims: Map<String, Value>,
}

impl From<AccessTokenClaims> for Identity {
    fn from(claims: AccessTokenClaims) -> Self {
        Self { issuer: claims.issuer, iss: claims.iss, sub: claims.sub, scopes: claims.scopes, claims: claims.all }
    }
}
