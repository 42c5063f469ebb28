// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface of a provider for the mytoken server, which calls it in the same process. All other clients use HTTP.

use crate::http::Response;

/// The data of a provider in the configuration of the mytoken server.
#[derive(Debug, Clone)]
pub struct ProviderInfo {
    /// Issuer URL.
    pub issuer: String,
    /// Where the browser is sent.
    pub authorization_endpoint: String,
    /// Client id of the mytoken server.
    pub client_id: String,
    /// All scopes of the provider, in the order of its configuration.
    pub scopes: Vec<String>,
}

/// The token and revocation endpoints, authenticated as the mytoken server's client.
pub trait TokenEndpoint: Send + Sync {
    /// Posts a form to the token endpoint.
    ///
    /// # Errors
    /// The connection was refused or closed without an answer; the text says which.
    fn token(&self, form: &[(String, String)]) -> Result<Response, String>;

    /// Posts a form to the revocation endpoint.
    ///
    /// # Errors
    /// The connection was refused or closed without an answer; the text says which.
    fn revoke(&self, form: &[(String, String)]) -> Result<Response, String>;
}
