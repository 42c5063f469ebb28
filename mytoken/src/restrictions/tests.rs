// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the server treats clauses (MT-15, MT-18).

use super::*;

mod properties;

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
