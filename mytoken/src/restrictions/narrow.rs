// SPDX-License-Identifier: MIT OR Apache-2.0
//! Child clauses made from the parent's clauses: the server drops silently what does not fit, and then gives the parent's (MT-18).

use std::cmp::Reverse;

use super::{Clause, hosts};
use crate::InputError;
use mytoken_wire::printable;

/// The clauses of a child of `parent` that allow what `wanted` asks for, and never more than `parent`.
///
/// What a wanted clause leaves out is inherited. Times and numbers of uses are clipped to the parent's; countries that the parent
/// forbids stay forbidden. Scopes, audiences, hosts and countries are never cut silently: when no clause of the parent holds all of
/// them the answer is an error that names one. Of several fitting clauses of the parent, the one that clips least is used.
///
/// # Errors
/// [`InputError::NotNarrower`] with the part that does not fit.
pub fn narrow(parent: &[Clause], wanted: &[Clause]) -> Result<Vec<Clause>, InputError> {
    let open = [Clause::default()];
    let bounds = if parent.is_empty() { &open } else { parent };
    if wanted.is_empty() {
        return Ok(parent.iter().map(Clause::without_counters).collect());
    }
    let mut left: Vec<(Option<i64>, Option<i64>)> = bounds.iter().map(|c| (c.usages_at, c.usages_other)).collect();
    let mut children = Vec::with_capacity(wanted.len());
    for clause in wanted {
        let mut reasons = Vec::new();
        let mut fitting = Vec::new();
        for bound in bounds {
            match inherit(bound, clause) {
                Ok(child) => fitting.push(child),
                Err(reason) => reasons.push(reason),
            }
        }
        // A stable sort: among equals the server's order decides.
        fitting.sort_by_key(|child| Reverse(reach(child)));
        let Some(child) = fitting.into_iter().next() else {
            return Err(InputError::NotNarrower { reason: explain(&reasons) });
        };
        // Within one request the server limits the sum over the clauses (MT-19): what exceeds it would be dropped.
        let mut shares = bounds.iter().zip(&mut left).filter(|(bound, _)| child.is_within(bound));
        if !shares.any(|(_, left)| take(left, &child)) {
            return Err(InputError::NotNarrower {
                reason: "its number of uses is not enough for all clauses; give each clause its share of usages_AT and usages_other"
                    .to_owned(),
            });
        }
        children.push(child);
    }
    Ok(children)
}

/// `wanted` within the single clause `bound`, or why not.
fn inherit(bound: &Clause, wanted: &Clause) -> Result<Clause, String> {
    let scopes: Vec<&str> = wanted.scopes().collect();
    let limit: Vec<&str> = bound.scopes().collect();
    let scope = pick("scope", &scopes, &limit, |limit, own| limit == own)?.join(" ");
    let equal = |limit: &String, own: &String| limit == own;
    let audience = pick("audience", &wanted.audience, &bound.audience, equal)?;
    let hosts = pick("host", &wanted.hosts, &bound.hosts, |limit, own| hosts::covers(limit, own))?;
    let geoip_allow = pick("country", &wanted.geoip_allow, &bound.geoip_allow, equal)?;
    let mut geoip_disallow = wanted.geoip_disallow.clone();
    geoip_disallow.extend(bound.geoip_disallow.iter().filter(|code| !wanted.geoip_disallow.contains(code)).cloned());
    let mut unknown = wanted.unknown.clone();
    for (key, value) in &bound.unknown {
        // Which of two values is tighter only somebody who knows the member could say.
        if unknown.insert(key.clone(), value.clone()).is_some_and(|wanted| wanted != *value) {
            return Err(format!("restriction {}", shown(key)));
        }
    }
    let (nbf, exp) = (wanted.nbf.max(bound.nbf), least(wanted.exp, bound.exp));
    if nbf.zip(exp).is_some_and(|(nbf, exp)| nbf > exp) {
        return Err("it is not valid in the wanted time".to_owned());
    }
    Ok(Clause {
        nbf,
        exp,
        scope,
        audience,
        hosts,
        geoip_allow,
        geoip_disallow,
        usages_at: least(wanted.usages_at, bound.usages_at),
        usages_other: least(wanted.usages_other, bound.usages_other),
        usages_at_done: None,
        usages_other_done: None,
        unknown,
    })
}

/// The wanted entries when all of them are within the bound, the bound's when none is wanted.
fn pick<T: Clone + AsRef<str>>(
    what: &str,
    wanted: &[T],
    bound: &[T],
    covers: impl Fn(&T, &T) -> bool,
) -> Result<Vec<T>, String> {
    if wanted.is_empty() {
        return Ok(bound.to_vec());
    }
    match wanted.iter().find(|own| !bound.is_empty() && !bound.iter().any(|bound| covers(bound, own))) {
        Some(own) => Err(format!("{what} {}", shown(own.as_ref()))),
        None => Ok(wanted.to_vec()),
    }
}

/// One clause: its reason. Several: the first entry that is named, since each clause refuses for its own reason.
fn explain(reasons: &[String]) -> String {
    let named = reasons.iter().find(|reason| !reason.starts_with("it is"));
    match (named, reasons.first()) {
        (Some(entry), _) if reasons.iter().all(|reason| reason == entry) => {
            format!("{entry} is not in any clause of the parent")
        }
        (Some(entry), _) => format!("no single clause of the parent holds all of it ({entry} is missing in one)"),
        (None, Some(reason)) => reason.clone(),
        (None, None) => "the parent allows nothing".to_owned(),
    }
}

/// How much a clipped clause still allows: until when, from when, how many times.
fn reach(clause: &Clause) -> (u64, Reverse<u64>, i64, i64) {
    (
        clause.exp.unwrap_or(u64::MAX),
        Reverse(clause.nbf.unwrap_or(0)),
        clause.usages_at.unwrap_or(i64::MAX),
        clause.usages_other.unwrap_or(i64::MAX),
    )
}

/// Takes the child's uses from what a clause of the parent has left, if that is enough.
fn take(left: &mut (Option<i64>, Option<i64>), child: &Clause) -> bool {
    let rest = |left: Option<i64>, used: Option<i64>| match (left, used) {
        (Some(left), Some(used)) => Some(left.saturating_sub(used.max(0))),
        (left, _) => left,
    };
    let after = (rest(left.0, child.usages_at), rest(left.1, child.usages_other));
    let enough = [after.0, after.1].into_iter().flatten().all(|rest| rest >= 0);
    if enough {
        *left = after;
    }
    enough
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// An entry of a list in an error text.
fn shown(entry: &str) -> String {
    printable(entry, 80)
}
