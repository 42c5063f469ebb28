// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restriction clauses (MT-15, MT-20, MT-26): their members, the clause that is charged for a use, and how a login
//! changes them.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mytoken::model::hosts;

/// One alternative of a token's restrictions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// First second of its validity, Unix seconds; 0 if absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nbf: i64,
    /// Last second of its validity, Unix seconds; 0 if absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub exp: i64,
    /// Allowed scopes, blank-separated, kept as written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Allowed audiences. An empty list sets no limit, but a clause with it is not dropped as empty.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub audience: Option<Vec<String>>,
    /// Allowed client addresses.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub hosts: Option<Vec<String>>,
    /// Allowed countries.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub geoip_allow: Option<Vec<String>>,
    /// Forbidden countries.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub geoip_disallow: Option<Vec<String>>,
    /// Number of access tokens.
    #[serde(default, rename = "usages_AT", skip_serializing_if = "Option::is_none")]
    pub usages_at: Option<i64>,
    /// Number of other uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usages_other: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_blank(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// The entries of a list that sets a limit; an empty list sets none.
pub(crate) fn bound(list: &Option<Vec<String>>) -> Option<&[String]> {
    list.as_deref().filter(|entries| !entries.is_empty())
}

/// Uses of one clause so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UseCount {
    /// Access tokens.
    pub at: i64,
    /// All other counted uses.
    pub other: i64,
}

/// The use of a token that is checked against its clauses.
#[derive(Debug, Clone, Copy)]
pub enum Use<'a> {
    /// An access token with these scopes and audiences.
    AccessToken {
        /// Requested scopes, blank-separated.
        scope: &'a str,
        /// Requested audiences.
        audience: &'a [String],
    },
    /// Any other counted use.
    Other,
}

/// Why no clause was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoClause {
    /// No clause allows the use.
    Restricted,
    /// The original dereferences a nil pointer here (MT-17): a clause with `usages_other` and without
    /// `usages_AT` that has been used before.
    Panic,
}

impl Clause {
    /// Whether the clause has no member, so that it is dropped. An empty list counts as a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The key of the clause's counter: its JSON.
    #[must_use]
    pub fn key(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn is_valid_at(&self, now: i64) -> bool {
        now >= self.nbf && (self.exp == 0 || now <= self.exp)
    }

    fn admits_peer(&self, peer: IpAddr) -> bool {
        let country_allowed = bound(&self.geoip_allow).is_none();
        country_allowed && bound(&self.hosts).is_none_or(|entries| hosts::admits(entries, peer))
    }

    fn allows_use(&self, wanted: Use<'_>, used: Option<UseCount>, panics: bool) -> Result<bool, NoClause> {
        let done = used.unwrap_or_default();
        match wanted {
            Use::AccessToken { scope, audience } => {
                let scopes: HashSet<&str> = self.scope.split_whitespace().collect();
                let scope_fits = scopes.is_empty() || scope.split_whitespace().all(|one| scopes.contains(one));
                let audience_fits =
                    bound(&self.audience).is_none_or(|bound| audience.iter().all(|one| bound.contains(one)));
                let left = self.usages_at.is_none_or(|limit| done.at < limit);
                Ok(scope_fits && audience_fits && left)
            }
            Use::Other => {
                if panics && self.usages_other.is_some() && self.usages_at.is_none() && used.is_some() {
                    return Err(NoClause::Panic);
                }
                Ok(self.usages_other.is_none_or(|limit| done.other < limit))
            }
        }
    }
}

/// The first clause that allows the use; only this one is charged. `used` gives the counter of a clause, if it was
/// used before.
///
/// # Errors
/// No clause allows the use.
pub fn select<'a>(
    clauses: &'a [Clause],
    wanted: Use<'_>,
    now: i64,
    peer: IpAddr,
    panics: bool,
    used: impl Fn(&Clause) -> Option<UseCount>,
) -> Result<Option<&'a Clause>, NoClause> {
    if clauses.is_empty() {
        return Ok(None);
    }
    for clause in clauses {
        if clause.is_valid_at(now) && clause.admits_peer(peer) && clause.allows_use(wanted, used(clause), panics)? {
            return Ok(Some(clause));
        }
    }
    Err(NoClause::Restricted)
}

/// The claim `exp`: the latest of all clauses; absent (0) if there is a clause without one, or no clause.
#[must_use]
pub fn latest_exp(clauses: &[Clause]) -> i64 {
    if clauses.iter().any(|clause| clause.exp == 0) {
        return 0;
    }
    clauses.iter().map(|clause| clause.exp).max().unwrap_or(0)
}

/// The earliest `nbf` of all clauses; 0 if there is a clause without one, or no clause.
#[must_use]
pub fn earliest_nbf(clauses: &[Clause]) -> i64 {
    clauses.iter().map(|clause| clause.nbf).min().unwrap_or(0)
}

