// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the mytoken server and the replay need of a provider. The mytoken server talks to its provider by calls in
//! the same process; everybody else over HTTP.

use serde_json::Value;

use crate::http::Response;

/// The provider as the mytoken server is configured for it.
#[derive(Debug, Clone)]
pub struct ProviderInfo {
    /// Issuer URL.
    pub issuer: String,
    /// Where the browser is sent.
    pub authorization_endpoint: String,
    /// Client id of the mytoken server; the secret stays in the link.
    pub client_id: String,
    /// All scopes of the provider, in the order of its configuration.
    pub scopes: Vec<String>,
}

/// Back channel from the mytoken server to the provider, authenticated as the mytoken server's client.
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

/// What the replay does to the provider beside HTTP.
pub trait ProviderControl: Send + Sync {
    /// Sets the fault of the token endpoint by its name in the captures' README; `None` mends it.
    ///
    /// # Errors
    /// A name the provider does not know.
    fn set_token_fault(&self, name: Option<&str>) -> Result<(), String>;

    /// Takes the requests that reached the token and revocation endpoints since the last call: objects
    /// `{"endpoint": "token", "authorization": "Basic", "form": {"key": ["value"]}}` as in `provider_requests` of the captures.
    fn take_requests(&self) -> Vec<Value>;

    /// Logs the user in and accepts, as a browser sent to this authorization URL would; gives the URL (of the mytoken
    /// server's `/redirect`) the provider sends the browser to.
    ///
    /// # Errors
    /// The provider refuses without a redirect.
    fn login(&self, authorization_uri: &str, user: &str) -> Result<String, String>;
}
