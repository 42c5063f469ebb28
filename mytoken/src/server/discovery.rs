// SPDX-License-Identifier: MIT OR Apache-2.0
//! The discovery document. All endpoints are read from it (MT-01).

use serde::{Deserialize, Deserializer, Serialize};

use super::grant::AUTHORIZATION_CODE;
use super::{Deliver, Grant, call};
use crate::http::{AnswerHead, DOCUMENT_LIMIT, HttpClient};
use crate::server::ServerError;
use crate::urls::UrlError;
use crate::urls::{self, ServerUrl};
use crate::words::HARMLESS_SCOPES;
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
    /// For what the server gives mytokens. Empty: its document does not say.
    #[serde(default, deserialize_with = "names_or_none")]
    pub mytoken_endpoint_grant_types_supported: Vec<String>,
    /// The flows of [`Grant::OidcFlow`]. Empty: its document does not say.
    #[serde(default, deserialize_with = "names_or_none")]
    pub mytoken_endpoint_oidc_flows_supported: Vec<String>,
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

impl Provider {
    /// Whether the server can request this scope, or all that contains it: some name a part of a listed one, for example a path. A
    /// provider without a list says nothing.
    #[must_use]
    pub fn offers(&self, scope: &str) -> bool {
        let contains = |listed: &String| match scope.strip_prefix(listed.as_str()) {
            Some("") => true,
            Some(part) => listed.ends_with('/') || part.starts_with([':', '/', '?']),
            None => false,
        };
        self.scopes_supported.is_empty()
            || HARMLESS_SCOPES.contains(&scope)
            || self.scopes_supported.iter().any(contains)
    }
}

impl Discovery {
    /// Whether the server delivers a new mytoken in this form.
    #[must_use]
    pub fn delivers(&self, form: Deliver) -> bool {
        self.response_types_supported.iter().any(|known| known == form.response_type())
    }

    /// Whether the server gives a mytoken for this, as far as its document says.
    #[must_use]
    pub fn grants(&self, grant: Grant) -> bool {
        let has = |list: &[String], name: &str| list.is_empty() || list.iter().any(|known| known == name);
        has(&self.mytoken_endpoint_grant_types_supported, grant.name())
            && (grant != Grant::OidcFlow || has(&self.mytoken_endpoint_oidc_flows_supported, AUTHORIZATION_CODE))
    }

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

/// Reads a list that only `mytokenctl check` uses: a server that writes it in another form must not cost a login.
fn names_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(member: &str, value: Value) -> Discovery {
        let mut document = json!({"issuer": "https://mt", "access_token_endpoint": "https://mt/a", "mytoken_endpoint": "https://mt/m"});
        document[member] = value;
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_grant_is_missing_only_from_a_list() {
        let grants = "mytoken_endpoint_grant_types_supported";
        for (list, expected) in [
            (json!(["oidc_flow", "transfer_code"]), true),
            (json!(["mytoken", "transfer_codes"]), false),
            (json!([]), true),
            (json!(null), true),
            // Not a list of names: as if it were not there.
            (json!("mytoken"), true),
            (json!([1]), true),
            (json!({"mytoken": true}), true),
        ] {
            assert_eq!(with(grants, list.clone()).grants(Grant::TransferCode), expected, "{list}");
        }
        let flows = with("mytoken_endpoint_oidc_flows_supported", json!(["device"]));
        assert!(!flows.grants(Grant::OidcFlow) && flows.grants(Grant::PollingCode));
    }

    #[test]
    fn a_scope_may_be_a_part_of_a_listed_one() {
        let provider = |scopes: &[&str]| Provider {
            issuer: "https://op".into(),
            name: None,
            scopes_supported: scopes.iter().map(ToString::to_string).collect(),
        };
        for (listed, scope, expected) in [
            (&["profile", "storage.read"][..], "storage.read", true),
            (&["storage.read"], "storage.read:/data", true),
            (&["storage.read:/"], "storage.read:/data", true),
            (&["storage.read:/data"], "storage.read:/data2", false),
            (&["eduperson_entitlement"], "eduperson_entitlement?value=a", true),
            (&["storage.read"], "storage.readonly", false),
            (&["storage.read:/data"], "storage.read", false),
            (&["compute.read"], "storage.read", false),
            // The server adds these itself (MT-11).
            (&["profile"], "openid", true),
            (&["profile"], "offline_access", true),
            (&[], "storage.read", true),
        ] {
            assert_eq!(provider(listed).offers(scope), expected, "{listed:?} {scope}");
        }
    }
}
