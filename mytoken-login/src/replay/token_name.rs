// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an access token is known by.

use mytoken::Secret;
use ring::hmac;
use serde_json::Value;

use crate::identity::Identity;
use crate::validation::is_signed;

/// What an access token is known by: its issuer, and its `jti` (RFC 7519 4.1.7) or a part of its text.
#[derive(Debug, Clone, Copy)]
pub struct TokenName<'a> {
    issuer: &'a str,
    form: Form<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Form<'a> {
    Jti(&'a str),
    /// A token without `jti`.
    Text(&'a Secret),
}

impl<'a> TokenName<'a> {
    /// The name of a validated token.
    pub(crate) fn of(token: &'a Secret, identity: &'a Identity) -> Self {
        let jti = identity.claims.get("jti").and_then(Value::as_str).filter(|jti| !jti.is_empty());
        Self { issuer: &identity.issuer, form: jti.map_or(Form::Text(token), Form::Jti) }
    }

    /// The name of the token with this `jti`.
    #[must_use]
    pub fn jti(issuer: &'a str, jti: &'a str) -> Self {
        Self { issuer, form: Form::Jti(jti) }
    }

    /// The name of a token without `jti`.
    #[must_use]
    pub fn text(issuer: &'a str, token: &'a Secret) -> Self {
        Self { issuer, form: Form::Text(token) }
    }

    /// The keyed hash of the name. Names of issuers hold no NUL: they are text of the configuration.
    pub(super) fn hash(&self, key: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        let (form, text) = match self.form {
            Form::Jti(jti) => (b'j', jti),
            // Of a signed token not the signature: whoever has one for ECDSA can compute a second one.
            Form::Text(token) if is_signed(token) => {
                (b's', token.expose().rsplit_once('.').map_or(token.expose(), |(signed, _)| signed))
            }
            Form::Text(token) => (b'o', token.expose()),
        };
        context.update(self.issuer.as_bytes());
        context.update(&[0, form]);
        context.update(text.as_bytes());
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &TokenName<'_>) -> Vec<u8> {
        name.hash(b"key").as_ref().to_vec()
    }

    #[test]
    fn a_second_signature_is_no_second_token() {
        // {"alg":"ES256"}.{"iss":"https://op"}
        let token =
            |signature: &str| Secret::new(format!("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL29wIn0.{signature}"));
        let (one, other) = (token("AAAA"), token("BBBB"));
        assert!(is_signed(&one));
        assert_eq!(hash(&TokenName::text("op", &one)), hash(&TokenName::text("op", &other)));
    }

    #[test]
    fn names_of_different_tokens_differ() {
        let (opaque, other) = (Secret::new("opaque-text.one"), Secret::new("opaque-text.two"));
        let names = [
            TokenName::jti("op", "one"),
            TokenName::jti("op", "two"),
            TokenName::jti("other", "one"),
            TokenName::jti("op", "opaque-text.one"),
            TokenName::text("op", &opaque),
            TokenName::text("op", &other),
            TokenName::text("other", &opaque),
        ];
        let hashes: std::collections::BTreeSet<Vec<u8>> = names.iter().map(hash).collect();
        assert_eq!(hashes.len(), names.len());
        assert_ne!(names[0].hash(b"key").as_ref(), names[0].hash(b"another").as_ref());
    }
}
