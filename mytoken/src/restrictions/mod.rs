// SPDX-License-Identifier: MIT OR Apache-2.0
//! The restrictions of a mytoken: a list of clauses. A use is allowed if all bounds of one clause allow it (MT-15).
//!
//! A mytoken without clauses, or with a clause without bounds, is unrestricted.

pub mod hosts;
mod login;
mod narrow;
mod shares;
mod uses;
mod within;

use crate::InputError;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use narrow::narrow;
pub use uses::Uses;
pub use within::within;

/// One clause. An absent or empty member is not a bound. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clause {
    /// Begin of validity.
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// End of validity, inclusive.
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Allowed scopes of access tokens, separated by blanks.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Allowed audiences of access tokens.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    /// Addresses, networks (CIDR) and names from which the token may be used. In a request `this` means the requester's address.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Countries from which it may be used.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub geoip_allow: Vec<String>,
    /// Countries from which it may not be used.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub geoip_disallow: Vec<String>,
    /// Number of access tokens. It is not a hard limit: simultaneous uses can exceed it (MT-16).
    #[serde(default, rename = "usages_AT", skip_serializing_if = "Option::is_none")]
    pub usages_at: Option<i64>,
    /// Number of other uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usages_other: Option<i64>,
    /// In introspection: number of access tokens that used this clause. Never sent.
    #[serde(default, rename = "usages_AT_done", skip_serializing)]
    pub usages_at_done: Option<i64>,
    /// In introspection: number of other uses of this clause. Never sent.
    #[serde(default, skip_serializing)]
    pub usages_other_done: Option<i64>,
    /// Bounds that this version does not know. A use must satisfy all bounds of a clause, so an unknown bound can only restrict further.
    /// Unknown bounds are kept, copied to children, and ignored when an answer is compared with the request.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Value>,
}

impl Clause {
    /// Reads a clause that a person wrote (configuration, command line). Unknown members are refused: the server would silently drop them
    /// (MT-20), and the token would be broader than intended.
    ///
    /// # Errors
    /// [`InputError::Malformed`], with the unknown member or the mistake.
    pub fn parse_strict(text: &str) -> Result<Self, InputError> {
        let malformed = |reason: String| InputError::Malformed { what: "the restriction".to_owned(), reason };
        let clause: Self = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        match clause.unknown.keys().next() {
            Some(key) => Err(malformed(format!("there is no restriction called {key:?}"))),
            None if clause.usages_at_done.is_some() || clause.usages_other_done.is_some() => {
                Err(malformed("the counters of uses cannot be set".to_owned()))
            }
            None => Ok(clause),
        }
    }

    /// The scopes one by one.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.split_ascii_whitespace()
    }

    /// Whether the clause has no bounds.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.without_counters() == Self::default()
    }

    /// The clause without the counters that introspection adds, ready to be sent.
    #[must_use]
    pub fn without_counters(&self) -> Self {
        Self { usages_at_done: None, usages_other_done: None, ..self.clone() }
    }

    /// The names on the wire of the members that are set, for a comparison with `restriction_claims_supported`.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let known = [
            ("nbf", self.nbf.is_some()),
            ("exp", self.exp.is_some()),
            ("scope", self.scopes().next().is_some()),
            ("audience", !self.audience.is_empty()),
            ("hosts", !self.hosts.is_empty()),
            ("geoip_allow", !self.geoip_allow.is_empty()),
            ("geoip_disallow", !self.geoip_disallow.is_empty()),
            ("usages_AT", self.usages_at.is_some()),
            ("usages_other", self.usages_other.is_some()),
        ];
        let unknown = self.unknown.keys().map(String::as_str);
        known.into_iter().filter_map(|(key, set)| set.then_some(key)).chain(unknown).collect()
    }

    /// Whether the clause allows, at `now`, an access token with these scopes and audiences (separated by blanks; empty: none requested).
    /// Hosts and countries are not checked; only the server can do that.
    #[must_use]
    pub fn allows(&self, scope: &str, audience: &str, now: u64) -> bool {
        let used_up = self.usages_at.is_some_and(|limit| self.usages_at_done.unwrap_or(0) >= limit);
        let scope_bound = self.scopes().next().is_some();
        !used_up
            && self.nbf.is_none_or(|nbf| nbf <= now)
            && self.exp.is_none_or(|exp| now <= exp)
            && (!scope_bound || scope.split_ascii_whitespace().all(|wanted| self.scopes().any(|scope| scope == wanted)))
            && (self.audience.is_empty()
                || audience.split_ascii_whitespace().all(|wanted| self.audience.iter().any(|owned| owned == wanted)))
    }
}

/// The clause whose use the server would count for such an access token: the first clause that allows it. `Some(None)` if there are no
/// clauses, `None` if no clause allows it.
#[must_use]
pub fn select<'a>(clauses: &'a [Clause], scope: &str, audience: &str, now: u64) -> Option<Option<&'a Clause>> {
    if clauses.is_empty() {
        return Some(None);
    }
    clauses.iter().find(|clause| clause.allows(scope, audience, now)).map(Some)
}

/// The latest `exp` of all clauses; `None` if the clauses do not let the token expire.
#[must_use]
pub fn latest_exp(clauses: &[Clause]) -> Option<u64> {
    clauses.iter().map(|clause| clause.exp).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Reads a time. 0 means absent, as for the server (MT-25).
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.filter(|time| *time != 0))
}

/// Reads `null` as the empty value.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
