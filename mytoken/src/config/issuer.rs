// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[[issuer]]` in `mytoken.toml`: an OpenID provider whose access tokens are accepted.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::{Algorithm, Duration};
use crate::urls::{host_of, same_base};

mod audience;
mod error;
mod validation;

pub use audience::{ANY_AUDIENCE, AudienceClaim};
pub use error::IssuerError;
pub use validation::{ClientAuthentication, ClientProof, IntrospectionClient, ValidationMode};

/// Longest permitted difference of clocks.
const LEEWAY_LIMIT: Duration = Duration::seconds(300);

/// A provider whose access tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Short name, for rules and logs.
    pub name: String,
    /// Issuer URL. A token belongs to this provider if its `iss` equals this URL byte for byte, except for one trailing slash.
    pub url: String,
    /// How its access tokens are validated: all of these modes must accept a token.
    #[serde(default = "only_local")]
    pub validation: Vec<ValidationMode>,
    /// Whether its access tokens may be opaque: texts that only the provider understands.
    #[serde(default)]
    pub opaque: bool,
    /// The assumed lifetime of an opaque token of which the provider does not tell the end.
    #[serde(default = "ten_minutes")]
    pub opaque_lifetime: Duration,
    /// The client as which introspection is asked.
    #[serde(default)]
    pub client_id: Option<String>,
    /// How this client proves itself.
    #[serde(default)]
    pub client_auth: ClientAuthentication,
    /// Its secret. Only root may read the file.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Its private key: PKCS#8, PEM. Only root may read the file.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// The id of this key at the provider.
    #[serde(default)]
    pub client_key_id: Option<String>,
    /// Further hosts at which the discovery document may place endpoints. Its own host is always permitted.
    #[serde(default)]
    pub endpoint_hosts: Vec<String>,
    /// Allowed signature algorithms.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Allowed values of the header's `typ` (RFC 9068 2.1), compared as media types. `""` allows a header without `typ`.
    #[serde(default = "default_typ")]
    pub accept_typ: Vec<String>,
    /// A token must name one of these in one of `audience_claims`.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The claims in which `audiences` are looked for.
    #[serde(default = "only_aud")]
    pub audience_claims: Vec<AudienceClaim>,
    /// Whether [`ANY_AUDIENCE`] in `aud` is accepted too. Any service that sees such a token can log in as its user.
    #[serde(default)]
    pub accept_any_audience: bool,
    /// Whether `audiences` is checked. Without this check any service that sees a user's token can log in as the user.
    #[serde(default = "yes")]
    pub require_audience: bool,
    /// A token must carry all of these scopes.
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// Permitted difference of clocks for `exp`, `nbf` and `iat`; at most 300 s.
    #[serde(default = "default_leeway", deserialize_with = "leeway")]
    pub leeway: Duration,
    /// Maximum age of a token since `iat`; zero: not checked.
    #[serde(default = "day")]
    pub max_age: Duration,
    /// How long fetched keys are used without asking the provider again.
    #[serde(default = "hour")]
    pub jwks_max_age: Duration,
    /// How long fetched keys are used while the provider does not answer.
    #[serde(default = "day")]
    pub jwks_stale_if_error: Duration,
}

impl IssuerSettings {
    /// Whether `iss` (not verified) is this provider's URL.
    #[must_use]
    pub fn is(&self, iss: &str) -> bool {
        same_base(iss, &self.url)
    }

    /// The host of an endpoint in this provider's discovery document, if it is neither the provider's own nor one of `endpoint_hosts`. The
    /// port does not matter. A text that is no URL has no host and is refused when it is used.
    #[must_use]
    pub fn foreign_host(&self, endpoint: &str) -> Option<String> {
        let host = host_of(endpoint)?;
        let permitted = host_of(&self.url).is_some_and(|own| own == host) || self.endpoint_hosts.contains(&host);
        (!permitted).then_some(host)
    }

    /// Whether a token with this `typ` in its header is accepted. `typ` has the form that [`media_type`] returns.
    #[must_use]
    pub fn accepts_typ(&self, typ: Option<&str>) -> bool {
        self.accept_typ.iter().any(|accepted| match typ {
            None => accepted.is_empty(),
            Some(typ) => !accepted.is_empty() && media_type(accepted) == typ,
        })
    }

    /// Whether these settings refuse every ID token of this provider, also one without the claims that mark an ID token: by its `typ`,
    /// or because it has no scopes.
    #[must_use]
    pub fn refuses_id_tokens(&self) -> bool {
        !self.required_scopes.is_empty() || self.accept_typ.iter().all(|typ| media_type(typ) == "at+jwt")
    }

    /// Checks the fields together.
    ///
    /// # Errors
    /// [`IssuerError`], a sentence for the administrator.
    pub fn validate(&self) -> Result<(), IssuerError> {
        let name = || self.name.clone();
        if self.require_audience && self.audiences.is_empty() {
            return Err(IssuerError::Audiences { name: name() });
        }
        if self.require_audience && self.audience_claims.is_empty() {
            return Err(IssuerError::AudienceClaims { name: name() });
        }
        if self.accept_typ.is_empty() {
            return Err(IssuerError::Typ { name: name() });
        }
        if self.algorithms.is_empty() {
            return Err(IssuerError::Algorithms { name: name() });
        }
        if self.name.is_empty() || self.url.is_empty() {
            return Err(IssuerError::NameOrUrl);
        }
        let is_host = |entry: &String| {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':');
            entry.bytes().all(plain) && host_of(&format!("https://{entry}")).as_ref() == Some(entry)
        };
        if let Some(entry) = self.endpoint_hosts.iter().find(|entry| !is_host(entry)) {
            return Err(IssuerError::EndpointHost { name: name(), entry: mytoken_wire::printable(entry, 120) });
        }
        self.check_validation().map_err(|problem| IssuerError::Validation { name: name(), problem })
    }
}

