// SPDX-License-Identifier: MIT OR Apache-2.0
//! The restrictions of a child (MT-18).

use std::collections::HashSet;

use crate::mytoken::model::clauses::{Clause, bound};
use crate::mytoken::model::hosts;

/// The clauses of the child. A requested clause that no clause of the parent covers is dropped silently. If all are
/// dropped, the child gets the parent's clauses.
#[must_use]
pub fn tighten(parent: &[Clause], wanted: &[Clause]) -> Vec<Clause> {
    if parent.is_empty() {
        return wanted.to_vec();
    }
    // Each granted clause reduces the uses of the parent's clause: within one request their sum is limited (MT-19).
    let mut left = parent.to_vec();
    let mut given = Vec::new();
    for clause in wanted {
        if let Some(from) = left.iter_mut().find(|from| fits(clause, from)) {
            subtract(&mut from.usages_at, clause.usages_at);
            subtract(&mut from.usages_other, clause.usages_other);
            given.push(clause.clone());
        }
    }
    if given.is_empty() { parent.to_vec() } else { given }
}

/// Whether all requested clauses were granted.
#[must_use]
pub fn grants_all(parent: &[Clause], wanted: &[Clause]) -> bool {
    wanted.is_empty() || tighten(parent, wanted) == wanted
}

fn subtract(left: &mut Option<i64>, used: Option<i64>) {
    if let (Some(left), Some(used)) = (left, used) {
        *left = left.saturating_sub(used);
    }
}

fn fits(wanted: &Clause, parent: &Clause) -> bool {
    let exp = parent.exp == 0 || (wanted.exp != 0 && wanted.exp <= parent.exp);
    wanted.nbf >= parent.nbf
        && exp
        && scope_fits(&wanted.scope, &parent.scope)
        && subset(&wanted.audience, &parent.audience, |wanted, parent| wanted.iter().all(|one| parent.contains(one)))
        && subset(&wanted.hosts, &parent.hosts, hosts::within)
        && subset(&wanted.geoip_allow, &parent.geoip_allow, |wanted, parent| {
            wanted.iter().all(|one| parent.contains(one))
        })
        && bound(&parent.geoip_disallow).is_none_or(|parent| {
            parent.iter().all(|one| bound(&wanted.geoip_disallow).is_some_and(|w| w.contains(one)))
        })
        && uses_fit(wanted.usages_at, parent.usages_at)
        && uses_fit(wanted.usages_other, parent.usages_other)
}

fn scope_fits(wanted: &str, parent: &str) -> bool {
    let bound: HashSet<&str> = parent.split_whitespace().collect();
    let mut asked = wanted.split_whitespace().peekable();
    bound.is_empty() || (asked.peek().is_some() && asked.all(|one| bound.contains(one)))
}

fn subset(
    wanted: &Option<Vec<String>>,
    parent: &Option<Vec<String>>,
    within: impl Fn(&[String], &[String]) -> bool,
) -> bool {
    bound(parent).is_none_or(|parent| bound(wanted).is_some_and(|wanted| within(wanted, parent)))
}

fn uses_fit(wanted: Option<i64>, parent: Option<i64>) -> bool {
    parent.is_none_or(|limit| wanted.is_some_and(|wanted| wanted <= limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(parent: &Value, wanted: &Value, expected: &Value) {
        let parse = |value: &Value| serde_json::from_value::<Vec<Clause>>(value.clone()).unwrap();
        assert_eq!(&json!(tighten(&parse(parent), &parse(wanted))), expected, "{parent} {wanted}");
    }

    #[test]
    fn a_child_gets_only_clauses_that_fit_its_parents() {
        check(&json!([]), &json!([{"exp": 100}]), &json!([{"exp": 100}]));
        check(&json!([{"exp": 100}]), &json!([]), &json!([{"exp": 100}]));
        check(&json!([{"exp": 100}]), &json!([{"exp": 50}]), &json!([{"exp": 50}]));
        check(&json!([{"exp": 100}]), &json!([{"exp": 200}]), &json!([{"exp": 100}]));
        check(&json!([{"exp": 100}]), &json!([{"scope": "a"}]), &json!([{"exp": 100}]));
        check(&json!([{"exp": 100}]), &json!([{"exp": 100, "scope": "a"}]), &json!([{"exp": 100, "scope": "a"}]));
        check(
            &json!([{"exp": 100, "scope": "a b"}]),
            &json!([{"exp": 90, "scope": "a"}, {"exp": 90, "scope": "c"}]),
            &json!([{"exp": 90, "scope": "a"}]),
        );
        check(
            &json!([{"usages_AT": 5}]),
            &json!([{"usages_AT": 3, "scope": "a"}, {"usages_AT": 3, "scope": "b"}]),
            &json!([{"scope": "a", "usages_AT": 3}]),
        );
        check(&json!([{"usages_AT": 5}]), &json!([{"usages_AT": 5}]), &json!([{"usages_AT": 5}]));
        check(
            &json!([{"hosts": ["10.0.0.0/8"]}]),
            &json!([{"hosts": ["10.1.0.0/16"]}]),
            &json!([{"hosts": ["10.1.0.0/16"]}]),
        );
        check(&json!([{"nbf": 10}]), &json!([{"exp": 50}]), &json!([{"nbf": 10}]));
    }

    #[test]
    fn a_child_must_repeat_the_lists_of_its_parent() {
        check(&json!([{"audience": ["a", "b"]}]), &json!([{"audience": ["b"]}]), &json!([{"audience": ["b"]}]));
        check(&json!([{"audience": ["a"]}]), &json!([{"exp": 5}]), &json!([{"audience": ["a"]}]));
        check(&json!([{"audience": ["a"]}]), &json!([{"audience": []}]), &json!([{"audience": ["a"]}]));
        check(
            &json!([{"geoip_disallow": ["DE"]}]),
            &json!([{"geoip_disallow": ["DE", "FR"]}]),
            &json!([{"geoip_disallow": ["DE", "FR"]}]),
        );
        check(&json!([{"geoip_disallow": ["DE"]}]), &json!([{"exp": 5}]), &json!([{"geoip_disallow": ["DE"]}]));
    }
}
