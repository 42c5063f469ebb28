// SPDX-License-Identifier: MIT OR Apache-2.0
//! Users and their claims.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Claims by user name. The subject is always the name.
#[derive(Debug, Clone, Default)]
pub struct Users(BTreeMap<String, Map<String, Value>>);

/// Claims that need a scope of their own. All other claims need the scope `profile`.
const SCOPED: &[(&str, &[&str])] =
    &[("email", &["email", "email_verified"]), ("eduperson_entitlement", &["eduperson_entitlement", "entitlements"])];

/// Claims about the login instead of the person. They are always included.
const ALWAYS: &[&str] = &["acr", "amr"];

impl Users {
    /// Reads `{"alice": {"email": ..., "groups": [...]}}` as JSON, or as TOML if the file's name ends with `.toml`.
    ///
    /// # Errors
    /// The file cannot be read or is not of that form.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |reason: String| format!("{}: {reason}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let users = if path.extension().is_some_and(|extension| extension == "toml") {
            toml::from_str(&text).map_err(|error| named(error.to_string()))?
        } else {
            serde_json::from_str(&text).map_err(|error| named(error.to_string()))?
        };
        Ok(Self(users))
    }

    /// Users from a JSON value.
    ///
    /// # Errors
    /// The value is not an object of objects.
    pub fn from_json(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map(Self).map_err(|error| error.to_string())
    }

    /// The claims of a user in a token, or in userinfo, with these scopes.
    #[must_use]
    pub fn claims(&self, user: &str, scopes: &[String]) -> Map<String, Value> {
        let unknown = json!({"preferred_username": user});
        let profile = self.0.get(user).or(unknown.as_object());
        let mut claims: Map<String, Value> = profile
            .into_iter()
            .flatten()
            .filter(|(claim, _)| {
                let needed =
                    SCOPED.iter().find(|(_, claims)| claims.contains(&claim.as_str())).map_or("profile", |(s, _)| s);
                ALWAYS.contains(&claim.as_str()) || scopes.iter().any(|scope| scope == needed)
            })
            .map(|(claim, value)| (claim.clone(), value.clone()))
            .collect();
        claims.insert("sub".into(), user.into());
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_releases_only_its_claims() {
        let users = Users::from_json(json!({"alice": {
            "sub": "somebody else", "email": "a@example.org", "entitlements": ["urn:x"], "groups": ["hpc"], "acr": "mfa"
        }}))
        .unwrap();
        let claims = |scopes: &[&str]| {
            let scopes: Vec<_> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            Value::Object(users.claims("alice", &scopes))
        };
        assert_eq!(claims(&["storage.read"]), json!({"sub": "alice", "acr": "mfa"}));
        assert_eq!(claims(&["email"]), json!({"sub": "alice", "acr": "mfa", "email": "a@example.org"}));
        assert_eq!(claims(&["profile"]), json!({"sub": "alice", "acr": "mfa", "groups": ["hpc"]}));
        assert_eq!(
            claims(&["eduperson_entitlement"]),
            json!({"sub": "alice", "acr": "mfa", "entitlements": ["urn:x"]})
        );
    }
}
