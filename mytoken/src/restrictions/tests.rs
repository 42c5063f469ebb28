// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the server treats clauses (MT-15, MT-18), and properties of narrowing and comparing.

use proptest::prelude::*;

use super::*;

fn clauses(text: &str) -> Vec<Clause> {
    serde_json::from_str(text).unwrap()
}

const AT_ONLY: Uses = Uses { access_tokens: true, others: false };
const BOTH: Uses = Uses { access_tokens: true, others: true };

/// How the real server computes a child's clauses (MT-18). The table below was executed on the real server.
fn server_tightens(parent: &[Clause], wanted: &[Clause]) -> Vec<Clause> {
    if parent.is_empty() {
        return wanted.to_vec();
    }
    if wanted.is_empty() {
        return parent.to_vec();
    }
    let mut left: Vec<Clause> = parent.to_vec();
    let mut child = Vec::new();
    for clause in wanted {
        if let Some(bound) = left.iter_mut().find(|bound| clause.is_within(bound)) {
            bound.usages_at = bound.usages_at.map(|left| left - clause.usages_at.unwrap_or(0).max(0));
            bound.usages_other = bound.usages_other.map(|left| left - clause.usages_other.unwrap_or(0).max(0));
            child.push(clause.clone());
        }
    }
    if child.is_empty() { parent.to_vec() } else { child }
}

