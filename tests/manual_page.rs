// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the lists of a manual page that is written by hand, so that a test can compare them with the code. Each crate with such a test
//! includes this file.

use std::path::Path;

/// The entries of all lists in a section of `packaging/man/PAGE`: their heads in plain text, each with its source.
pub fn entries(page: &str, section: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let start = format!("\n.Sh {section}\n");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{page}: no section {section}"));
    let body = rest.split("\n.Sh ").next().unwrap_or_default();
    let entry = |entry: &str| {
        let (head, text) = entry.split_once('\n').unwrap_or((entry, ""));
        (plain(head), text.to_owned())
    };
    body.split("\n.It ").skip(1).map(entry).collect()
}

/// `Fl -mytoken Ns = Ns Ar PROFILE` as `--mytoken=PROFILE`.
fn plain(head: &str) -> String {
    let mut text = String::new();
    let mut glued = true;
    for word in head.split(' ') {
        match word {
            "Ns" => glued = true,
            "Cm" | "Ar" => {}
            _ => {
                // A lone colon is a closing delimiter, which follows without a space.
                if !glued && !text.ends_with('-') && word != ":" {
                    text.push(' ');
                }
                glued = false;
                text.push_str(if word == "Fl" { "-" } else { word });
            }
        }
    }
    text
}
