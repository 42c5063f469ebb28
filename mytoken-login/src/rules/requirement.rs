// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a rule requires of an identity beyond its account.

use crate::identity::Identity;
use crate::oidc::string_list;

/// A requirement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// A group.
    Group(String),
    /// An entitlement.
    Entitlement(String),
    /// A scope of the access token.
    Scope(String),
    /// An authentication context class (OpenID Connect Core 2, `acr`): one of these.
    Acr(Vec<String>),
}

/// Claims with entitlements (RFC 9068 2.2.3.1, and the older name).
const ENTITLEMENT_CLAIMS: [&str; 2] = ["entitlements", "eduperson_entitlement"];

impl Requirement {
    /// Whether the identity meets it. Values are compared byte for byte.
    #[must_use]
    pub fn is_met_by(&self, identity: &Identity) -> bool {
        let has = |claim, value: &String| string_list(&identity.claims, claim).contains(&value.as_str());
        match self {
            Self::Group(name) => has("groups", name),
            Self::Entitlement(name) => ENTITLEMENT_CLAIMS.into_iter().any(|claim| has(claim, name)),
            Self::Scope(name) => identity.scopes.contains(name),
            Self::Acr(accepted) => accepted.iter().any(|value| has("acr", value)),
        }
    }

    /// The claims that it reads. One of them is enough. Empty: it reads scopes.
    #[must_use]
    pub fn claims(&self) -> Vec<&str> {
        match self {
            Self::Group(_) => vec!["groups"],
            Self::Entitlement(_) => ENTITLEMENT_CLAIMS.to_vec(),
            Self::Scope(_) => Vec::new(),
            Self::Acr(_) => vec!["acr"],
        }
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group {name}"),
            Self::Entitlement(name) => write!(f, "entitlement {name}"),
            Self::Scope(name) => write!(f, "scope {name}"),
            Self::Acr(accepted) => write!(f, "acr {}", accepted.join(" or ")),
        }
    }
}