/// `typ` in a form that can be compared: in lower case and without `application/`, which a token may omit if no other slash follows
/// (RFC 7515 4.1.9, RFC 7519 5.1).
#[must_use]
pub fn media_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        _ => lower,
    }
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

fn default_typ() -> Vec<String> {
    ["at+jwt", "application/at+jwt", "JWT", ""].map(str::to_owned).to_vec()
}

fn ten_minutes() -> Duration {
    Duration::seconds(600)
}

fn only_local() -> Vec<ValidationMode> {
    vec![ValidationMode::Local]
}

fn only_aud() -> Vec<AudienceClaim> {
    vec![AudienceClaim::Aud]
}

fn yes() -> bool {
    true
}

fn default_leeway() -> Duration {
    Duration::seconds(30)
}

fn hour() -> Duration {
    Duration::seconds(3_600)
}

fn day() -> Duration {
    Duration::seconds(86_400)
}

fn leeway<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let leeway = Duration::deserialize(deserializer)?;
    if leeway > LEEWAY_LIMIT {
        return Err(serde::de::Error::custom("leeway may be 300s at most; set the clocks instead"));
    }
    Ok(leeway)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<IssuerSettings, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let issuer = read("name = 'op'\nurl = 'https://op.example.org'").unwrap();
        assert!(issuer.require_audience);
        assert_eq!(issuer.algorithms, [Algorithm::RS256, Algorithm::ES256]);
        assert_eq!((&issuer.validation[..], issuer.opaque), (&[ValidationMode::Local][..], false));
        assert_eq!(issuer.audience_claims, [AudienceClaim::Aud]);
        assert!(!issuer.accept_any_audience);
        assert_eq!(issuer.leeway, Duration::seconds(30));
        assert_eq!(issuer.accept_typ, ["at+jwt", "application/at+jwt", "JWT", ""]);
        assert!(matches!(issuer.validate(), Err(IssuerError::Audiences { .. })));
        let none =
            read("name = 'op'\nurl = 'https://op.example.org'\nrequire_audience = false\naccept_typ = []").unwrap();
        assert!(matches!(none.validate(), Err(IssuerError::Typ { .. })));
    }

    #[test]
    fn unknown_keys_and_unsafe_values_are_refused() {
        let none =
            read("name = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']\naudience_claims = []").unwrap();
        assert!(matches!(none.validate(), Err(IssuerError::AudienceClaims { .. })));
        for line in [
            "audience = ['x']",
            "audience_claims = ['sub']",
            "algorithms = ['none']",
            "algorithms = ['HS256']",
            "leeway = '6m'",
        ] {
            assert!(read(&format!("name = 'op'\nurl = 'https://op.example.org'\n{line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn endpoints_are_at_the_issuers_host_or_at_listed_ones() {
        let issuer = |hosts: &str| {
            let text =
                format!("name = 'op'\nurl = 'https://op.example.org/x'\naudiences = ['a']\nendpoint_hosts = [{hosts}]");
            read(&text).unwrap()
        };
        let (own, listed) = (issuer(""), issuer("'keys.example.net', '192.0.2.7'"));
        for (endpoint, of_own, of_listed) in [
            ("https://op.example.org/jwks", None, None),
            ("https://OP.example.org:8443/jwks", None, None),
            ("https://keys.example.net/jwks", Some("keys.example.net"), None),
            ("https://192.0.2.7/jwks", Some("192.0.2.7"), None),
            ("https://a.op.example.org/", Some("a.op.example.org"), Some("a.op.example.org")),
            ("https://example.org/", Some("example.org"), Some("example.org")),
            ("https://op.example.org@evil.example/", Some("evil.example"), Some("evil.example")),
            ("op.example.org/jwks", None, None),
        ] {
            assert_eq!(own.foreign_host(endpoint).as_deref(), of_own, "{endpoint}");
            assert_eq!(listed.foreign_host(endpoint).as_deref(), of_listed, "{endpoint}");
        }
        assert!(listed.validate().is_ok());
        for wrong in
            ["https://keys.example.net", "keys.example.net:443", "keys.example.net/", "Keys.example.net", "", "*"]
        {
            let refused = issuer(&format!("'{wrong}'")).validate();
            assert!(matches!(refused, Err(IssuerError::EndpointHost { .. })), "{wrong}: {refused:?}");
        }
    }

    #[test]
    fn an_issuer_is_compared_exactly() {
        let issuer = read("name = 'op'\nurl = 'https://op.example.org/x'").unwrap();
        assert!(issuer.is("https://op.example.org/x") && issuer.is("https://op.example.org/x/"));
        for other in [
            "https://op.example.org/x//",
            "https://OP.example.org/x",
            "https://op.example.org",
            "",
            "https://op.example.org/x?",
        ] {
            assert!(!issuer.is(other), "{other}");
        }
    }
}
