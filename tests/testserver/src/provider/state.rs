// SPDX-License-Identifier: MIT OR Apache-2.0
//! State of logins; lost when the process ends.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// What a user granted to a client at a login.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Client id.
    pub client: String,
    /// User name, which is also the subject.
    pub user: String,
    /// Granted scopes in the order of the request.
    pub scopes: Vec<String>,
    /// Resources of the login (RFC 8707).
    pub resources: Vec<String>,
    /// Time of the login in Unix seconds.
    pub login_time: u64,
    /// For the ID token.
    pub nonce: Option<String>,
}

/// An authorization code that has not been redeemed.
#[derive(Debug, Clone)]
pub struct AuthorizationCode {
    /// What was granted.
    pub grant: Grant,
    /// Redirect URI, which the client must repeat.
    pub redirect_uri: String,
    /// PKCE code challenge of the method S256.
    pub challenge: Option<String>,
    /// End of its validity in Unix seconds.
    pub expires: u64,
}

/// State of logins; lost when the process ends.
#[derive(Default)]
pub(super) struct ProviderState {
    pub codes: HashMap<String, AuthorizationCode>,
    pub refresh_tokens: HashMap<String, Grant>,
    pub opaque: HashMap<String, Map<String, Value>>,
    pub revoked: HashSet<String>,
    /// `jti` of the proofs of clients, which are accepted once.
    pub proofs: HashSet<String>,
}
