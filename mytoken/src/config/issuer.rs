// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configuration says about an OpenID provider whose access tokens are accepted: `[[issuer]]` in `mytoken.toml`.

use serde::{Deserialize, Deserializer};

use super::{Algorithm, Duration};
use crate::urls::same_base;

/// Longest permitted difference of clocks.
const LEEWAY_LIMIT: Duration = Duration::seconds(300);

/// A provider whose access tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Short name, for rules and logs.
    pub name: String,
    /// Issuer URL. A token belongs to this provider when its `iss` equals it byte for byte, one trailing slash aside.
    pub url: String,
    /// Algorithms that its signatures may use.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// What the header's `typ` may be (RFC 9068 2.1), compared as a media type; empty: there is none.
    #[serde(default = "default_typ")]
    pub accept_typ: Vec<String>,
    /// A token must name one of these in `aud`.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Whether `audiences` is checked at all. Without it any service that sees a user's token can log in as the user.
    #[serde(default = "yes")]
    pub require_audience: bool,
    /// Scopes that a token must carry, all of them.
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// Permitted difference of clocks for `exp`, `nbf` and `iat`; at most 300 s.
    #[serde(default = "default_leeway", deserialize_with = "leeway")]
    pub leeway: Duration,
    /// Highest age of a token since `iat`; zero: not checked.
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
    /// Whether the unverified `iss` names this provider.
    #[must_use]
    pub fn is(&self, iss: &str) -> bool {
        same_base(iss, &self.url)
    }

    /// Whether the header's `typ`, in the form of [`media_type`], is one that is accepted.
    #[must_use]
    pub fn accepts_typ(&self, kind: Option<&str>) -> bool {
        self.accept_typ.iter().any(|accepted| match kind {
            None => accepted.is_empty(),
            Some(kind) => !accepted.is_empty() && media_type(accepted) == kind,
        })
    }

    /// Whether an ID token of this provider that has none of the claims of its kind would be refused, whatever its audience: by its
    /// header, or because it has no scopes.
    #[must_use]
    pub fn tells_id_tokens_apart(&self) -> bool {
        !self.required_scopes.is_empty() || self.accept_typ.iter().all(|typ| media_type(typ) == "at+jwt")
    }

    /// What no single field can tell.
    ///
    /// # Errors
    /// A sentence for the administrator.
    pub fn validate(&self) -> Result<(), String> {
        if self.require_audience && self.audiences.is_empty() {
            return Err(format!(
                "issuer \"{}\" has no audiences; name those that tokens for this site carry, or write require_audience = false to accept tokens that were made for any service",
                self.name
            ));
        }
        if self.accept_typ.is_empty() {
            return Err(format!("issuer \"{}\" accepts no typ; \"\" stands for a header that has none", self.name));
        }
        if self.algorithms.is_empty() {
            return Err(format!("issuer \"{}\" allows no signature algorithm", self.name));
        }
        if self.name.is_empty() || self.url.is_empty() {
            return Err("an issuer needs a name and a url".to_owned());
        }
        Ok(())
    }
}

/// `typ` in the form in which it is compared: in lower case, and without the `application/` that may be omitted where no other slash
/// follows (RFC 7515 4.1.9, RFC 7519 5.1).
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
        assert!(issuer.validate().unwrap_err().contains("audiences"));
        let none =
            read("name = 'op'\nurl = 'https://op.example.org'\nrequire_audience = false\naccept_typ = []").unwrap();
        assert!(none.validate().unwrap_err().contains("accepts no typ"));
    }

    #[test]
    fn what_is_not_known_or_too_lax_is_an_error() {
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
