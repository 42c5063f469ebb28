// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares clauses: whether one is at least as tight as another.

use super::{Clause, hosts};

/// Whether `bound` allows everything that `child` allows: each clause of `child` is within one clause of `bound`. An empty list is the same
/// as one clause without bounds. Numbers of uses are compared clause by clause, not as sums.
#[must_use]
pub fn within(child: &[Clause], bound: &[Clause]) -> bool {
    let open = [Clause::default()];
    let child = if child.is_empty() { &open } else { child };
    let bound = if bound.is_empty() { &open } else { bound };
    child.iter().all(|clause| bound.iter().any(|bound| clause.is_within(bound)))
}

impl Clause {
    /// Whether every member of this clause is at least as tight as in `bound`.
    #[must_use]
    pub fn is_within(&self, bound: &Clause) -> bool {
        self.broader_in(bound).is_empty()
    }

    /// The members in which this clause is broader than `bound`, by their names on the wire.
    #[must_use]
    pub fn broader_in(&self, bound: &Clause) -> Vec<&'static str> {
        let own: Vec<&str> = self.scopes().collect();
        let limit: Vec<&str> = bound.scopes().collect();
        let members = [
            ("nbf", self.nbf.unwrap_or(0) >= bound.nbf.unwrap_or(0)),
            ("exp", at_most(self.exp, bound.exp)),
            ("scope", subset(&own, &limit, |limit, own| limit == own)),
            ("audience", subset(&self.audience, &bound.audience, |limit, own| limit == own)),
            ("hosts", subset(&self.hosts, &bound.hosts, |limit, own| hosts::covers(limit, own))),
            ("geoip_allow", subset(&self.geoip_allow, &bound.geoip_allow, |limit, own| limit == own)),
            ("geoip_disallow", bound.geoip_disallow.iter().all(|country| self.geoip_disallow.contains(country))),
            ("usages_AT", at_most(self.usages_at, bound.usages_at)),
            ("usages_other", at_most(self.usages_other, bound.usages_other)),
            ("unknown members", bound.unknown.iter().all(|(key, value)| self.unknown.get(key) == Some(value))),
        ];
        members.into_iter().filter_map(|(name, tight)| (!tight).then_some(name)).collect()
    }
}

fn at_most<T: Ord>(own: Option<T>, bound: Option<T>) -> bool {
    match (own, bound) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(bound)) => own <= bound,
    }
}

/// Whether `own` is a non-empty subset of `bound`, or there is no bound.
fn subset<T>(own: &[T], bound: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    bound.is_empty() || (!own.is_empty() && own.iter().all(|own| bound.iter().any(|bound| covers(bound, own))))
}
