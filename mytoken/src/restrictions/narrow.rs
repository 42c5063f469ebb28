// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a child's clauses from the parent's clauses. The server silently drops a clause that does not fit, and then gives the child
//! the parent's clauses (MT-18).

use std::fmt;

use super::shares::{self, Share};
use super::uses::{Uses, least, uses_left};
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
    /// The two clauses are valid at the same time, but no longer.
    Past,
    /// All uses that the child needs are spent.
    Uses,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { kind, entry } => write!(f, "{kind} {}", printable(entry, 80)),
            Self::Time => f.write_str("it is not valid in the wanted time"),
            Self::Past => f.write_str("the mytoken has expired, or the requested end is in the past"),
            Self::Uses => f.write_str("its uses are spent"),
        }
    }
}

/// One wanted clause, narrowed to one clause of the parent.
#[derive(Debug, Clone)]
struct Candidate {
    clause: Clause,
    /// Index of the parent's clause.
    bound: usize,
    /// Index of the wanted clause.
    wanted: usize,
}

/// The clauses of a child of `parent` that allow, now and later, each access token that `parent` would give and `wanted` asks for, and
/// never more. `uses` says what the child is for, `now` is Unix seconds.
///
/// A wanted clause inherits what it leaves out. Times and numbers of uses are clipped to the parent's; countries that the parent
/// forbids stay forbidden. Scopes, audiences, hosts and countries are never cut: if no clause of the parent allows all of them, the
/// error names one that is missing. If several clauses of the parent fit, the child gets a clause from each of them, also from those
/// that begin later; clauses that have expired, or whose uses are spent, are left out.
///
/// The server limits the sum of the uses of all clauses that are made from one clause of the parent (MT-19). If the sum is too small
/// for what is wanted, it is divided so that each clause gets some. The uses of one wanted clause are a limit for each clause that is
/// made from it, not for their sum.
///
/// # Errors
/// [`InputError::NotNarrower`] with the part that does not fit.
pub fn narrow(parent: &[Clause], wanted: &[Clause], uses: Uses, now: u64) -> Result<Vec<Clause>, InputError> {
    let open = [Clause::default()];
    let bounds: Vec<Clause> =
        if parent.is_empty() { &open } else { parent }.iter().map(Clause::with_the_uses_that_are_left).collect();
    let wanted = if wanted.is_empty() { &open } else { wanted };
    let mut candidates = Vec::new();
    for (index, clause) in wanted.iter().enumerate() {
        let (fitting, misfits) = candidates_for(&bounds, clause, index, uses, now);
        if fitting.is_empty() {
            return Err(InputError::NotNarrower { reason: explain(&misfits) });
        }
        candidates.extend(fitting);
    }
    // The server charges the first clause that allows a use, so the parent's order is kept.
    candidates.sort_by_key(|candidate| (candidate.bound, candidate.wanted));
    let children = divide(without_redundant(&candidates, &bounds), &bounds, uses);
    let served = |wanted: usize| {
        let mut own = candidates.iter().filter(|candidate| candidate.wanted == wanted);
        own.any(|own| children.iter().any(|child| without_uses(&own.clause).is_within(&without_uses(child))))
    };
    if !(0..wanted.len()).all(served) {
        return Err(InputError::NotNarrower {
            reason: "it has too few uses for all wanted clauses; ask for fewer clauses".to_owned(),
        });
    }
    Ok(if parent.is_empty() && children.iter().all(Clause::is_open) { Vec::new() } else { children })
}

fn candidates_for(
    bounds: &[Clause],
    wanted: &Clause,
    index: usize,
    uses: Uses,
    now: u64,
) -> (Vec<Candidate>, Vec<Misfit>) {
    let mut fitting = Vec::new();
    let mut misfits = Vec::new();
    for (bound_index, bound) in bounds.iter().enumerate() {
        match inherit(bound, wanted) {
            Ok(clause) if clause.exp.is_some_and(|exp| exp <= now) => misfits.push(Misfit::Past),
            Ok(clause) if !uses.any_left(&clause) => misfits.push(Misfit::Uses),
            Ok(clause) => fitting.push(Candidate { clause, bound: bound_index, wanted: index }),
            Err(misfit) => misfits.push(misfit),
        }
    }
    (fitting, misfits)
}

