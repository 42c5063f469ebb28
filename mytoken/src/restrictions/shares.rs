// SPDX-License-Identifier: MIT OR Apache-2.0
//! Divides the uses of the parent's clauses among the child's clauses.

use super::Clause;

/// One of the two numbers of uses of a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// `usages_AT`
    AccessTokens,
    /// `usages_other`
    Others,
}

impl Share {
    fn of(self, clause: &mut Clause) -> &mut Option<i64> {
        match self {
            Self::AccessTokens => &mut clause.usages_at,
            Self::Others => &mut clause.usages_other,
        }
    }
}

/// For each child one of its makers (indices of `capacity`), so that no maker has more children than its capacity, and as many
/// children as possible have a maker. The others get `None`.
///
/// This is a bipartite matching by augmenting paths.
pub(super) fn assign(makers: &[&[usize]], capacity: &[i64]) -> Vec<Option<usize>> {
    let mut of: Vec<Option<usize>> = vec![None; makers.len()];
    for child in 0..makers.len() {
        let mut visited = vec![false; capacity.len()];
        augment(child, makers, capacity, &mut of, &mut visited);
    }
    of
}

/// Finds a maker for `child`, if need be by moving other children to other makers.
fn augment(
    child: usize,
    makers: &[&[usize]],
    capacity: &[i64],
    of: &mut [Option<usize>],
    visited: &mut [bool],
) -> bool {
    for &maker in makers.get(child).copied().unwrap_or_default() {
        match visited.get_mut(maker) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        let own: Vec<usize> = (0..of.len()).filter(|other| of.get(*other) == Some(&Some(maker))).collect();
        let limit = capacity.get(maker).copied().unwrap_or(0);
        let free = i64::try_from(own.len()).is_ok_and(|count| count < limit);
        if free || (limit > 0 && own.into_iter().any(|other| augment(other, makers, capacity, of, visited))) {
            if let Some(place) = of.get_mut(child) {
                *place = Some(maker);
            }
            return true;
        }
    }
    false
}

/// Clips the uses of the clauses so that their sum is at most `limit`: clauses that want little get it, the others share the rest
/// equally. If there are fewer uses than clauses, the last ones get none.
pub(super) fn fill(clauses: &mut [&mut Clause], limit: i64, share: Share) {
    let wish = |clause: &mut Clause| share.of(clause).unwrap_or(limit).clamp(0, limit);
    let mut order: Vec<(i64, usize)> =
        clauses.iter_mut().enumerate().map(|(index, clause)| (wish(clause), index)).collect();
    order.sort_by_key(|(wish, index)| (*wish, std::cmp::Reverse(*index)));
    let mut left = limit;
    let mut waiting = i64::try_from(order.len()).unwrap_or(i64::MAX);
    for (wish, index) in order {
        let part = wish.min(left.checked_div(waiting).unwrap_or(0));
        left = left.saturating_sub(part);
        waiting = waiting.saturating_sub(1);
        if let Some(clause) = clauses.get_mut(index) {
            *share.of(clause) = Some(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_move_to_other_makers_when_one_is_full() {
        let (both, first, none): (&[usize], &[usize], &[usize]) = (&[0, 1], &[0], &[]);
        assert_eq!(assign(&[both, first], &[1, 1]), [Some(1), Some(0)]);
        assert_eq!(assign(&[first, both], &[1, 1]), [Some(0), Some(1)]);
        assert_eq!(assign(&[first, first], &[1, 1]), [Some(0), None]);
        assert_eq!(assign(&[first, first, both], &[2, 1]), [Some(0), Some(0), Some(1)]);
        assert_eq!(assign(&[first, none], &[0, 1]), [None, None]);
        assert_eq!(assign(&[&[7]], &[1]), [None]);
    }

    #[test]
    fn uses_are_shared_equally_after_the_modest() {
        for (wishes, limit, expected) in [
            (vec![None, None], 5, vec![3, 2]),
            (vec![Some(1), None, None], 7, vec![1, 3, 3]),
            (vec![Some(3), Some(2)], 5, vec![3, 2]),
            (vec![Some(9), Some(0)], 5, vec![5, 0]),
            (vec![None, None, None], 2, vec![1, 1, 0]),
            (vec![None], 0, vec![0]),
            (vec![], 3, vec![]),
        ] {
            let mut clauses: Vec<Clause> =
                wishes.iter().map(|wish| Clause { usages_at: *wish, ..Clause::default() }).collect();
            fill(&mut clauses.iter_mut().collect::<Vec<_>>(), limit, Share::AccessTokens);
            let shares: Vec<i64> = clauses.iter().filter_map(|clause| clause.usages_at).collect();
            assert_eq!(shares, expected, "{wishes:?} of {limit}");
        }
    }
}
