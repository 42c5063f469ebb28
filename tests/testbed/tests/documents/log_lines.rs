// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/admin/logs.md` has each line that the product can log, and no other one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::root;

const PAGE: &str = "docs/admin/logs.md";

/// Where lines of a log are written, and the beginnings of the calls that do.
const SOURCES: &[(&str, &[&str])] = &[
    ("mytokend/src", &["log.line(", ".line(Level", "log.line_of(", "line_of_at("]),
    ("slurm-spank/src", &["info(", "error("]),
    ("pam-mytoken/src", &["context.log("]),
];

/// Shortest part of a line, in characters, by which it is found.
const SHORTEST: usize = 8;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found
}

/// The source without its tests and without breaks inside of texts.
fn product(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let product = text.split("#[cfg(test)]").next().unwrap();
    let mut lines = product.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start()).replace("\\\"", "”")
}

/// The code from `begin` to the end of the statement or of the call's arguments.
fn call(source: &str, begin: usize) -> &str {
    let (mut depth, mut is_text) = (0_i32, false);
    for (at, c) in source[begin..].char_indices() {
        match c {
            '"' => is_text = !is_text,
            '(' | '{' if !is_text => depth += 1,
            ')' | '}' if !is_text => depth -= 1,
            ';' if !is_text && depth <= 0 => return &source[begin..begin + at],
            _ => {}
        }
        if depth < 0 {
            return &source[begin..begin + at];
        }
    }
    &source[begin..]
}

fn texts(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2)
}

/// The longest part of a text between what is filled in.
fn longest_part(text: &str) -> String {
    let mut parts: Vec<String> = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                parts.push(String::new());
            }
            c if depth == 0 => parts.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    let longest = parts.iter().map(|part| part.trim()).max_by_key(|part| part.chars().count());
    longest.unwrap_or_default().replace('”', "\"")
}

/// The parts of all lines that a source logs.
fn logged(source: &str, calls: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in calls {
        for (begin, _) in source.match_indices(name) {
            let before = &source[..begin];
            if before.ends_with("fn ") || before.ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric()) {
                continue;
            }
            let code = call(source, begin);
            found.extend(texts(code).map(longest_part));
            // A text with a name of its own stands before the call.
            for variable in ["text", "line"] {
                if code.contains(&format!("&{variable})")) {
                    let made = before.rfind(&format!("let {variable} = "));
                    found.extend(made.iter().flat_map(|made| texts(call(source, *made))).map(longest_part));
                }
            }
        }
    }
    found.retain(|part| part.chars().count() >= SHORTEST);
    found
}

/// The first column of the tables of lines, without the signs of code.
fn rows(page: &str) -> Vec<String> {
    let column = |line: &str| line.strip_prefix("| `")?.split("` |").next().map(str::to_owned);
    let tables = page.split("| Line |").skip(1);
    tables.flat_map(|table| table.lines().take_while(|line| !line.is_empty()).filter_map(column)).collect()
}

/// The parts of a line on the page between the names in capital letters.
fn parts(line: &str) -> Vec<String> {
    let is_name = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let mut parts = vec![String::new()];
    for word in line.replace('=', "= ").split_inclusive(' ') {
        if is_name(word) && !word.contains("BEARER_TOKEN") && !word.contains("MYTOKEN_TOKEN") {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push_str(word);
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().replace("= ", "="))
        .filter(|part| part.chars().count() >= SHORTEST)
        .collect()
}

#[test]
fn the_page_has_every_line_that_the_product_logs() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let mut missing = Vec::new();
    for (folder, calls) in SOURCES {
        let mut count = 0;
        for path in sources(&root().join(folder)) {
            let logged = logged(&product(&path), calls);
            count += logged.len();
            missing.extend(logged.into_iter().filter(|part| !page.contains(part)).map(|part| (path.clone(), part)));
        }
        assert!(count > 8, "only {count} lines in {folder}");
    }
    assert!(missing.is_empty(), "{PAGE} lacks {missing:#?}");
}

#[test]
fn the_product_has_every_line_of_the_page() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let folders = SOURCES.iter().map(|(folder, _)| *folder).chain(["mytoken-login/src"]);
    let code: String = folders.flat_map(|folder| sources(&root().join(folder))).map(|path| product(&path)).collect();
    let code = code.replace('”', "\"").replace("= ", "=");
    let rows = rows(&page);
    assert!(rows.len() > 50, "only {} lines", rows.len());
    let found = rows.iter().flat_map(|row| parts(row)).filter(|part| !code.contains(part));
    let missing: Vec<String> = found.collect();
    assert!(missing.is_empty(), "{PAGE} has lines that the code lacks: {missing:#?}");
}

#[test]
fn the_page_has_every_kind_of_event() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let source = fs::read_to_string(root().join("mytoken-wire/src/agent/event.rs")).unwrap();
    let kinds: BTreeSet<&str> =
        source.split("Self::").skip(1).filter_map(|arm| arm.split_once(" => \"")?.1.split('"').next()).collect();
    let table = page.split("| Event |").nth(1).unwrap();
    let rows = table.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(documented, kinds);
}

#[test]
fn a_line_that_is_missing_is_noticed() {
    let source = "let text = format!(\"job {}: the {name} has gone away\", 7);\nself.log.line(Level::Error, &text);\n\
                  log.line(Level::Info, \"short\"); fn info(text: &str) {} log.line_of(1, Level::Info, &format!(\"{a}; it is {b}\"));";
    let found: Vec<String> = logged(source, SOURCES[0].1).into_iter().collect();
    assert_eq!(found, ["has gone away"]);
    assert_eq!(parts("user=USER its file FILE is gone: ERROR; try again"), ["its file", "is gone:", "try again"]);
    assert_eq!(rows("| Line | What |\n|---|---|\n| `a | b: ERROR` | x |\n\n| `c` | y |\n"), ["a | b: ERROR"]);
}
