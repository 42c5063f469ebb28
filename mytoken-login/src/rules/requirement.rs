// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a rule requires of an identity beyond its account.

use serde_json::Value;

use super::aarc::{AarcEntitlement, AarcForm};
use super::assurance::AssuranceExpression;
use super::claim_path::ClaimPath;
use super::values::{Skipped, texts, words};
use crate::identity::Identity;

/// A requirement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// A group.
    Group {
        /// Its name.
        name: String,
        /// The claims that may have it.
        claims: Vec<ClaimPath>,
    },
    /// An entitlement, byte for byte.
    Entitlement(String),
    /// An entitlement of the AARC guidelines, compared by the subset rule.
    AarcEntitlement {
        /// As in the configuration.
        text: String,
        /// How it and those of the token are read.
        form: AarcForm,
        /// The same, taken apart.
        required: AarcEntitlement,
    },
    /// A scope of the access token.
    Scope(String),
    /// An authentication context class (OpenID Connect Core 2, `acr`): one of these.
    Acr(Vec<String>),
    /// A claim with a certain value. A list has it when one of its entries has.
    Claim {
        /// Where it is.
        path: ClaimPath,
        /// Text, a whole number, or true or false.
        value: Value,
    },
    /// How well the provider knows the person (REFEDS Assurance Framework).
    Assurance {
        /// The values that are enough.
        expression: AssuranceExpression,
        /// The claims that may have them.
        claims: Vec<ClaimPath>,
    },
}

/// Claims with entitlements (RFC 9068 2.2.3.1, and the older name).
const ENTITLEMENT_CLAIMS: [&str; 2] = ["entitlements", "eduperson_entitlement"];

impl Requirement {
    /// Whether the identity meets it. Values are compared byte for byte.
    pub(super) fn is_met_by(&self, identity: &Identity, skipped: &mut Skipped) -> bool {
        match self {
            Self::Group { name, claims } => texts(identity, claims, skipped).contains(&name.as_str()),
            Self::Entitlement(name) => entitlements(identity, skipped).contains(&name.as_str()),
            Self::AarcEntitlement { form, required, .. } => {
                let mut met = false;
                for text in entitlements(identity, skipped) {
                    match AarcEntitlement::parse(text, *form) {
                        Ok(held) => met |= held.satisfies(required),
                        Err(fault) => skipped.add(format!("entitlement \"{text}\": {fault} ({form})")),
                    }
                }
                met
            }
            Self::Scope(name) => identity.scopes.contains(name),
            Self::Acr(accepted) => {
                let held = texts(identity, &[ClaimPath::named("acr")], skipped);
                accepted.iter().any(|value| held.contains(&value.as_str()))
            }
            Self::Claim { path, value } => {
                path.find(&identity.claims).is_some_and(|found| is_value(path, found, value))
            }
            Self::Assurance { expression, claims } => expression.is_met_by(&words(identity, claims, skipped)),
        }
    }

    /// Whether it asks how the person has authenticated this time. Groups do not, nor does how well the provider knows the person: for these
    /// a stolen password is enough. Which other values stand for more than a password, the provider says.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        match self {
            // By OpenID Connect Core, section 2, "0" is no level at all.
            Self::Acr(accepted) => accepted.iter().all(|value| value != "0"),
            Self::Claim { path, value } => {
                (path.is("acr") && *value != "0" && *value != 0) || (path.is("amr") && *value != "pwd")
            }
            Self::Group { .. }
            | Self::Entitlement(_)
            | Self::AarcEntitlement { .. }
            | Self::Scope(_)
            | Self::Assurance { .. } => false,
        }
    }

    /// The claims that it reads. One of them is enough. Empty: it reads scopes.
    #[must_use]
    pub fn claims(&self) -> Vec<&str> {
        match self {
            Self::Group { claims, .. } | Self::Assurance { claims, .. } => {
                claims.iter().map(ClaimPath::claim).collect()
            }
            Self::Entitlement(_) | Self::AarcEntitlement { .. } => ENTITLEMENT_CLAIMS.to_vec(),
            Self::Scope(_) => Vec::new(),
            Self::Acr(_) => vec!["acr"],
            Self::Claim { path, .. } => vec![path.claim()],
        }
    }
}

fn entitlements<'a>(identity: &'a Identity, skipped: &mut Skipped) -> Vec<&'a str> {
    texts(identity, &ENTITLEMENT_CLAIMS.map(ClaimPath::named), skipped)
}

/// Whether a claim has a value of the same type. Some providers send `email_verified` as text.
fn is_value(path: &ClaimPath, found: &Value, value: &Value) -> bool {
    match (found, value) {
        (Value::Array(entries), _) => entries.contains(value),
        (Value::String(text), Value::Bool(required)) if path.is("email_verified") => *text == required.to_string(),
        _ => found == value,
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group { name, .. } => write!(f, "group {name}"),
            Self::Entitlement(text) | Self::AarcEntitlement { text, .. } => write!(f, "entitlement {text}"),
            Self::Scope(name) => write!(f, "scope {name}"),
            Self::Acr(accepted) => write!(f, "acr {}", accepted.join(" or ")),
            Self::Claim { path, value } => write!(f, "claim {path} = {value}"),
            Self::Assurance { expression, .. } => write!(f, "assurance {expression}"),
        }
    }
}
