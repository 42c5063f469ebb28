// SPDX-License-Identifier: MIT OR Apache-2.0
//! The discovery document. All endpoints are read from it (MT-01).

use serde::{Deserialize, Deserializer, Serialize};

use super::call;
use crate::http::{AnswerHead, DOCUMENT_LIMIT, HttpClient};
use crate::server::ServerError;
use crate::urls::UrlError;
use crate::urls::{self, ServerUrl};
use crate::{Deadline, Error};

/// The discovery document of a mytoken server. Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// The server's own URL.
    pub issuer: String,
    /// Access tokens.
    pub access_token_endpoint: String,
    /// Sub-tokens, codes, logins.
    pub mytoken_endpoint: String,
    /// Introspection, history; absent if disabled.
    #[serde(default)]
    pub tokeninfo_endpoint: Option<String>,
    /// Revocation; absent if disabled.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// Transfer codes; absent if disabled.
    #[serde(default)]
    pub token_transfer_endpoint: Option<String>,
    /// OpenID providers for logins.
    #[serde(default, deserialize_with = "or_default")]
    pub providers_supported: Vec<Provider>,
    /// Restrictions that the server enforces. It silently drops all others (MT-20).
    #[serde(default, deserialize_with = "or_default")]
    pub restriction_claims_supported: Vec<String>,
    /// Forms in which the server delivers a new mytoken.
    #[serde(default, deserialize_with = "or_default")]
    pub response_types_supported: Vec<String>,
    /// The server's release.
    #[serde(default)]
    pub version: Option<String>,
}

/// An OpenID provider of a mytoken server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its issuer URL, in the spelling that the server requires.
    pub issuer: String,
    /// Its name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// The scopes that the server can request from it.
    #[serde(default, deserialize_with = "or_default")]
    pub scopes_supported: Vec<String>,
}

impl Discovery {
    /// Checks that the document belongs to this server, and that tokens may be sent to each endpoint.
    pub(super) fn check(&self, url: &ServerUrl, loopback_http: bool) -> Result<(), Error> {
        if !url.matches(&self.issuer) {
            let claimed = mytoken_wire::printable(&self.issuer, 120);
            return Err(Error::Server(ServerError::ForeignIssuer { server: url.to_string(), claimed }));
        }
        let optional = [&self.tokeninfo_endpoint, &self.revocation_endpoint, &self.token_transfer_endpoint];
        let endpoints = optional.into_iter().flatten().chain([&self.access_token_endpoint, &self.mytoken_endpoint]);
        for endpoint in endpoints {
            let parsed = urls::parse_url(endpoint)
                .map_err(|error| UrlError { url: format!("{url} (an endpoint)"), reason: error.to_string() })?;
            urls::check_scheme(&parsed, loopback_http)?;
        }
        Ok(())
    }

    /// The first of `keys` that the server would silently drop.
    pub(super) fn unsupported<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
        keys.into_iter().find(|key| !self.restriction_claims_supported.iter().any(|known| known == key))
    }
}

pub(super) fn fetch(
    http: &HttpClient,
    url: &ServerUrl,
    repeat: call::Repeat,
    deadline: Deadline,
) -> Result<(Discovery, AnswerHead), Error> {
    let address = format!("{url}/.well-known/mytoken-configuration");
    let answer = call::repeated(repeat, deadline, || http.get(&address, None, deadline, DOCUMENT_LIMIT))?;
    if answer.status != 200 {
        return Err(call::refusal(url, &answer, call::Context::Plain));
    }
    let discovery = answer.json().map_err(|error| call::not_understood(url.to_string(), answer.status, &error))?;
    Ok((discovery, answer.head))
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