#[test]
fn the_server_drops_clauses_that_do_not_fit() {
    // parent, wanted, result; all rows were executed on the real server
    let table = [
        ("[]", r#"[{"exp":100}]"#, r#"[{"exp":100}]"#),
        (r#"[{"exp":100}]"#, "[]", r#"[{"exp":100}]"#),
        (r#"[{"exp":100}]"#, r#"[{"exp":50}]"#, r#"[{"exp":50}]"#),
        (r#"[{"exp":100}]"#, r#"[{"exp":200}]"#, r#"[{"exp":100}]"#),
        (r#"[{"exp":100}]"#, r#"[{"scope":"a"}]"#, r#"[{"exp":100}]"#),
        (r#"[{"exp":100}]"#, r#"[{"exp":100,"scope":"a"}]"#, r#"[{"exp":100,"scope":"a"}]"#),
        (
            r#"[{"exp":100,"scope":"a b"}]"#,
            r#"[{"exp":90,"scope":"a"},{"exp":90,"scope":"c"}]"#,
            r#"[{"exp":90,"scope":"a"}]"#,
        ),
        (
            r#"[{"usages_AT":5}]"#,
            r#"[{"usages_AT":3,"scope":"a"},{"usages_AT":3,"scope":"b"}]"#,
            r#"[{"usages_AT":3,"scope":"a"}]"#,
        ),
        (r#"[{"usages_AT":5,"usages_AT_done":3}]"#, r#"[{"usages_AT":5}]"#, r#"[{"usages_AT":5}]"#),
        (r#"[{"hosts":["10.0.0.0/8"]}]"#, r#"[{"hosts":["10.1.0.0/16"]}]"#, r#"[{"hosts":["10.1.0.0/16"]}]"#),
        (r#"[{"nbf":10}]"#, r#"[{"exp":50}]"#, r#"[{"nbf":10}]"#),
    ];
    for (parent, wanted, child) in table {
        assert_eq!(server_tightens(&clauses(parent), &clauses(wanted)), clauses(child), "{parent} / {wanted}");
    }
}

/// Each row: parent, wanted, child or part of the error.
fn check_narrowing(table: &[(&str, &str, Result<&str, &str>)], uses: Uses, now: u64) {
    for (parent, wanted, expected) in table {
        let child = narrow(&clauses(parent), &clauses(wanted), uses, now);
        match (&child, expected) {
            (Ok(child), Ok(expected)) => assert_eq!(child, &clauses(expected), "{parent} / {wanted}"),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{parent} / {wanted}: {error}");
            }
            _ => panic!("{parent} / {wanted}: {child:?}"),
        }
    }
}

#[test]
fn a_child_is_narrowed_or_refused_with_a_reason() {
    let table: &[(&str, &str, Result<&str, &str>)] = &[
        ("[]", "[]", Ok("[]")),
        ("[]", r#"[{"exp":100}]"#, Ok(r#"[{"exp":100}]"#)),
        (r#"[{"exp":100}]"#, "[]", Ok(r#"[{"exp":100}]"#)),
        (r#"[{"exp":100}]"#, r#"[{"exp":50}]"#, Ok(r#"[{"exp":50}]"#)),
        (r#"[{"exp":100}]"#, r#"[{"exp":200}]"#, Ok(r#"[{"exp":100}]"#)),
        (r#"[{"exp":100}]"#, r#"[{"scope":"a"}]"#, Ok(r#"[{"exp":100,"scope":"a"}]"#)),
        (r#"[{"nbf":10}]"#, r#"[{"exp":50}]"#, Ok(r#"[{"nbf":10,"exp":50}]"#)),
        (r#"[{"nbf":60}]"#, r#"[{"exp":50}]"#, Err("wanted time")),
        (
            r#"[{"exp":100,"scope":"a b"}]"#,
            r#"[{"exp":200,"scope":"c"}]"#,
            Err("scope c is not in any clause of the parent"),
        ),
        (r#"[{"exp":100,"scope":"a b"}]"#, r#"[{"scope":"b a"}]"#, Ok(r#"[{"exp":100,"scope":"b a"}]"#)),
        // one clause must allow all of it; clauses are not combined
        (r#"[{"scope":"a"},{"scope":"b"}]"#, r#"[{"scope":"a b"}]"#, Err("no single clause")),
        (r#"[{"scope":"a"},{"scope":"b"}]"#, r#"[{"scope":"b"}]"#, Ok(r#"[{"scope":"b"}]"#)),
        // the clause that clips least is used
        (r#"[{"exp":10},{"exp":100}]"#, r#"[{"exp":50}]"#, Ok(r#"[{"exp":50}]"#)),
        (r#"[{"audience":["x"]}]"#, r#"[{"audience":["x/"]}]"#, Err("audience x/ is not in any")),
        (r#"[{"audience":["x","y"]}]"#, r#"[{"audience":["y"]}]"#, Ok(r#"[{"audience":["y"]}]"#)),
        (r#"[{"hosts":["10.0.0.0/8"]}]"#, r#"[{"hosts":["10.1.0.0/16"]}]"#, Ok(r#"[{"hosts":["10.1.0.0/16"]}]"#)),
        (r#"[{"hosts":["10.0.0.0/8"]}]"#, r#"[{"hosts":["11.0.0.1"]}]"#, Err("host 11.0.0.1 is not in any")),
        (r#"[{"hosts":["10.0.0.0/8"]}]"#, r#"[{"exp":9}]"#, Ok(r#"[{"exp":9,"hosts":["10.0.0.0/8"]}]"#)),
        (r#"[{"geoip_disallow":["XX"]}]"#, r#"[{"geoip_disallow":["YY"]}]"#, Ok(r#"[{"geoip_disallow":["YY","XX"]}]"#)),
        (r#"[{"geoip_allow":["DE"]}]"#, r#"[{"geoip_allow":["FR"]}]"#, Err("country FR")),
        (r#"[{"usages_AT":5,"usages_AT_done":3}]"#, r#"[{"exp":9}]"#, Ok(r#"[{"exp":9,"usages_AT":2}]"#)),
        (r#"[{"usages_AT":5}]"#, r#"[{"usages_AT":7}]"#, Ok(r#"[{"usages_AT":5}]"#)),
        // the server drops clauses whose sum exceeds the parent's
        (
            r#"[{"usages_AT":5}]"#,
            r#"[{"usages_AT":3,"scope":"a"},{"usages_AT":3,"scope":"b"}]"#,
            Ok(r#"[{"usages_AT":3,"scope":"a"},{"usages_AT":2,"scope":"b"}]"#),
        ),
        (
            r#"[{"usages_AT":5}]"#,
            r#"[{"usages_AT":3,"scope":"a"},{"usages_AT":2,"scope":"b"}]"#,
            Ok(r#"[{"usages_AT":3,"scope":"a"},{"usages_AT":2,"scope":"b"}]"#),
        ),
        (r#"[{"later":1}]"#, r#"[{"later":2}]"#, Err("restriction later")),
        (r#"[{"future_bound":[1]}]"#, r#"[{"exp":9}]"#, Ok(r#"[{"exp":9,"future_bound":[1]}]"#)),
    ];
    check_narrowing(table, BOTH, 0);
}

/// Each row is for a child that only gets access tokens, at time 10.
#[test]
fn a_child_gets_each_clause_that_works_now_or_later() {
    let table: &[(&str, &str, Result<&str, &str>)] = &[
        // stage-in, pause, stage-out
        (r#"[{"exp":20},{"nbf":40,"exp":60}]"#, r#"[{"exp":50}]"#, Ok(r#"[{"exp":20},{"nbf":40,"exp":50}]"#)),
        // the first window is over
        (r#"[{"exp":9},{"nbf":40,"exp":60}]"#, r#"[{"exp":50}]"#, Ok(r#"[{"nbf":40,"exp":50}]"#)),
        (r#"[{"exp":10}]"#, "[{}]", Err("the mytoken has expired")),
        (r#"[{"exp":30}]"#, r#"[{"exp":10}]"#, Err("the requested end is in the past")),
        (r#"[{"exp":9},{"nbf":40}]"#, r#"[{"exp":30}]"#, Err("not valid in the wanted time")),
        // clauses without access tokens are of no use, however long they last
        (r#"[{"exp":25,"usages_AT":0},{"exp":20}]"#, r#"[{"exp":50}]"#, Ok(r#"[{"exp":20}]"#)),
        (r#"[{"exp":30,"scope":"a"},{"scope":"b","usages_AT":0}]"#, "[{}]", Ok(r#"[{"exp":30,"scope":"a"}]"#)),
        (r#"[{"exp":25,"usages_AT":3,"usages_AT_done":3},{"exp":20}]"#, "[{}]", Ok(r#"[{"exp":20}]"#)),
        (r#"[{"usages_AT":3,"usages_AT_done":4}]"#, "[{}]", Err("its uses are spent")),
        (r#"[{"usages_AT":-1}]"#, "[{}]", Err("its uses are spent")),
        (r#"[{"exp":5},{"usages_AT":0}]"#, "[{}]", Err("where it is valid in the wanted time, its uses are spent")),
        (
            r#"[{"scope":"a"},{"usages_AT":0}]"#,
            r#"[{"scope":"b"}]"#,
            Err("scope b is missing in one; of another, its uses"),
        ),
        // a wider clause without limit replaces narrower ones
        (r#"[{"hosts":["10.0.0.0/8"]},{}]"#, r#"[{"hosts":["10.0.0.0/8"]},{}]"#, Ok("[{}]")),
        (r#"[{"hosts":["10.0.0.0/8"]},{"exp":90}]"#, "[{}]", Ok(r#"[{"hosts":["10.0.0.0/8"]},{"exp":90}]"#)),
        (r#"[{"exp":20},{"exp":50},{"exp":30}]"#, "[{}]", Ok(r#"[{"exp":50}]"#)),
        // one with a limit does not
        (
            r#"[{"scope":"a","usages_AT":2},{"usages_AT":3}]"#,
            r#"[{"scope":"a"}]"#,
            Ok(r#"[{"scope":"a","usages_AT":2},{"scope":"a","usages_AT":3}]"#),
        ),
        // the uses suffice if the first clause leaves the shared one to the second
        (
            r#"[{"usages_AT":1},{"scope":"a","usages_AT":1}]"#,
            r#"[{"scope":"a"},{"scope":"b"}]"#,
            Ok(r#"[{"scope":"b","usages_AT":1},{"scope":"a","usages_AT":1}]"#),
        ),
        (
            r#"[{"scope":"a","usages_AT":1},{"usages_AT":1}]"#,
            r#"[{"scope":"a"},{"scope":"b"}]"#,
            Ok(r#"[{"scope":"a","usages_AT":1},{"scope":"b","usages_AT":1}]"#),
        ),
        (r#"[{"usages_AT":1}]"#, r#"[{"scope":"a"},{"scope":"b"}]"#, Err("too few uses")),
    ];
    check_narrowing(table, AT_ONLY, 10);
}

#[test]
fn lists_of_clauses_are_compared_clause_by_clause() {
    let table = [
        ("[]", "[]", true),
        (r#"[{"exp":1}]"#, "[]", true),
        ("[]", r#"[{"exp":1}]"#, false),
        ("[{}]", r#"[{"exp":1}]"#, false),
        ("[]", "[{}]", true),
        (r#"[{"scope":"a"}]"#, r#"[{"scope":"a b"}]"#, true),
        (r#"[{"scope":"a c"}]"#, r#"[{"scope":"a b"}]"#, false),
        (r#"[{"scope":"  "}]"#, r#"[{"scope":"a"}]"#, false),
        (r#"[{"exp":1},{"scope":"a"}]"#, r#"[{"exp":1}]"#, false),
        (r#"[{"exp":1,"new":true}]"#, r#"[{"exp":1}]"#, true), // an unknown bound only tightens
        (r#"[{"exp":1}]"#, r#"[{"exp":1,"new":true}]"#, false),
        (r#"[{"geoip_disallow":["DE","FR"]}]"#, r#"[{"geoip_disallow":["DE"]}]"#, true),
        (r#"[{"geoip_disallow":["FR"]}]"#, r#"[{"geoip_disallow":["DE"]}]"#, false),
        (r#"[{"usages_AT":0}]"#, r#"[{"usages_AT":1}]"#, true),
        (r#"[{"usages_other":1}]"#, r#"[{"usages_AT":1}]"#, false),
        (r#"[{"hosts":["192.0.2.1"]}]"#, r#"[{"hosts":["this"]}]"#, true),
    ];
    for (child, bound, expected) in table {
        assert_eq!(within(&clauses(child), &clauses(bound)), expected, "{child} within {bound}");
    }
}

#[test]
fn the_first_clause_that_allows_a_token_is_selected() {
    // clauses, scope, audience, index of the selected clause; `None`: refused
    let c = r#"[{"scope":"a","usages_AT":1},{"scope":"a b"}]"#;
    let used = r#"[{"scope":"a","usages_AT":1,"usages_AT_done":1},{"scope":"a b"}]"#;
    let table = [
        (c, "a", "", Some(0)),
        (used, "a", "", Some(1)),
        (c, "a b", "", Some(1)),
        (c, "c", "", None),
        (c, "", "", Some(0)),
        (used, "", "", Some(1)),
        (r#"[{"usages_AT":0}]"#, "", "", None),
        (r#"[{"exp":1000}]"#, "", "", Some(0)), // inclusive
        (r#"[{"exp":999}]"#, "", "", None),
        (r#"[{"nbf":1001}]"#, "", "", None),
        (r#"[{"nbf":1000}]"#, "", "", Some(0)),
        (r#"[{"audience":["x"]}]"#, "", "x", Some(0)),
        (r#"[{"audience":["x"]}]"#, "", "x/", None),
        (r#"[{"audience":["x"]}]"#, "", "x y", None),
        (r#"[{"scope":"A"}]"#, "a", "", None), // no case folding
    ];
    for (list, scope, audience, expected) in table {
        let list = clauses(list);
        let found = select(&list, scope, audience, 1000);
        assert_eq!(found, expected.map(|index: usize| Some(&list[index])), "{list:?} {scope:?} {audience:?}");
    }
    assert_eq!(select(&[], "a", "x", 0), Some(None));
}

#[test]
fn a_clause_is_written_in_the_servers_form() {
    let text = r#"{"nbf":1,"exp":2,"scope":"a b","audience":["x"],"hosts":["192.0.2.0/24"],"geoip_allow":["DE"],"geoip_disallow":["XX"],"usages_AT":3,"usages_other":4}"#;
    let clause: Clause = serde_json::from_str(text).unwrap();
    assert!(clause.unknown.is_empty());
    assert_eq!(serde_json::to_string(&clause).unwrap(), text);
    let sparse = r#"{"exp":0,"scope":null,"audience":null,"usages_AT":null}"#;
    assert!(serde_json::from_str::<Clause>(sparse).unwrap().is_open());
}

#[test]
fn unknown_members_of_a_clause_that_a_person_wrote_are_refused() {
    assert!(Clause::parse_strict(r#"{"exp":1,"usages_AT":2}"#).is_ok());
    for (text, named) in [
        (r#"{"ip":["192.0.2.1"]}"#, "ip"),
        (r#"{"expires":1}"#, "expires"),
        (r#"{"usages_at":1}"#, "usages_at"),
        (r#"{"usages_AT_done":1}"#, "counters"),
        (r#"{"exp":1.5}"#, "malformed"),
    ] {
        let error = Clause::parse_strict(text).unwrap_err().to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn the_latest_end_is_none_if_a_clause_has_no_end() {
    assert_eq!(latest_exp(&clauses(r#"[{"exp":1},{"exp":3},{"exp":2}]"#)), Some(3));
    assert_eq!(latest_exp(&clauses(r#"[{"exp":1},{}]"#)), None);
    assert_eq!(latest_exp(&[]), None);
}

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
