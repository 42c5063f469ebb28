// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of ssh clients in the guide for administrators.

use testbed::site::paths;
use testbed::{Error, Result};

const PAGE: &str = "docs/admin/ssh.md";
const HEAD: &str = "| Client | How it gets the token | Over 1023 bytes | Shows why it was refused |";

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) client: String,
    /// Whether it sends an answer of more than 1023 bytes.
    pub(super) sends_long_answers: bool,
    /// Whether a person sees the sentence about a refusal.
    pub(super) shows_refusals: bool,
}

/// The rows of the table.
pub(super) fn rows() -> Result<Vec<Row>> {
    let path = paths::repository().join(PAGE);
    let page =
        std::fs::read_to_string(&path).map_err(|source| Error::Io { what: path.display().to_string(), source })?;
    let lines = page.lines().skip_while(|line| *line != HEAD).skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| row(line).ok_or_else(|| Error::Refused(format!("not a row of the table: {line}")))).collect()
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [client, _, long, refusals] = cells.as_slice() else { return None };
    let is_yes = |cell: &str| match cell {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    Some(Row { client: (*client).to_owned(), sends_long_answers: is_yes(long)?, shows_refusals: is_yes(refusals)? })
}
