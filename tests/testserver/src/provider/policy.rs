// SPDX-License-Identifier: MIT OR Apache-2.0
//! Set-up of the provider, and the part of it that can be changed at run time.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::keys::Algorithm;
use super::users::Users;

/// Set-up of a provider.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Issuer URL without a trailing slash.
    pub issuer: String,
    /// Folder for the keys; without one, new keys are made at each start.
    pub folder: Option<PathBuf>,
    /// The registered clients. The first one is the mytoken server.
    pub clients: Vec<Client>,
    /// Users with a profile; any other name can log in too.
    pub users: Users,
    /// Settings that can be changed at run time.
    pub policy: Policy,
}

/// A client of the provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Client id.
    pub id: String,
    /// Its secret. A public client has none and needs PKCE.
    #[serde(default)]
    pub secret: Option<String>,
    /// Its public keys (a JWKS) for `private_key_jwt`, instead of a secret.
    #[serde(default)]
    pub jwks: Option<Value>,
    /// The redirect URIs that it may use, compared byte for byte.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
}

/// Settings that can be changed at run time. The defaults are those of the captures' provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Scopes, in the order of the configuration of the mytoken server.
    pub scopes: Vec<String>,
    /// Lifetime of an access token in seconds.
    pub lifetime: u64,
    /// Signature algorithm of new tokens.
    pub algorithm: Algorithm,
    /// `typ` header of access tokens: `JWT`, or `at+jwt` (RFC 9068).
    pub typ: String,
    /// Whether access tokens are random strings instead of JWTs.
    pub opaque: bool,
    /// Whether access tokens contain the user's claims that their scope permits; otherwise only userinfo does.
    pub claims_in_access_token: bool,
    /// The claim with the audience of access tokens: `aud`, or `resource` as at some providers.
    pub audience_claim: String,
    /// Audience of access tokens of a login without a `resource`.
    pub default_audience: String,
    /// Resources that a refresh may request even if the login did not; `*` permits all.
    pub extra_resources: Vec<String>,
    /// Claims that all access tokens have in addition, for example `wlcg.ver` of the WLCG token profile.
    pub extra_claims: Map<String, Value>,
}

impl Default for Policy {
    fn default() -> Self {
        let scopes = "openid offline_access profile email eduperson_entitlement compute.read compute.write storage.read storage.write";
        Self {
            scopes: scopes.split(' ').map(str::to_owned).collect(),
            lifetime: 3600,
            algorithm: Algorithm::Rs256,
            typ: "JWT".into(),
            opaque: false,
            claims_in_access_token: true,
            audience_claim: "aud".into(),
            default_audience: "https://default.example.org".into(),
            extra_resources: Vec::new(),
            extra_claims: Map::new(),
        }
    }
}

impl Policy {
    /// The policy with some members replaced.
    ///
    /// # Errors
    /// Unknown members or values of the wrong type.
    pub fn with_changes(&self, change: &Value) -> Result<Self, String> {
        let mut members = serde_json::to_value(self).map_err(|error| error.to_string())?;
        match (members.as_object_mut(), change.as_object()) {
            (Some(members), Some(change)) => members.extend(change.clone()),
            _ => return Err("the policy must be an object".into()),
        }
        serde_json::from_value(members).map_err(|error| error.to_string())
    }

    pub(super) fn permits_at_refresh(&self, resource: &str) -> bool {
        self.extra_resources.iter().any(|extra| extra == "*" || extra == resource)
    }
}
