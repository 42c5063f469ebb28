// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a child's clauses from the parent's clauses. The server silently drops a clause that does not fit, and then gives the child
//! the parent's clauses (MT-18).

use std::cmp::Reverse;
use std::fmt;

use super::{Clause, hosts};
use crate::InputError;
use mytoken_wire::printable;

/// Why a wanted clause is not within a clause of the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Misfit {
    /// The parent's clause does not allow this entry.
    Entry {
        /// The kind of entry: `scope`, `audience`, `host`, `country` or `restriction`.
        kind: &'static str,
        entry: String,
    },
    /// The two clauses are never valid at the same time.
    Time,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { kind, entry } => write!(f, "{kind} {}", printable(entry, 80)),
            Self::Time => f.write_str("it is not valid in the wanted time"),
        }
    }
}

/// The clauses of a child of `parent` that allow what `wanted` asks for, and never more than `parent`.
///
/// A wanted clause inherits what it leaves out. Times and numbers of uses are clipped to the parent's; countries that the parent
/// forbids stay forbidden. Scopes, audiences, hosts and countries are never cut: if no clause of the parent allows all of them, the
/// error names one that is missing. If several clauses of the parent fit, the one that clips least is used.
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
        let mut misfits = Vec::new();
        let mut fitting = Vec::new();
        for bound in bounds {
            match inherit(bound, clause) {
                Ok(child) => fitting.push(child),
                Err(misfit) => misfits.push(misfit),
            }
        }
        // A stable sort: equal clauses stay in the server's order.
        fitting.sort_by_key(|child| Reverse(reach(child)));
        let Some(child) = fitting.into_iter().next() else {
            return Err(InputError::NotNarrower { reason: explain(&misfits) });
        };
        // The server limits the sum of the uses of all clauses in one request (MT-19). It drops a clause that exceeds the sum.
        let mut shares = bounds.iter().zip(&mut left).filter(|(bound, _)| child.is_within(bound));
        if !shares.any(|(_, left)| take(left, &child)) {
            return Err(InputError::NotNarrower {
                reason:
                    "it has too few uses for all wanted clauses; divide usages_AT and usages_other among the clauses"
                        .to_owned(),
            });
        }
        children.push(child);
    }
    Ok(children)
}

/// Narrows the single clause `bound` to `wanted`.
fn inherit(bound: &Clause, wanted: &Clause) -> Result<Clause, Misfit> {
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
        // Two values of an unknown member cannot be compared.
        if unknown.insert(key.clone(), value.clone()).is_some_and(|wanted| wanted != *value) {
            return Err(Misfit::Entry { kind: "restriction", entry: key.clone() });
        }
    }
    let (nbf, exp) = (wanted.nbf.max(bound.nbf), least(wanted.exp, bound.exp));
    if nbf.zip(exp).is_some_and(|(nbf, exp)| nbf > exp) {
        return Err(Misfit::Time);
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

/// The wanted entries if the bound allows all of them. If no entry is wanted, the bound's entries.
fn pick<T: Clone + AsRef<str>>(
    kind: &'static str,
    wanted: &[T],
    bound: &[T],
    covers: impl Fn(&T, &T) -> bool,
) -> Result<Vec<T>, Misfit> {
    if wanted.is_empty() {
        return Ok(bound.to_vec());
    }
    match wanted.iter().find(|own| !bound.is_empty() && !bound.iter().any(|bound| covers(bound, own))) {
        Some(own) => Err(Misfit::Entry { kind, entry: own.as_ref().to_owned() }),
        None => Ok(wanted.to_vec()),
    }
}

/// One sentence for the misfits with all clauses of the parent: the first missing entry if there is one.
fn explain(misfits: &[Misfit]) -> String {
    let missing = misfits.iter().find(|misfit| matches!(misfit, Misfit::Entry { .. }));
    match (missing, misfits.first()) {
        (Some(entry), _) if misfits.iter().all(|misfit| misfit == entry) => {
            format!("{entry} is not in any clause of the parent")
        }
        (Some(entry), _) => format!("no single clause of the parent allows all of it ({entry} is missing in one)"),
        (None, Some(misfit)) => misfit.to_string(),
        (None, None) => "the parent allows nothing".to_owned(),
    }
}

/// How much a clipped clause still allows: end, begin, number of uses.
fn reach(clause: &Clause) -> (u64, Reverse<u64>, i64, i64) {
    (
        clause.exp.unwrap_or(u64::MAX),
        Reverse(clause.nbf.unwrap_or(0)),
        clause.usages_at.unwrap_or(i64::MAX),
        clause.usages_other.unwrap_or(i64::MAX),
    )
}

/// Subtracts the child's uses from those that a clause of the parent has left, if there are enough.
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
