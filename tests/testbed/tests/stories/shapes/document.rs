// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table in the documents is that of the stories.

use testbed::site::paths;

use super::rows::{RUNNING, VARIED};

const PAGE: &str = "docs/user/shapes.md";

const HEAD: &str = "| Submission | Gets | Its sub-token ends |\n|---|---|---|\n";

fn table() -> String {
    let rows = RUNNING.iter().chain(VARIED).map(|row| {
        let not_yet = row.not_yet.map_or_else(String::new, |reason| format!("; not yet: {reason}"));
        let later = if row.later { "; by the agent of the login host" } else { "" };
        format!("| {} | {} | {}{later}{not_yet} |\n", row.shape, row.gets, row.ends)
    });
    HEAD.to_owned() + &rows.collect::<String>()
}

#[test]
fn the_document_has_the_table_of_the_stories() {
    let page = std::fs::read_to_string(paths::repository().join(PAGE)).unwrap();
    assert!(page.contains(&table()), "{PAGE} must have this table:\n{}", table());
}
