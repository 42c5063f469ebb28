// SPDX-License-Identifier: MIT OR Apache-2.0
//! CONTRIBUTING.md names each module with stories that cannot be played against a foreign mytoken server.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::root;

/// The call with which such a story begins.
const OWN: &str = "story_with_own_servers(";

/// The modules below `folder` that have the call. A folder is one module.
fn modules(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let has_call = if path.is_dir() {
            !modules(&path).is_empty()
        } else {
            path.extension().is_some_and(|end| end == "rs") && fs::read_to_string(&path).unwrap().contains(OWN)
        };
        if has_call {
            found.insert(name);
        }
    }
    found
}

/// The code in the last column of each row of the table whose head begins so.
fn last_column(text: &str, head: &str) -> BTreeSet<String> {
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn modules_that_a_foreign_server_cannot_play_are_in_the_table() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let modules = modules(&root().join("tests/testbed/tests/stories"));
    assert!(modules.len() > 20, "{modules:?}");
    assert_eq!(last_column(&text, "| What they need |"), modules);
}

#[test]
fn only_the_code_of_the_last_column_counts() {
    let text = "`a`\n| What | Why | Where |\n|---|---|---|\n| `b` | `c` | `d`, `e` |\n| x | y | `d` |\n\n| `f` |\n";
    assert_eq!(last_column(text, "| What |").into_iter().collect::<Vec<_>>(), ["d", "e"]);
}
