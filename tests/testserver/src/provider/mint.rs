// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens made to order: valid ones, and all kinds of invalid ones that a verifier must refuse.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keys::Algorithm;
use super::random::random;
use super::server::Provider;
use super::tokens::signing_input;
use crate::locked;

/// An order for a token. The empty order gives a valid access token of alice.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenOrder {
    /// User name; `alice` when absent.
    pub user: Option<String>,
    /// Scope; all scopes of the provider if absent.
    pub scope: Option<String>,
    /// Claims that replace the usual ones; null removes one.
    pub claims: Map<String, Value>,
    /// Leave out the usual claims.
    pub bare: bool,
    /// Header fields that replace the usual ones, without effect on the signature; null removes one.
    pub header: Map<String, Value>,
    /// How to sign; if absent, with the provider's current algorithm.
    pub alg: Option<Signing>,
    /// Sign with an unpublished key, but put the `kid` of a published key into the header.
    pub foreign_key: bool,
    /// Make an opaque token: a random string instead of a JWT.
    pub opaque: bool,
    /// Make an ID token for the mytoken server instead of an access token.
    pub id_token: bool,
    /// Damage the finished token.
    pub tamper: Option<Tamper>,
    /// Add a claim of this many bytes.
    pub pad: usize,
}

/// Ways to sign.
#[derive(Debug, Clone, Copy, Deserialize)]
#[allow(missing_docs)]
pub enum Signing {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// With the PEM of the RSA public key as the secret.
    #[serde(rename = "HS256")]
    Hs256,
    /// An empty signature.
    #[serde(rename = "none")]
    None,
}

/// Ways to damage a token.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tamper {
    /// Flip one bit of the signature.
    Signature,
    /// Change the user to `mallory` and keep the signature.
    Claims,
    /// Remove the signature and its dot.
    Cut,
}

impl Provider {
    /// Makes the ordered token.
    ///
    /// # Errors
    /// A key cannot be made, or the order contradicts itself.
    pub fn mint(&self, order: &TokenOrder) -> Result<String, String> {
        let claims = self.ordered_claims(order)?;
        if order.opaque {
            return self.issue_opaque_token(claims);
        }
        let algorithm = match order.alg {
            Some(Signing::Hs256 | Signing::None) => None,
            Some(Signing::Rs256) => Some(Algorithm::Rs256),
            Some(Signing::Es256) => Some(Algorithm::Es256),
            Some(Signing::EdDsa) => Some(Algorithm::EdDsa),
            None => Some(self.policy().algorithm),
        };
        let mut keys = locked(&self.keys);
        // HS256 with a public key needs the key that a verifier would find: the published RSA key.
        let named = keys.published_key(algorithm.unwrap_or(Algorithm::Rs256))?;
        let signing = match algorithm {
            Some(algorithm) if order.foreign_key => keys.foreign_key(algorithm)?,
            _ => named.clone(),
        };
        drop(keys);
        let name = match order.alg {
            Some(Signing::Hs256) => "HS256",
            Some(Signing::None) => "none",
            _ => signing.algorithm.name(),
        };
        let typ = if order.id_token { "JWT".into() } else { self.policy().typ };
        let header = with_overrides(json!({"alg": name, "typ": typ, "kid": named.kid}), &order.header);
        let input = signing_input(&header, &claims);
        let signature = match order.alg {
            Some(Signing::None) => Vec::new(),
            Some(Signing::Hs256) => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, named.public_pem()?.as_bytes());
                hmac::sign(&secret, input.as_bytes()).as_ref().to_vec()
            }
            _ => signing.sign(input.as_bytes())?,
        };
        Ok(tampered(&header, claims, signature, &input, order.tamper))
    }

    fn ordered_claims(&self, order: &TokenOrder) -> Result<Value, String> {
        let policy = self.policy();
        let user = order.user.as_deref().unwrap_or("alice");
        let scope = order.scope.clone().unwrap_or_else(|| {
            policy.scopes.iter().filter(|scope| *scope != "offline_access").cloned().collect::<Vec<_>>().join(" ")
        });
        let scopes: Vec<_> = scope.split(' ').map(str::to_owned).collect();
        let client = self.setup.clients.first().map(|client| client.id.as_str()).unwrap_or_default();
        let now = self.now();
        let mut usual = json!({"iss": self.issuer(), "iat": now, "nbf": now, "exp": now + policy.lifetime});
        if order.id_token {
            usual = with_overrides(
                usual,
                &object(json!({
                    "sub": user, "aud": client, "auth_time": now, "nonce": random()?, "at_hash": random()?
                })),
            );
        } else {
            usual = with_overrides(usual, &self.setup.users.claims(user, &scopes));
            usual = with_overrides(
                usual,
                &object(json!({
                    (policy.audience_claim.as_str()): policy.default_audience, "client_id": client, "jti": random()?, "scope": scope
                })),
            );
            usual = with_overrides(usual, &policy.extra_claims);
        }
        let mut claims = with_overrides(if order.bare { json!({}) } else { usual }, &order.claims);
        if let (Some(members), 1..) = (claims.as_object_mut(), order.pad) {
            members.insert("pad".into(), "x".repeat(order.pad.min(8 << 20)).into());
        }
        Ok(claims)
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(members) = value { members } else { Map::new() }
}