/// Without the clauses whose uses another clause allows as well.
fn without_redundant(candidates: &[Candidate], bounds: &[Clause]) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let redundant = candidates.iter().enumerate().any(|(other_index, other)| {
            other_index != index
                && candidate.clause.is_within(&other.clause)
                && replaces(other, candidate, bounds)
                // Of two equal ones the first stays.
                && (other_index < index || !other.clause.is_within(&candidate.clause) || !replaces(candidate, other, bounds))
        });
        if !redundant {
            kept.push(candidate.clone());
        }
    }
    kept
}

/// Whether the uses of `other`, which allows all that `candidate` allows, are enough for both: it has no limit, or it has all uses of the
/// parent's clause that both are made from, or `candidate` adds none.
fn replaces(other: &Candidate, candidate: &Candidate, bounds: &[Clause]) -> bool {
    let bound = (other.bound == candidate.bound).then(|| bounds.get(other.bound)).flatten();
    let enough = |member: fn(&Clause) -> Option<i64>| {
        let own = member(&other.clause);
        own.is_none() || member(&candidate.clause) == Some(0) || bound.is_some_and(|bound| member(bound) == own)
    };
    enough(|clause| clause.usages_at) && enough(|clause| clause.usages_other)
}

/// Divides the uses of each of the parent's clauses among the clauses made from it.
fn divide(candidates: Vec<Candidate>, bounds: &[Clause], uses: Uses) -> Vec<Clause> {
    let mut groups: Vec<(Clause, Vec<usize>)> = Vec::new();
    for candidate in candidates {
        // Equal clauses share one counter at the server (MT-16), so there is one, made from either of the parent's clauses.
        let equal = |clause: &Clause| clause.is_within(&candidate.clause) && candidate.clause.is_within(clause);
        match groups.iter_mut().find(|(clause, _)| equal(clause)) {
            Some((_, makers)) => makers.push(candidate.bound),
            None => groups.push((candidate.clause, vec![candidate.bound])),
        }
    }
    let makers: Vec<&[usize]> = groups.iter().map(|(_, makers)| makers.as_slice()).collect();
    let capacity: Vec<i64> = bounds.iter().map(|bound| uses.limit(bound).unwrap_or(i64::MAX)).collect();
    let mut placed: Vec<(usize, Clause)> = groups
        .iter()
        .zip(shares::assign(&makers, &capacity))
        .filter_map(|((clause, _), bound)| bound.map(|bound| (bound, clause.clone())))
        .collect();
    placed.sort_by_key(|(bound, _)| *bound);
    for (index, bound) in bounds.iter().enumerate() {
        for (limit, member) in [(bound.usages_at, Share::AccessTokens), (bound.usages_other, Share::Others)] {
            let mut own: Vec<&mut Clause> =
                placed.iter_mut().filter_map(|(maker, clause)| (*maker == index).then_some(clause)).collect();
            if let Some(limit) = limit {
                shares::fill(&mut own, limit, member);
            }
        }
    }
    placed.into_iter().map(|(_, clause)| clause).filter(|clause| uses.any_left(clause)).collect()
}

impl Clause {
    /// The clause with the uses that its counters leave, without the counters.
    fn with_the_uses_that_are_left(&self) -> Self {
        Self {
            usages_at: uses_left(self.usages_at, self.usages_at_done),
            usages_other: uses_left(self.usages_other, self.usages_other_done),
            ..self.without_counters()
        }
    }
}

fn without_uses(clause: &Clause) -> Clause {
    Clause { usages_at: None, usages_other: None, ..clause.clone() }
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
        (Some(entry), _) => {
            let other = misfits.iter().find(|misfit| !matches!(misfit, Misfit::Entry { .. }));
            let other = other.map(|misfit| format!("; of another, {misfit}")).unwrap_or_default();
            format!("no single clause of the parent allows all of it ({entry} is missing in one{other})")
        }
        (None, Some(first)) if misfits.iter().any(|misfit| misfit != first) => {
            if misfits.contains(&Misfit::Uses) {
                "where it is valid in the wanted time, its uses are spent".to_owned()
            } else {
                Misfit::Time.to_string()
            }
        }
        (None, Some(misfit)) => misfit.to_string(),
        (None, None) => "the parent allows nothing".to_owned(),
    }
}
