// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of the mytoken server to its provider in the same process, authenticated as the first client.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::form_urlencoded;

use super::faults::{Endpoint, FaultOrder};
use super::link::{ProviderInfo, TokenEndpoint};
use super::policy::Client;
use super::server::Provider;
use crate::form::{Form, encode};
use crate::http::{Handler, Reply, Request, Response};

impl Provider {
    /// The provider's data for the configuration of the mytoken server.
    ///
    /// # Errors
    /// There is no client.
    pub fn info(&self) -> Result<ProviderInfo, String> {
        let client = self.setup.clients.first().ok_or("the provider has no client")?;
        Ok(ProviderInfo {
            issuer: self.issuer().to_owned(),
            authorization_endpoint: format!("{}/authorize", self.issuer()),
            client_id: client.id.clone(),
            scopes: self.policy().scopes,
        })
    }

    /// Starts or ends an outage of the provider, also for the mytoken server.
    pub fn set_outage(&self, on: bool) {
        self.down.store(on, Ordering::SeqCst);
    }

    fn post(&self, path: &str, form: &Form) -> Result<Response, String> {
        if self.refuses() {
            return Err("the connection was refused".into());
        }
        let client = self.setup.clients.first().ok_or("the provider has no client")?;
        let request = Request {
            method: "POST".into(),
            path: format!("{}{path}", self.base),
            query: None,
            headers: vec![
                ("Authorization".into(), basic(client)),
                ("Content-Type".into(), "application/x-www-form-urlencoded".into()),
            ],
            body: encode(form).into_bytes(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        match self.handle(&request) {
            Reply::Answer(response) => Ok(response),
            Reply::Close => Err("the connection was closed without an answer".into()),
            Reply::Drip(response, pause) | Reply::Late(response, pause) => {
                std::thread::sleep(pause);
                Ok(response)
            }
        }
    }
}

/// Name and secret are form-encoded before they are joined (RFC 6749, 2.3.1).
fn basic(client: &Client) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(&client.id), encoded(client.secret.as_deref().unwrap_or_default()));
    format!("Basic {}", STANDARD.encode(pair))
}

impl TokenEndpoint for Provider {
    fn token(&self, form: &Form) -> Result<Response, String> {
        self.post("/token", form)
    }

    fn revoke(&self, form: &Form) -> Result<Response, String> {
        self.post("/revoke", form)
    }
}

/// Functions for the replay, which calls the provider without HTTP.
impl Provider {
    /// Sets the fault of the token endpoint by its name in the captures' README; `None` ends it.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn set_token_fault(&self, name: Option<&str>) -> Result<(), String> {
        self.set_fault(&FaultOrder {
            name: name.unwrap_or("none").to_owned(),
            endpoint: Endpoint::Token,
            argument: None,
            times: None,
        })
    }

    /// Returns the requests that reached the token and revocation endpoints since the last call: objects
    /// `{"endpoint": "token", "authorization": "Basic", "form": {"key": ["value"]}}` as in `provider_requests` of the
    /// captures.
    pub fn take_requests(&self) -> Vec<Value> {
        self.requests.take()
    }

    /// Logs the user in at this authorization URL and accepts, as a browser would. Returns the URL to which the
    /// provider sends the browser: the mytoken server's `/redirect`.
    ///
    /// # Errors
    /// The provider refuses the login without a redirect.
    pub fn log_in_at(&self, authorization_uri: &str, user: &str) -> Result<String, String> {
        let query = authorization_uri.split_once('?').map_or("", |(_, query)| query);
        let form = [("request", query), ("username", user), ("decision", "accept")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = Request {
            method: "POST".into(),
            path: format!("{}/authorize", self.base),
            query: None,
            headers: Vec::new(),
            body: encode(&form).into_bytes(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        match self.handle(&request) {
            Reply::Answer(response) => response
                .header("Location")
                .map(str::to_owned)
                .ok_or_else(|| format!("the provider answers the login with status {}", response.status)),
            _ => Err("the provider does not answer the login".into()),
        }
    }
}