/// Replaces members of an object; null removes one.
fn with_overrides(value: Value, overrides: &Map<String, Value>) -> Value {
    let mut members = object(value);
    for (name, value) in overrides {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    Value::Object(members)
}

fn tampered(header: &Value, claims: Value, mut signature: Vec<u8>, input: &str, tamper: Option<Tamper>) -> String {
    match tamper {
        Some(Tamper::Cut) => return input.to_owned(),
        Some(Tamper::Signature) => {
            if let Some(byte) = signature.first_mut() {
                *byte ^= 1;
            }
        }
        Some(Tamper::Claims) => {
            let other = with_overrides(claims, &object(json!({"sub": "mallory"})));
            return format!("{}.{}", signing_input(header, &other), URL_SAFE_NO_PAD.encode(signature));
        }
        None => {}
    }
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests::{answer, call, claims, provider};

    fn minted(provider: &Provider, order: Value) -> String {
        provider.mint(&serde_json::from_value(order).unwrap()).unwrap()
    }

    fn header(token: &str) -> Value {
        let part = token.split('.').next().unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn verify(provider: &Provider, token: &str) -> Result<Map<String, Value>, String> {
        crate::jwks::verify(token, &provider.jwks())
    }

    #[test]
    fn valid_tokens_are_verified() {
        let provider = provider(&json!({}));
        for order in [json!({}), json!({"alg": "EdDSA"}), json!({"alg": "RS256"}), json!({"id_token": true})] {
            assert!(verify(&provider, &minted(&provider, order.clone())).is_ok(), "{order}");
        }
        let token = minted(&provider, json!({"user": "bob", "claims": {"aud": ["a", "b"], "nbf": null, "exp": 17}}));
        let ordered = claims(&json!(token));
        let expected = (&json!("bob"), &json!(["a", "b"]), &json!(17));
        assert_eq!((&ordered["sub"], &ordered["aud"], &ordered["exp"]), expected);
        assert_eq!(ordered.get("nbf"), None);
        assert_eq!(claims(&json!(minted(&provider, json!({"bare": true, "claims": {"x": 1}})))), json!({"x": 1}));
        assert!(minted(&provider, json!({"pad": 71680})).len() > 71680);
        provider.change_policy(&json!({"extra_claims": {"wlcg.ver": "1.0"}})).unwrap();
        assert_eq!(claims(&json!(minted(&provider, json!({}))))["wlcg.ver"], "1.0");
        assert_eq!(claims(&json!(minted(&provider, json!({"id_token": true})))).get("wlcg.ver"), None);
    }

    #[test]
    fn invalid_tokens_are_refused_for_the_expected_reason() {
        let provider = provider(&json!({}));
        let table = [
            (json!({"alg": "none"}), "not a signed JWT"),
            (json!({"alg": "HS256"}), "not accepted"),
            (json!({"foreign_key": true}), "signature is wrong"),
            (json!({"alg": "RS256", "foreign_key": true}), "signature is wrong"),
            (json!({"tamper": "signature"}), "signature is wrong"),
            (json!({"tamper": "claims"}), "signature is wrong"),
            (json!({"tamper": "cut"}), "not a signed JWT"),
            (json!({"header": {"kid": "unknown"}}), "no key with this kid"),
            (json!({"header": {"kid": null}}), "the header has no kid"),
            (json!({"header": {"alg": "RS256"}}), "the key is for another algorithm"),
            (json!({"header": {"crit": ["x"], "x": true}}), "critical"),
        ];
        for (order, reason) in table {
            let error = verify(&provider, &minted(&provider, order.clone())).unwrap_err();
            assert!(error.contains(reason), "{order}: {error}");
        }
    }

    #[test]
    fn an_hs256_token_is_signed_with_the_public_rsa_key() {
        let provider = provider(&json!({}));
        let token = minted(&provider, json!({"alg": "HS256"}));
        let (input, signature) = token.rsplit_once('.').unwrap();
        let pem = locked(&provider.keys).published_key(Algorithm::Rs256).unwrap().public_pem().unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, pem.as_bytes());
        hmac::verify(&secret, input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let named = header(&token)["kid"].clone();
        assert!(
            provider.jwks()["keys"].as_array().unwrap().iter().any(|key| key["kid"] == named && key["kty"] == "RSA")
        );
    }

    #[test]
    fn introspection_knows_an_opaque_token() {
        let provider = provider(&json!({}));
        let token = minted(&provider, json!({"opaque": true, "scope": "openid"}));
        assert!(!token.contains('.'));
        let form = [("token", token.as_str()), ("client_id", "other"), ("client_secret", "o")];
        let introspected = answer(call(&provider, "POST", "/introspect", &[], &form));
        assert!(String::from_utf8(introspected.body).unwrap().contains(r#""active":true"#));
    }
}
