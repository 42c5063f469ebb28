// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of narrowing and comparing clauses.

use proptest::prelude::*;

use super::*;

fn subset(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::sample::subsequence(of, 1..=of.len()).prop_map(|list| list.into_iter().map(str::to_owned).collect()),
    ]
}

prop_compose! {
    fn clause()(
        nbf in prop::option::of(1_u64..5),
        exp in prop::option::of(3_u64..9),
        scope in subset(&["a", "b", "c"]),
        audience in subset(&["x", "y"]),
        hosts in subset(&["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "*.example.org", "a.example.org", "this"]),
        geoip_allow in subset(&["DE", "FR"]),
        geoip_disallow in subset(&["XX", "YY"]),
        usages_at in prop::option::of(0_i64..6),
        usages_other in prop::option::of(0_i64..6),
        unknown in prop::option::weighted(0.1, 0_i32..2),
    ) -> Clause {
        Clause {
            nbf, exp, scope: scope.join(" "), audience, hosts, geoip_allow, geoip_disallow, usages_at, usages_other,
            unknown: unknown.map(|value: i32| ("later".to_owned(), value.into())).into_iter().collect(),
            ..Clause::default()
        }
    }
}

prop_compose! {
    /// A clause of a parent with counters, without members that only the server can evaluate.
    fn used_clause()(clause in clause(), done in prop::option::of(0_i64..7)) -> Clause {
        let usages_at_done = clause.usages_at.and(done);
        Clause {
            hosts: Vec::new(), geoip_allow: Vec::new(), geoip_disallow: Vec::new(), unknown: BTreeMap::new(), usages_at_done,
            ..clause
        }
    }
}

prop_compose! {
    /// What a profile asks for: scopes, an audience, a time.
    fn requested()(clause in clause(), audience in prop::sample::select(vec!["x", "y"])) -> Clause {
        Clause {
            nbf: clause.nbf, exp: clause.exp, scope: clause.scope, audience: vec![audience.to_owned()], ..Clause::default()
        }
    }
}

fn lists() -> impl Strategy<Value = Vec<Clause>> {
    prop::collection::vec(clause(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_narrowed_child_is_never_broader_than_parent_or_request(parent in lists(), wanted in lists()) {
        if let Ok(child) = narrow(&parent, &wanted, BOTH, 2) {
            prop_assert!(within(&child, &parent), "{child:?}");
            if !wanted.is_empty() {
                prop_assert!(within(&child, &wanted), "{child:?}");
            }
        }
    }

    #[test]
    fn the_server_drops_no_clause_of_a_narrowed_child(parent in lists(), wanted in lists()) {
        if let Ok(child) = narrow(&parent, &wanted, BOTH, 2) {
            prop_assert_eq!(server_tightens(&parent, &child), child);
        }
    }

    #[test]
    fn narrowing_a_child_to_itself_changes_nothing(parent in lists(), wanted in clause()) {
        if let Ok(child) = narrow(&parent, &[wanted], BOTH, 2) {
            let again = narrow(&child, &child, BOTH, 2).unwrap();
            // Hosts that other hosts contain may go.
            prop_assert!(again.len() == child.len() && within(&again, &child) && within(&child, &again), "{again:?} of {child:?}");
        }
    }

    /// Countries, hosts and unknown members are left out: a request that the parent limits in these is refused, never cut.
    #[test]
    fn a_child_gives_each_access_token_that_its_parent_gives(
        parent in prop::collection::vec(used_clause(), 0..5),
        wanted in prop::collection::vec(requested(), 1..3),
        later in 3_u64..9,
    ) {
        let now = 2;
        let left = |clause: &Clause| clause.usages_at.map(|limit| limit - clause.usages_at_done.unwrap_or(0));
        if wanted.len() > 1 && parent.iter().any(|clause| left(clause) == Some(1)) {
            return Ok(()); // One use cannot be divided between two wanted clauses.
        }
        let child = narrow(&parent, &wanted, AT_ONLY, now);
        for wanted in &wanted {
            let asked = |clauses: &[Clause]| {
                let audience = wanted.audience.join(" ");
                let open = [Clause::default()];
                let clauses = if clauses.is_empty() { &open } else { clauses };
                clauses.iter().filter(|clause| clause.allows(&wanted.scope, &audience, later)).count()
            };
            if asked(&parent) == 0 || asked(std::slice::from_ref(wanted)) == 0 {
                continue;
            }
            match &child {
                Ok(child) => prop_assert!(asked(child) > 0, "{child:?} at {later} for {wanted:?}"),
                // The error is about another wanted clause, or about uses that are not enough for both.
                Err(error) => prop_assert!(
                    narrow(&parent, std::slice::from_ref(wanted), AT_ONLY, now).is_ok(), "{error}, and alone"
                ),
            }
        }
    }

    #[test]
    fn a_child_gives_no_access_token_that_its_parent_refuses(
        parent in prop::collection::vec(used_clause(), 1..5), wanted in prop::collection::vec(clause(), 0..3),
        scope in subset(&["a", "b", "c"]), audience in subset(&["x", "y"]), later in 3_u64..9,
    ) {
        let (scope, audience) = (scope.join(" "), audience.join(" "));
        if let Ok(child) = narrow(&parent, &wanted, AT_ONLY, 2) {
            let gives = |clauses: &[Clause]| clauses.iter().any(|clause| clause.allows(&scope, &audience, later));
            prop_assert!(!(child.is_empty() || gives(&child)) || gives(&parent), "{child:?}");
        }
    }

    #[test]
    fn the_uses_of_a_child_are_not_more_than_those_its_parent_has_left(
        parent in prop::collection::vec(used_clause(), 1..4), wanted in lists(),
    ) {
        let left: Vec<i64> = parent.iter().filter_map(|c| Some((c.usages_at? - c.usages_at_done.unwrap_or(0)).max(0))).collect();
        if left.len() == parent.len() {
            if let Ok(child) = narrow(&parent, &wanted, AT_ONLY, 2) {
                let given: i64 = child.iter().map(|clause| clause.usages_at.unwrap()).sum();
                prop_assert!(given <= left.iter().sum(), "{child:?}");
            }
        }
    }

    #[test]
    fn is_within_is_a_preorder(a in clause(), b in clause(), c in clause()) {
        prop_assert!(a.is_within(&a));
        if a.is_within(&b) && b.is_within(&c) {
            prop_assert!(a.is_within(&c));
        }
    }

    #[test]
    fn a_bound_allows_everything_that_a_narrower_clause_allows(a in clause(), b in clause(), now in 0_u64..10, scope in subset(&["a", "b", "c"])) {
        let scope = scope.join(" ");
        if a.is_within(&b) && a.allows(&scope, "", now) {
            prop_assert!(b.allows(&scope, "", now));
        }
    }

    #[test]
    fn clauses_survive_a_round_trip(list in lists()) {
        prop_assert_eq!(&serde_json::from_str::<Vec<Clause>>(&serde_json::to_string(&list).unwrap()).unwrap(), &list);
    }

    #[test]
    fn arbitrary_json_never_panics(text in "[{}\\[\\]\":,0-9a-zA-Z_ .-]{0,80}", host in "\\PC{0,20}", bound in "\\PC{0,20}") {
        if let Ok(list) = Clause::parse_strict(&text) {
            let written = serde_json::to_string(&list).unwrap();
            prop_assert_eq!(Clause::parse_strict(&written).ok(), Some(list));
        }
        if let Ok(list) = serde_json::from_str::<Vec<Clause>>(&text) {
            if let Ok(child) = narrow(&list, &list, BOTH, 2) {
                prop_assert!(within(&child, &list), "{child:?} of {list:?}");
            }
        }
        let a = Clause { hosts: vec![host], ..Clause::default() };
        let b = Clause { hosts: vec![bound], ..Clause::default() };
        prop_assert!(a.is_within(&a) && b.is_within(&b));
        prop_assert_eq!(narrow(std::slice::from_ref(&b), std::slice::from_ref(&a), BOTH, 0).is_ok(), a.is_within(&b));
    }
}
