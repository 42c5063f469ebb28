// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page on `mytokenctl check` has the table of findings of the code.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use mytokend::control::check::kinds::{self, Kind};
use mytokend::control::check::{Severity, kinds_broker, kinds_slurm, kinds_user};

fn row(kind: &Kind) -> String {
    let level = match kind.level {
        Severity::Ok => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    format!("| {} | `{}` | {level} | {} |", kind.part, kind.id, kind.meaning.trim())
}

#[test]
fn every_finding_is_documented_with_its_meaning() {
    let page = include_str!("../../docs/admin/check.md");
    let (_, table) = page.split_once("|---|---|---|---|\n").unwrap();
    let documented: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let all = kinds::ALL.iter().chain(kinds_slurm::ALL).chain(kinds_broker::ALL).chain(kinds_user::ALL);
    let rows: Vec<String> = all.map(row).collect();
    assert!(rows.len() > 80, "{}", rows.len());
    assert_eq!(documented, rows, "the table should be:\n{}\n", rows.join("\n"));
}
