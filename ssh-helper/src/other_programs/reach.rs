// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a token reaches that another program made: the host that gets it could use it elsewhere.

use mytoken::Secret;
use mytoken::token::{Presented, classify};
use mytoken::words::{broader_scope, same_set, single_blanks};
use mytoken_wire::issuer_mark;

/// What a token is for. Words, separated by blanks; empty: nothing is named.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// Scopes.
    pub scope: &'a str,
    /// Audiences.
    pub audience: &'a str,
}

impl Reach<'_> {
    /// Whether nothing is named.
    pub fn is_open(&self) -> bool {
        self.scope.trim().is_empty() && self.audience.trim().is_empty()
    }

    /// Whether the access token has these audiences and no other, and no scope beside these. Providers may leave the scopes out of their
    /// tokens. The error says how it differs.
    pub fn check(&self, token: &Secret) -> Result<(), String> {
        if self.is_open() {
            return Ok(());
        }
        let inner = issuer_mark::split(token.expose()).map(|(_, inner)| Secret::new(inner));
        let Presented::AccessToken(jwt) = classify(inner.as_ref().unwrap_or(token)) else {
            return Err("it does not say what it is for, so the host could use it elsewhere".into());
        };
        if !self.audience.trim().is_empty() && !same_set(self.audience, &jwt.unverified_audience) {
            let got = jwt.unverified_audience.join(" ");
            let got = if got.is_empty() { "nobody".to_owned() } else { got };
            return Err(format!("it is for {got} instead of {}", single_blanks(self.audience)));
        }
        if self.scope.trim().is_empty() {
            return Ok(());
        }
        match broader_scope(self.scope, jwt.unverified_scope.iter().map(String::as_str)) {
            Some(more) => Err(format!("it has the scope {more}, which is not named for the host")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    pub fn jwt(claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "x"})), part(claims))
    }

    #[test]
    fn a_token_reaches_as_far_as_named() {
        let a = "https://a";
        for (claims, scope, audience, differs) in [
            (json!({"aud": a, "scope": "openid compute"}), "compute", a, None),
            (json!({"aud": [a], "scp": ["compute"]}), "compute read", a, None),
            (json!({"aud": [a, "https://b"]}), "", "https://b  https://a ", None),
            (json!({"aud": a}), "compute", a, None),
            (json!({"aud": a, "scope": "anything"}), "", a, None),
            (json!({"scope": "compute"}), "compute", "", None),
            (json!({"aud": "https://b"}), "", "", None),
            (json!({"aud": "https://b"}), "", a, Some("it is for https://b instead of https://a")),
            (json!({"aud": [a, "https://b"]}), "", a, Some("it is for https://a https://b instead")),
            (json!({"aud": a}), "", "https://a https://b", Some("it is for https://a instead of https://a https://b")),
            (json!({}), "", a, Some("it is for nobody instead")),
            (json!({"aud": a, "scope": "compute storage.write:/"}), "compute", a, Some("the scope storage.write:/")),
            (json!({"aud": a, "scope": ["compute", "admin"]}), "compute", a, Some("the scope admin")),
            (json!({"aud": a, "scp": "compute admin"}), "compute", a, Some("the scope admin")),
        ] {
            let token = jwt(&claims);
            for token in [token.clone(), format!("@at:op:{token}")] {
                let found = Reach { scope, audience }.check(&Secret::new(token));
                match differs {
                    None => assert_eq!(found, Ok(()), "{claims} {scope} {audience}"),
                    Some(text) => assert!(found.clone().is_err_and(|why| why.contains(text)), "{claims}: {found:?}"),
                }
            }
        }
    }

    #[test]
    fn what_does_not_say_its_reach_has_none_that_can_be_checked() {
        let named = Reach { scope: "", audience: "https://a" };
        let open = Reach { scope: " ", audience: "" };
        for text in ["0paque", "aBdEgHjK", "@at:op:0paque", "@at:op:a.b.c.d.e"] {
            let token = Secret::new(text);
            assert!(named.check(&token).unwrap_err().contains("does not say what it is for"), "{text}");
            assert_eq!(open.check(&token), Ok(()), "{text}");
        }
    }
}
