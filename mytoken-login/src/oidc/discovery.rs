// SPDX-License-Identifier: MIT OR Apache-2.0
//! The discovery document of an issuer (OpenID Connect Discovery 1.0) and its keys, over HTTP.

use mytoken::Deadline;
use mytoken::config::IssuerSettings;
use mytoken::http::{AnswerHead, BodyError, DOCUMENT_LIMIT, HttpAnswer, HttpClient, HttpError};
use serde::Deserialize;

use super::{InvalidKeySet, KeySet};

/// The discovery document of an issuer. Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProviderMetadata {
    /// The issuer's own URL.
    issuer: String,
    /// Where it publishes its keys.
    jwks_uri: String,
    /// The claims that it says it can supply. `None` if it does not say; the list need not be complete.
    #[serde(default)]
    pub claims_supported: Option<Vec<String>>,
    /// What the answer told about the provider.
    #[serde(skip)]
    pub head: AnswerHead,
}

/// Why there is no discovery document or no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Another status than 200.
    #[error("{url} answered with status {status}")]
    Status {
        /// The address of the document.
        url: String,
        /// The status.
        status: u16,
    },
    /// Not the expected JSON.
    #[error("{url} did not answer with the expected document ({reason})")]
    Body {
        /// The address of the document.
        url: String,
        /// What it is instead.
        reason: BodyError,
    },
    /// The document is of another issuer.
    #[error("{issuer} says that its URL is {claimed:?}; configure that URL, or another issuer")]
    ForeignIssuer {
        /// The configured URL.
        issuer: String,
        /// The URL in the document.
        claimed: String,
    },
    /// An endpoint is at a host that is not the issuer's own. Whoever answers there decides who logs in.
    #[error(
        "the discovery document of {issuer} places {endpoint} at {host}; if that is right, write endpoint_hosts = [\"{host}\"] into this [[issuer]]"
    )]
    ForeignHost {
        /// The configured URL.
        issuer: String,
        /// Name of the endpoint in the document.
        endpoint: &'static str,
        /// The host.
        host: String,
    },
    /// The key set cannot be used.
    #[error(transparent)]
    Keys(#[from] InvalidKeySet),
}

impl ProviderMetadata {
    /// Fetches the document and checks that it is this issuer's.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub fn fetch(http: &HttpClient, issuer: &IssuerSettings, deadline: Deadline) -> Result<Self, ProviderError> {
        let base = issuer.url.strip_suffix('/').unwrap_or(&issuer.url);
        let url = format!("{base}/.well-known/openid-configuration");
        let answer = get(http, &url, deadline)?;
        let document: Self = answer.json().map_err(|reason| ProviderError::Body { url, reason })?;
        if !issuer.is(&document.issuer) {
            let claimed = mytoken_wire::printable(&document.issuer, 120);
            return Err(ProviderError::ForeignIssuer { issuer: base.to_owned(), claimed });
        }
        Ok(Self { head: answer.head, ..document })
    }

    /// Fetches the issuer's keys.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub fn keys(
        &self,
        http: &HttpClient,
        issuer: &IssuerSettings,
        deadline: Deadline,
    ) -> Result<KeySet, ProviderError> {
        check_host(issuer, "jwks_uri", &self.jwks_uri)?;
        Ok(KeySet::parse(&get(http, &self.jwks_uri, deadline)?.body)?)
    }

    /// The hosts of endpoints that logins use and that `issuer` does not permit. Each is listed once.
    #[must_use]
    pub fn foreign_hosts(&self, issuer: &IssuerSettings) -> Vec<String> {
        issuer.foreign_host(&self.jwks_uri).into_iter().collect()
    }
}

/// Checks that an endpoint is at a permitted host.
fn check_host(issuer: &IssuerSettings, endpoint: &'static str, url: &str) -> Result<(), ProviderError> {
    issuer
        .foreign_host(url)
        .map_or(Ok(()), |host| Err(ProviderError::ForeignHost { issuer: issuer.url.clone(), endpoint, host }))
}

fn get(http: &HttpClient, url: &str, deadline: Deadline) -> Result<HttpAnswer, ProviderError> {
    let answer = http.get(url, None, deadline, DOCUMENT_LIMIT)?;
    if answer.status == 200 {
        Ok(answer)
    } else {
        Err(ProviderError::Status { url: url.to_owned(), status: answer.status })
    }
}
