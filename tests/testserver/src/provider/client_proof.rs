// SPDX-License-Identifier: MIT OR Apache-2.0
//! `private_key_jwt`: a client proves itself by a signature (OpenID Connect Core 9, RFC 7523).

use serde_json::Value;

use super::policy::Client;
use super::server::Provider;
use crate::form::{Form, first};
use crate::locked;

/// The only `client_assertion_type`.
const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Provider {
    /// The client whose signature this is. A proof is accepted once.
    pub(super) fn client_of_proof(&self, proof: &str, form: &Form) -> Option<Client> {
        let client =
            self.client(first(form, "client_id")?).filter(|_| first(form, "client_assertion_type") == Some(KIND))?;
        let claims = crate::jwks::verify(proof, client.jwks.as_ref()?).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let time = |name: &str| claims.get(name).and_then(Value::as_u64);
        let of_client = ["iss", "sub"].iter().all(|name| text(name) == Some(client.id.as_str()));
        let now = self.now();
        let valid_now = time("exp").is_some_and(|exp| now < exp && exp <= now + 300);
        let for_us = text("aud") == Some(self.issuer());
        let unused = text("jti").is_some_and(|jti| locked(&self.state).proofs.insert(jti.to_owned()));
        (of_client && valid_now && for_us && unused).then_some(client)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys::{Algorithm, ProviderKey};
    use super::super::tests::{ISSUER, answer, call, provider};
    use super::super::tokens::jwt;
    use super::*;

    #[test]
    fn a_client_with_a_key_proves_itself_once_by_each_signature() {
        let provider = provider(&json!({}));
        let (key, other) =
            (ProviderKey::generate(Algorithm::Es256).unwrap(), ProviderKey::generate(Algorithm::Es256).unwrap());
        let jwks = json!({"keys": [key.public_jwk()]});
        provider.register(Client { id: "site".into(), secret: None, redirect_uris: Vec::new(), jwks: Some(jwks) });
        let now = provider.now();
        let claims = |jti: &str| json!({"iss": "site", "sub": "site", "aud": ISSUER, "jti": jti, "exp": now + 60});
        let status = |key: &ProviderKey, kind: &str, claims: &Value| {
            let proof = jwt(key, "JWT", claims).unwrap();
            let form = [
                ("token", "x"),
                ("client_id", "site"),
                ("client_assertion_type", kind),
                ("client_assertion", proof.as_str()),
            ];
            answer(call(&provider, "POST", "/introspect", &[], &form)).status
        };
        assert_eq!(status(&key, KIND, &claims("1")), 200);
        assert_eq!(status(&key, KIND, &claims("1")), 401, "the same proof again");
        assert_eq!(status(&other, KIND, &claims("2")), 401);
        assert_eq!(status(&key, "x", &claims("3")), 401);
        for (name, value) in
            [("aud", json!("https://x")), ("sub", json!("x")), ("exp", json!(now)), ("exp", json!(now + 900))]
        {
            let mut claims = claims("4");
            claims[name] = value;
            assert_eq!(status(&key, KIND, &claims), 401, "{name}");
        }
        let bare = [("token", "x"), ("client_id", "site")];
        assert_eq!(answer(call(&provider, "POST", "/introspect", &[], &bare)).status, 401, "no proof");
    }
}
