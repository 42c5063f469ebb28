// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encodes, issues and verifies the tokens of the provider.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::keys::ProviderKey;
use super::random::random;
use super::server::Provider;
use super::state::Grant;
use crate::locked;

/// The signing input of a JWT: the encoded header and claims.
#[must_use]
pub fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A JWT signed with the key.
///
/// # Errors
/// The key cannot sign.
pub fn jwt(key: &ProviderKey, typ: &str, claims: &Value) -> Result<String, String> {
    let header = json!({"alg": key.algorithm.name(), "typ": typ, "kid": key.kid});
    let input = signing_input(&header, claims);
    let signature = key.sign(input.as_bytes())?;
    Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

impl Provider {
    /// An access token for a grant, with these scopes and this audience.
    pub(super) fn access_token(&self, grant: &Grant, scopes: &[String], audience: &Value) -> Result<String, String> {
        let policy = self.policy();
        let now = self.now();
        let mut claims = json!({
            "iss": self.issuer(), "client_id": grant.client, "jti": random()?, "scope": scopes.join(" "),
            "iat": now, "nbf": now, "exp": now + policy.lifetime, "auth_time": grant.login_time,
        });
        if let Some(members) = claims.as_object_mut() {
            members.insert(policy.audience_claim.clone(), audience.clone());
            let mut user_claims = self.setup.users.claims(&grant.user, scopes);
            if !policy.claims_in_access_token {
                user_claims.retain(|claim, _| claim == "sub");
            }
            members.extend(user_claims);
            members.extend(policy.extra_claims.clone());
        }
        if policy.opaque {
            return self.issue_opaque_token(claims);
        }
        jwt(&*locked(&self.keys).signing_key()?, &policy.typ, &claims)
    }

    /// An ID token for the client of the grant.
    pub(super) fn id_token(&self, grant: &Grant, access_token: &str) -> Result<String, String> {
        let now = self.now();
        // OpenID Connect Core 3.1.3.6: `at_hash` is the left half of the hash.
        let half = Sha256::digest(access_token).iter().copied().take(16).collect::<Vec<_>>();
        let mut claims = json!({
            "iss": self.issuer(), "sub": grant.user, "aud": grant.client, "iat": now, "exp": now + 3600,
            "auth_time": grant.login_time, "at_hash": URL_SAFE_NO_PAD.encode(half),
        });
        if let (Some(nonce), Some(members)) = (&grant.nonce, claims.as_object_mut()) {
            members.insert("nonce".into(), nonce.clone().into());
        }
        jwt(&*locked(&self.keys).signing_key()?, "JWT", &claims)
    }

    /// Makes an opaque token for these claims.
    pub(super) fn issue_opaque_token(&self, claims: Value) -> Result<String, String> {
        let token = random()?;
        let mut state = locked(&self.state);
        let now = self.now();
        state.opaque.retain(|_, claims| claims.get("exp").and_then(Value::as_u64).is_some_and(|exp| exp > now));
        if let Value::Object(claims) = claims {
            state.opaque.insert(token.clone(), claims);
        }
        Ok(token)
    }

    /// The claims of an access token of this provider if it is valid now.
    pub(super) fn verify_access_token(&self, token: &str) -> Option<Map<String, Value>> {
        let claims = match locked(&self.state).opaque.get(token).cloned() {
            Some(claims) => claims,
            None => self.open_own_jwt(token)?,
        };
        let now = self.now();
        let time = |name: &str| claims.get(name).and_then(Value::as_u64);
        let valid_now = time("exp").is_some_and(|exp| now < exp) && time("nbf").is_none_or(|nbf| nbf <= now);
        let own_issuer = claims.get("iss").and_then(Value::as_str) == Some(self.issuer());
        // Only access tokens have a scope; an ID token is not accepted here.
        let is_access_token = claims.contains_key("scope") && !claims.contains_key("at_hash");
        let revoked = locked(&self.state).revoked.contains(token);
        (valid_now && own_issuer && is_access_token && !revoked).then_some(claims)
    }

    fn open_own_jwt(&self, token: &str) -> Option<Map<String, Value>> {
        crate::jwks::verify(token, &self.jwks()).ok()
    }
}
