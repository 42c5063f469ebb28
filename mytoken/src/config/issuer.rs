// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[[issuer]]` in `mytoken.toml`: an OpenID provider whose access tokens are accepted.

use serde::{Deserialize, Deserializer};

use super::{Algorithm, Duration};
use crate::urls::same_base;

/// Longest permitted difference of clocks.
const LEEWAY_LIMIT: Duration = Duration::seconds(300);

/// Why the settings of a provider are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The audience is required, and none is named.
    #[error(
        "issuer \"{name}\" has no audiences; name those that tokens for this site carry, or write require_audience = false to accept tokens that were made for any service"
    )]
    Audiences {
        /// The provider.
        name: String,
    },
    /// `accept_typ` is empty.
    #[error("issuer \"{name}\" accepts no typ; \"\" stands for a header that has none")]
    Typ {
        /// The provider.
        name: String,
    },
    /// `algorithms` is empty.
    #[error("issuer \"{name}\" allows no signature algorithm")]
    Algorithms {
        /// The provider.
        name: String,
    },
    /// The name or the URL is empty.
    #[error("an issuer needs a name and a url")]
    NameOrUrl,
}

/// A provider whose access tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Short name, for rules and logs.
    pub name: String,
    /// Issuer URL. A token belongs to this provider if its `iss` equals this URL byte for byte, except for one trailing slash.
    pub url: String,
    /// Allowed signature algorithms.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Allowed values of the header's `typ` (RFC 9068 2.1), compared as media types. `""` allows a header without `typ`.
    #[serde(default = "default_typ")]
    pub accept_typ: Vec<String>,
    /// A token must name one of these in `aud`.
    #[serde(default)]
    pub audiences: Vec<String>,
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
        if self.accept_typ.is_empty() {
            return Err(IssuerError::Typ { name: name() });
        }
        if self.algorithms.is_empty() {
            return Err(IssuerError::Algorithms { name: name() });
        }
        if self.name.is_empty() || self.url.is_empty() {
            return Err(IssuerError::NameOrUrl);
        }
        Ok(())
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
        assert_eq!(issuer.leeway, Duration::seconds(30));
        assert_eq!(issuer.accept_typ, ["at+jwt", "application/at+jwt", "JWT", ""]);
        assert!(matches!(issuer.validate(), Err(IssuerError::Audiences { .. })));
        let none =
            read("name = 'op'\nurl = 'https://op.example.org'\nrequire_audience = false\naccept_typ = []").unwrap();
        assert!(matches!(none.validate(), Err(IssuerError::Typ { .. })));
    }

    #[test]
    fn unknown_keys_and_unsafe_values_are_refused() {
        for line in ["audience = ['x']", "algorithms = ['none']", "algorithms = ['HS256']", "leeway = '6m'"] {
            assert!(read(&format!("name = 'op'\nurl = 'https://op.example.org'\n{line}")).is_err(), "{line}");
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
