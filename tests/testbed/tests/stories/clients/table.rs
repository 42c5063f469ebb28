// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of docs/user/tools.md: which tools get the token by which line.

use testbed::{Error, Release, Result};

/// The page with the table.
pub const PAGE: &str = "docs/user/tools.md";

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The tool.
    pub tool: String,
    /// The line that a person types.
    pub line: String,
    /// Whether it works on Debian 12.
    pub bookworm: bool,
    /// Whether it works on Debian 13.
    pub trixie: bool,
}

impl Row {
    /// Whether it works on this release. The newest one is compared with Debian 13.
    pub fn works_on(&self, release: Release) -> bool {
        if release == Release::Bookworm { self.bookworm } else { self.trixie }
    }
}

/// The rows of the table `| Tool | Line | Debian 12 | Debian 13 |`.
pub fn rows(page: &str) -> Result<Vec<Row>> {
    let lines = page.lines().skip_while(|line| !line.starts_with("| Tool | Line | Debian 12 | Debian 13 |"));
    let malformed = |line: &str| Error::Refused(format!("not a row of the table: {line}"));
    lines
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| row(line).ok_or_else(|| malformed(line)))
        .collect()
}

/// Cells are separated by ` | `. A line has no pipe, because it would be escaped in a table.
fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [tool, line, bookworm, trixie] = cells.as_slice() else { return None };
    let works = |cell: &str| match cell {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    let line = line.strip_prefix('`')?.strip_suffix('`')?;
    Some(Row { tool: (*tool).to_owned(), line: line.to_owned(), bookworm: works(bookworm)?, trixie: works(trixie)? })
}