/// Removes equal clauses, as a login does.
#[must_use]
pub fn without_duplicates(clauses: Vec<Clause>) -> Vec<Clause> {
    let mut kept: Vec<Clause> = Vec::new();
    for clause in clauses {
        if !kept.contains(&clause) {
            kept.push(clause);
        }
    }
    kept
}

/// Limits the clauses to what the provider granted. A scope or audience of which nothing was granted becomes unlimited
/// as in the original (MT-28); without `widens` it stays as it is.
#[must_use]
pub fn limited_to_grant(
    clauses: &[Clause],
    scope: Option<&str>,
    audience: Option<&[String]>,
    widens: bool,
) -> Vec<Clause> {
    let mut adjusted = clauses.to_vec();
    for clause in &mut adjusted {
        if let (Some(scope), false) = (scope, clause.scope.is_empty()) {
            let given: HashSet<&str> = scope.split_whitespace().collect();
            let left: Vec<&str> = clause.scope.split_whitespace().filter(|one| given.contains(one)).collect();
            if widens || !left.is_empty() {
                clause.scope = left.join(" ");
            }
        }
        if let (Some(given), Some(asked)) = (audience, clause.audience.as_ref()) {
            let left: Vec<String> = asked.iter().filter(|one| given.contains(one)).cloned().collect();
            if widens || !left.is_empty() {
                clause.audience = Some(left);
            }
        }
    }
    adjusted.retain(|clause| !clause.is_empty());
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn clauses(value: serde_json::Value) -> Vec<Clause> {
        serde_json::from_value(value).unwrap()
    }

    fn at(scope: &str) -> Use<'_> {
        Use::AccessToken { scope, audience: &[] }
    }

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_first_clause_that_covers_the_whole_request_is_charged() {
        let list = clauses(json!([{"scope": "a", "usages_AT": 1}, {"scope": "a b"}]));
        let fresh = |_: &Clause| None;
        let first_used = |clause: &Clause| (clause.scope == "a").then_some(UseCount { at: 1, other: 0 });
        let picked = |wanted, used: &dyn Fn(&Clause) -> Option<UseCount>| {
            select(&list, wanted, 100, LOCALHOST, true, used).map(|clause| clause.unwrap().scope.clone())
        };
        assert_eq!(picked(at("a"), &fresh), Ok("a".into()));
        assert_eq!(picked(at("a"), &first_used), Ok("a b".into()));
        assert_eq!(picked(at("a b"), &fresh), Ok("a b".into()));
        assert_eq!(picked(at("c"), &fresh), Err(NoClause::Restricted));
        assert_eq!(picked(at(""), &fresh), Ok("a".into()));
        assert_eq!(picked(at(""), &first_used), Ok("a b".into()));
    }

    #[test]
    fn the_last_second_of_a_clause_is_included() {
        let list = clauses(json!([{"nbf": 10, "exp": 20}]));
        for (now, fits) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(select(&list, Use::Other, now, LOCALHOST, true, |_| None).is_ok(), fits, "{now}");
        }
    }

    #[test]
    fn usages_other_without_usages_at_panics_on_the_second_use() {
        let list = clauses(json!([{"usages_other": 3}]));
        let used = |_: &Clause| Some(UseCount { at: 0, other: 1 });
        assert_eq!(select(&list, Use::Other, 1, LOCALHOST, true, used).unwrap_err(), NoClause::Panic);
        assert!(select(&list, Use::Other, 1, LOCALHOST, false, used).is_ok());
    }

    #[test]
    fn an_empty_grant_removes_the_bound() {
        let list = clauses(json!([{"scope": "x", "exp": 5}, {"audience": ["a", "b"]}]));
        let after = limited_to_grant(&list, Some("openid"), Some(&["b".into()]), true);
        assert_eq!(json!(after), json!([{"exp": 5}, {"audience": ["b"]}]));
        assert_eq!(json!(limited_to_grant(&list, Some("openid"), None, false)), json!(list));
    }

    #[test]
    fn an_empty_list_is_kept_and_an_empty_clause_is_not() {
        let list = clauses(json!([{"audience": []}, {"scope": ""}]));
        assert!(!list[0].is_empty());
        assert!(list[1].is_empty());
        assert_eq!(list[0].key(), "{}");
    }

    #[test]
    fn exp_is_the_latest_and_nbf_the_earliest_of_all_clauses() {
        assert_eq!(latest_exp(&clauses(json!([{"exp": 5}, {"exp": 9}]))), 9);
        assert_eq!(latest_exp(&clauses(json!([{"exp": 5}, {"scope": "a"}]))), 0);
        assert_eq!(earliest_nbf(&clauses(json!([{"nbf": 5}, {"nbf": 9}]))), 5);
    }
}
