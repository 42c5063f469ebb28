// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the access tokens of a provider are validated, and the client as which the provider is asked.

use std::path::Path;

use serde::Deserialize;

use super::IssuerSettings;

/// A way to validate an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationMode {
    /// This host checks the signature, with the provider's keys.
    Local,
    /// The provider's userinfo endpoint accepts the token (OpenID Connect Core 5.3).
    Userinfo,
    /// The provider says that the token is active (RFC 7662).
    Introspection,
}

/// How a client proves itself to the provider (OpenID Connect Core 9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    #[default]
    Basic,
    /// `client_secret_post`.
    Post,
    /// `private_key_jwt` (RFC 7523).
    PrivateKeyJwt,
}

/// The client as which introspection is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntrospectionClient<'a> {
    /// Its id.
    pub id: &'a str,
    /// What proves that it is this client.
    pub proof: ClientProof<'a>,
}

/// What proves a client's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientProof<'a> {
    /// A secret in the header.
    Basic {
        /// Its file.
        secret: &'a Path,
    },
    /// A secret in the form.
    Post {
        /// Its file.
        secret: &'a Path,
    },
    /// A signature.
    PrivateKeyJwt {
        /// The file of the private key.
        key: &'a Path,
        /// The key's id.
        key_id: Option<&'a str>,
    },
}

impl IssuerSettings {
    /// Whether this mode is configured.
    #[must_use]
    pub fn validates_by(&self, mode: ValidationMode) -> bool {
        self.validation.contains(&mode)
    }

    /// Whether each login asks the provider.
    #[must_use]
    pub fn asks_provider(&self) -> bool {
        self.validation.iter().any(|mode| *mode != ValidationMode::Local)
    }

    /// The client as which introspection is asked.
    ///
    /// # Errors
    /// What is missing, for the administrator.
    pub fn introspection_client(&self) -> Result<IntrospectionClient<'_>, &'static str> {
        let id = self.client_id.as_deref().filter(|id| !id.is_empty());
        let id = id.ok_or("introspection needs client_id, the client of this site at the provider")?;
        let secret = || {
            let file = self.client_secret_file.as_deref().filter(|file| file.is_absolute());
            file.ok_or("introspection needs client_secret_file, the absolute path of a file with the client's secret")
        };
        let proof = match self.client_auth {
            ClientAuthentication::Basic => ClientProof::Basic { secret: secret()? },
            ClientAuthentication::Post => ClientProof::Post { secret: secret()? },
            ClientAuthentication::PrivateKeyJwt => {
                let key = self.client_key_file.as_deref().filter(|file| file.is_absolute());
                let key = key.ok_or(
                    "client_auth = \"private_key_jwt\" needs client_key_file, the absolute path of a file with the client's private key",
                )?;
                ClientProof::PrivateKeyJwt { key, key_id: self.client_key_id.as_deref() }
            }
        };
        Ok(IntrospectionClient { id, proof })
    }

    /// Checks `validation` and the keys that it needs. Returns the problem.
    pub(super) fn check_validation(&self) -> Result<(), &'static str> {
        if self.validation.is_empty() {
            return Err("validation is empty; write [\"local\"]");
        }
        if self.validates_by(ValidationMode::Introspection) {
            self.introspection_client()?;
        }
        if self.opaque && !self.asks_provider() {
            return Err(
                "opaque = true needs \"introspection\" or \"userinfo\" in validation: only the provider understands such tokens",
            );
        }
        // The check of the signature says nothing about an opaque token.
        let only_userinfo = self.validation == [ValidationMode::Userinfo];
        if only_userinfo || (self.opaque && !self.validates_by(ValidationMode::Introspection)) {
            self.check_userinfo_only()?;
        }
        Ok(())
    }

    /// Userinfo tells who a token belongs to, and neither for whom it was made nor what it may do.
    fn check_userinfo_only(&self) -> Result<(), &'static str> {
        if self.require_audience {
            return Err(
                "userinfo does not tell for whom a token was made; add \"introspection\" to validation, or \"local\" if no token is opaque, or write require_audience = false to accept tokens that were made for any service",
            );
        }
        if !self.required_scopes.is_empty() {
            return Err(
                "userinfo does not tell the scopes of a token; add \"introspection\" to validation, or \"local\" if no token is opaque, or remove required_scopes",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(lines: &str) -> IssuerSettings {
        let text = format!("name = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']\n{lines}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn each_mode_has_what_it_needs() {
        let client = "client_id = 'c'\n";
        for (lines, part) in [
            ("validation = []", "validation is empty"),
            ("validation = ['userinfo']", "require_audience = false"),
            ("validation = ['userinfo']\nrequire_audience = false\nrequired_scopes = ['openid']", "required_scopes"),
            ("opaque = true", "opaque = true needs"),
            ("opaque = true\nvalidation = ['local', 'userinfo']", "require_audience = false"),
            (
                "opaque = true\nvalidation = ['local', 'userinfo']\nrequire_audience = false\nrequired_scopes = ['x']",
                "remove required_scopes",
            ),
            ("validation = ['introspection']", "needs client_id"),
            ("validation = ['introspection']\nclient_id = ''", "needs client_id"),
            ("validation = ['introspection']\nclient_id = 'c'", "needs client_secret_file"),
            ("validation = ['introspection']\nclient_id = 'c'\nclient_secret_file = 'x'", "absolute path"),
            (
                "validation = ['introspection']\nclient_id = 'c'\nclient_auth = 'private_key_jwt'\nclient_secret_file = '/x'",
                "needs client_key_file",
            ),
        ] {
            let error = issuer(lines).validate().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("issuer \"op\": "), "{lines}: {error}");
        }
        for (lines, asks) in [
            (String::new(), false),
            ("validation = ['local', 'userinfo']".to_owned(), true),
            ("validation = ['userinfo']\nrequire_audience = false".to_owned(), true),
            ("opaque = true\nvalidation = ['userinfo']\nrequire_audience = false".to_owned(), true),
            (format!("opaque = true\nvalidation = ['introspection']\nclient_secret_file = '/x'\n{client}"), true),
            (format!("validation = ['introspection', 'local']\nclient_secret_file = '/x'\n{client}"), true),
            (format!("validation = ['userinfo', 'introspection']\nclient_secret_file = '/x'\n{client}"), true),
        ] {
            let issuer = issuer(&lines);
            assert_eq!((issuer.validate(), issuer.asks_provider()), (Ok(()), asks), "{lines}");
        }
    }

    #[test]
    fn the_client_has_one_proof() {
        let proof = |lines: &str| {
            let issuer =
                issuer(&format!("client_id = 'c'\nclient_secret_file = '/s'\nclient_key_file = '/k'\n{lines}"));
            format!("{:?}", issuer.introspection_client().unwrap().proof)
        };
        assert_eq!(proof(""), "Basic { secret: \"/s\" }");
        assert_eq!(proof("client_auth = 'post'"), "Post { secret: \"/s\" }");
        let signed = proof("client_auth = 'private_key_jwt'\nclient_key_id = 'i'");
        assert_eq!(signed, "PrivateKeyJwt { key: \"/k\", key_id: Some(\"i\") }");
        assert!(toml::from_str::<IssuerSettings>("name = 'n'\nurl = 'u'\nclient_auth = 'none'").is_err());
    }
}
