// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each kind of finding of `mytokenctl check` is seen by a story that breaks a site: one that no story sees could never come.

use mytokend::control::check::{kinds, kinds_broker, kinds_slurm, kinds_user};

const STORIES: &[&str] = &[
    include_str!("check.rs"),
    include_str!("check_account.rs"),
    include_str!("check_brokers.rs"),
    include_str!("check_configuration.rs"),
    include_str!("check_host.rs"),
    include_str!("check_nodes.rs"),
    include_str!("check_pam.rs"),
    include_str!("check_plugstack.rs"),
    include_str!("check_slurm.rs"),
    include_str!("check_sshd.rs"),
    include_str!("check_user.rs"),
    include_str!("check_validation.rs"),
];

/// Ids that no row sees, with the reason.
const WITHOUT_ROW: &[(&str, &str)] =
    &[("node-not-asked", "it comes after 20 minutes; the crate's own tests have a shorter limit")];

/// Ids whose only story is skipped on bookworm, and the releases that play it (`TESTBED_ROOT`).
const NOT_ON_BOOKWORM: &[(&str, &str)] = &[("sshd-penalties", "trixie, sid"), ("slurm-run-hidden", "trixie, sid")];

/// What is in tables, and in what compares findings: assertions and the functions that see findings alone.
const SEES: &[&str] = &["[\n", "vec![", "in [", "assert", "sees", "is_alone(", "of_host("];

/// The statements of a story's file, with whether some release skips their story. Comments are no part of them.
fn statements(file: &str) -> Vec<(String, bool)> {
    let (mut all, mut statement, mut of_function): (Vec<(String, bool)>, _, _) = (Vec::new(), String::new(), 0);
    for line in file.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if line.starts_with("fn ") {
            of_function = all.len();
        }
        statement.push_str(line);
        statement.push('\n');
        if line.ends_with([';', '{', '}']) {
            all.push((std::mem::take(&mut statement), false));
        }
        // The end of a function.
        if line == "}" {
            let skips = all.iter().skip(of_function).any(|(statement, _)| statement.contains("return skip("));
            all.iter_mut().skip(of_function).for_each(|(_, skipped)| *skipped = skips);
            of_function = all.len();
        }
    }
    all
}

/// Whether a row or an assertion has this id, in stories that each release plays, and in those that one skips.
fn seen(file: &str, id: &str) -> (bool, bool) {
    let statements = statements(file);
    // In quotes, in the quotes of JSON, or by the name of a constant.
    let mut names = vec![format!("\"{id}\""), format!("\"{id}\\\"")];
    let value = format!(": &str = \"{id}\";");
    for (constant, _) in &statements {
        let constant =
            constant.trim().strip_prefix("const ").and_then(|constant| constant.strip_suffix(value.as_str()));
        names.extend(constant.into_iter().flat_map(|name| [format!(" {name},"), format!("[{name}]")]));
    }
    let sees = |skips: bool| {
        let counts = |statement: &str| SEES.iter().any(|sees| statement.contains(sees));
        let mut counting = statements.iter().filter(|(statement, skipped)| *skipped == skips && counts(statement));
        counting.any(|(statement, _)| names.iter().any(|name| statement.contains(name)))
    };
    (sees(false), sees(true))
}

#[test]
fn each_kind_of_finding_has_a_story() {
    let all = kinds::ALL.iter().chain(kinds_slurm::ALL).chain(kinds_broker::ALL).chain(kinds_user::ALL);
    let listed = |list: &[(&str, &str)], id: &str| list.iter().any(|(listed, _)| *listed == id);
    let mut without: Vec<&str> = Vec::new();
    for id in all.map(|kind| kind.id) {
        let seen: Vec<(bool, bool)> = STORIES.iter().map(|file| seen(file, id)).collect();
        let (everywhere, somewhere) = (seen.iter().any(|seen| seen.0), seen.iter().any(|seen| seen.1));
        if listed(WITHOUT_ROW, id) || listed(NOT_ON_BOOKWORM, id) {
            assert!(!everywhere, "a story sees {id}: it needs no place in a list");
            assert_eq!(somewhere, listed(NOT_ON_BOOKWORM, id), "a story that bookworm skips, and {id}");
            without.push(id);
        } else {
            assert!(everywhere, "no row and no assertion of a story that each release plays has {id}");
        }
    }
    assert_eq!(without.len(), WITHOUT_ROW.len() + NOT_ON_BOOKWORM.len(), "ids that are no longer there");
}

#[test]
fn only_rows_and_assertions_count() {
    let nowhere = (false, false);
    for (file, expected) in [
        ("const ROWS: &[(&str, i32)] = &[\n    (\"true\", \"an-id\", 2),\n];\n", (true, false)),
        ("fn f() {\n    let rows = [\n        (\"x {\", \"an-id\"),\n    ];\n}\n", (true, false)),
        ("fn f() {\n    for id in [\"other\", \"an-id\"] {\n    }\n}\n", (true, false)),
        ("fn f() {\n    assert!(\n        text.contains(\"\\\"an-id\\\"\"),\n    );\n}\n", (true, false)),
        ("fn f() {\n    sees_alone(site, \"\", \"true\", \"an-id\", 1)?;\n}\n", (true, false)),
        ("const ID: &str = \"an-id\";\nfn f() {\n    sees_alone(site, \"\", \"true\", ID, 1)?;\n}\n", (true, false)),
        ("fn f() {\n    assert!(true);\n    return skip(\"x\");\n    assert_eq!(id, \"an-id\");\n}\n", (false, true)),
        ("fn f() {\n    return skip(\"x\");\n}\nfn g() {\n    assert_eq!(id, \"an-id\");\n}\n", (true, false)),
        ("const ID: &str = \"an-id\";\nfn f() {\n    let found = look(ID);\n}\n", nowhere),
        ("// assert_eq!(id, \"an-id\");\n", nowhere),
        ("fn f() {\n    // assert_eq!(id, \"an-id\");\n    assert!(true);\n}\n", nowhere),
        ("fn f(id: &str) {\n    if id == \"an-id\" {\n        assert!(true);\n    }\n}\n", nowhere),
        (
            "fn f() {\n    let other = found.iter().find(|found| found.id == \"an-id\");\n    assert!(true);\n}\n",
            nowhere,
        ),
        ("fn f() {\n    assert_eq!(id, \"an-id-of-another-kind\");\n}\n", nowhere),
    ] {
        assert_eq!(seen(file, "an-id"), expected, "{file}");
    }
}
