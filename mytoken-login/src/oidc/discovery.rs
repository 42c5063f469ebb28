// SPDX-License-Identifier: MIT OR Apache-2.0
//! The discovery document of an issuer (OpenID Connect Discovery 1.0) and its keys, over HTTP.

use mytoken::Deadline;
use mytoken::config::{IssuerSettings, ValidationMode};
use mytoken::http::{AnswerHead, BodyError, DOCUMENT_LIMIT, HttpAnswer, HttpClient, HttpError};
use serde::{Deserialize, Serialize};

use super::{InvalidKeySet, KeySet};

/// The discovery document of an issuer. Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderMetadata {
    /// The issuer's own URL.
    issuer: String,
    /// Where it publishes its keys.
    jwks_uri: String,
    /// Where it tells whose a token is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    userinfo_endpoint: Option<String>,
    /// Where it tells whether a token is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    introspection_endpoint: Option<String>,
    /// The claims that it says it can supply. `None` if it does not say; the list need not be complete.
    #[serde(default)]
    pub claims_supported: Option<Vec<String>>,
    /// The scopes that it says it knows. `None` if it does not say; the list need not be complete.
    #[serde(default)]
    pub scopes_supported: Option<Vec<String>>,
    /// What the answer told about the provider.
    #[serde(skip)]
    pub head: AnswerHead,
}

/// An endpoint of a provider that logins use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderEndpoint {
    /// Its keys.
    Keys,
    /// Userinfo.
    Userinfo,
    /// Introspection.
    Introspection,
}

impl ProviderEndpoint {
    /// The name of its URL in the discovery document.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "jwks_uri",
            Self::Userinfo => "userinfo_endpoint",
            Self::Introspection => "introspection_endpoint",
        }
    }

    /// Those that logins use with these settings.
    pub fn used_with(issuer: &IssuerSettings) -> impl Iterator<Item = Self> {
        let modes = [
            (ValidationMode::Local, Self::Keys),
            (ValidationMode::Userinfo, Self::Userinfo),
            (ValidationMode::Introspection, Self::Introspection),
        ];
        modes.into_iter().filter(|(mode, _)| issuer.validates_by(*mode)).map(|(_, endpoint)| endpoint)
    }
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
    /// The discovery document lacks an endpoint that the settings need.
    #[error("the discovery document of {issuer} has no {endpoint}, which validation in this [[issuer]] needs")]
    NoEndpoint {
        /// The configured URL.
        issuer: String,
        /// Name of the endpoint in the document.
        endpoint: &'static str,
    },
    /// The key set cannot be used.
    #[error(transparent)]
    Keys(#[from] InvalidKeySet),
}

impl ProviderMetadata {
    /// The kind of the document that logins keep for the endpoints ([`mytoken::document`]).
    pub const KIND: &'static str = "endpoints";

    /// What the provider calls itself.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

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
        Ok(KeySet::parse(&get(http, self.endpoint(ProviderEndpoint::Keys, issuer)?, deadline)?.body)?)
    }

    /// The URL of an endpoint.
    ///
    /// # Errors
    /// [`ProviderError::NoEndpoint`] or [`ProviderError::ForeignHost`].
    pub fn endpoint(&self, which: ProviderEndpoint, issuer: &IssuerSettings) -> Result<&str, ProviderError> {
        let url = || issuer.url.clone();
        let endpoint =
            self.url_of(which).ok_or_else(|| ProviderError::NoEndpoint { issuer: url(), endpoint: which.name() })?;
        match issuer.foreign_host(endpoint) {
            Some(host) => Err(ProviderError::ForeignHost { issuer: url(), endpoint: which.name(), host }),
            None => Ok(endpoint),
        }
    }

    fn url_of(&self, which: ProviderEndpoint) -> Option<&str> {
        match which {
            ProviderEndpoint::Keys => Some(&self.jwks_uri),
            ProviderEndpoint::Userinfo => self.userinfo_endpoint.as_deref(),
            ProviderEndpoint::Introspection => self.introspection_endpoint.as_deref(),
        }
    }

    /// The hosts of endpoints that logins use and that `issuer` does not permit. Each is listed once.
    #[must_use]
    pub fn foreign_hosts(&self, issuer: &IssuerSettings) -> Vec<String> {
        let mut hosts: Vec<String> =
            ProviderEndpoint::used_with(issuer).filter_map(|which| issuer.foreign_host(self.url_of(which)?)).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }
}

fn get(http: &HttpClient, url: &str, deadline: Deadline) -> Result<HttpAnswer, ProviderError> {
    let answer = http.get(url, None, deadline, DOCUMENT_LIMIT)?;
    if answer.status == 200 {
        Ok(answer)
    } else {
        Err(ProviderError::Status { url: url.to_owned(), status: answer.status })
    }
}
