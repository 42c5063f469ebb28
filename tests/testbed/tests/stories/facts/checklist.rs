// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that `docs/checklist.md` has all its items, and that each names tests that exist, or says what is missing.

use std::collections::BTreeSet;
use std::fs;

use super::record::{find_tests, repository_texts, root};

/// The number of items.
const ITEMS: usize = 40;

/// An item as the page states it.
#[derive(Debug, Default)]
struct Item {
    number: String,
    tests: String,
    gap: String,
}

/// Reads the items of a page: `### N Title`, text, `- Tests: ..`, `- Gap: ..`; continuation lines are indented.
fn parse(text: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut entry = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            let number = title.split(' ').next().unwrap_or_default().to_owned();
            items.push(Item { number, ..Item::default() });
            entry = None;
        }
        let Some(item) = items.last_mut() else { continue };
        let (name, rest) = match line.strip_prefix("- ").and_then(|entry| entry.split_once(": ")) {
            Some((name, rest)) => (Some(name), rest),
            None if line.starts_with("  ") => (entry, line.trim_start()),
            None => (None, ""),
        };
        entry = name;
        let value = match name {
            Some("Tests") => &mut item.tests,
            Some("Gap") => &mut item.gap,
            _ => continue,
        };
        value.push_str(rest);
        value.push(' ');
    }
    items
}

/// All faults of these items.
fn find_faults(items: &[Item], expected: usize, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let numbers: Vec<&str> = items.iter().map(|item| item.number.as_str()).collect();
    let all: Vec<String> = (1..=expected).map(|number| number.to_string()).collect();
    if numbers != all {
        faults.push(format!("the items are not 1 to {expected}: {numbers:?}"));
    }
    for Item { number, tests: named, gap } in items {
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            faults.push(format!("{number}: there is no test `{name}`; was it renamed?"));
        }
        match (names.is_empty(), gap.trim()) {
            (true, _) if named.trim() != "none" => faults.push(format!("{number}: it names no test; write \"none\"")),
            (true, "none") => faults.push(format!("{number}: neither a test nor a gap")),
            (_, "") => faults.push(format!("{number}: no gap; write \"none\"")),
            _ => {}
        }
    }
    faults
}

#[test]
fn every_threat_names_its_tests_and_its_gap() {
    let texts = repository_texts();
    let sources = texts.iter().filter(|(place, _)| place.ends_with(".rs"));
    let tests = sources.flat_map(|(_, text)| find_tests(text)).collect();
    let items = parse(&fs::read_to_string(root().join("docs/checklist.md")).unwrap());
    let faults = find_faults(&items, ITEMS, &tests);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_fault_of_the_checklist_is_reported() {
    let good = "# Page\n### 1 One\nText.\n- Tests: `it_works`,\n  `it_ends`\n- Gap: none\n\n### 2 Two\n- Tests: none\n- Gap: all\n";
    let tests = BTreeSet::from(["it_works".to_owned(), "it_ends".to_owned()]);
    assert_eq!(find_faults(&parse(good), 2, &tests), [""; 0]);
    for (from, to, fault) in [
        ("### 2", "### 3", "the items are not 1 to 2"),
        ("`it_ends`", "`it_ended`", "1: there is no test `it_ended`"),
        ("- Tests: none\n- Gap: all", "- Tests: none\n- Gap: none", "2: neither a test nor a gap"),
        ("- Tests: none\n- Gap: all", "- Gap: all", "2: it names no test"),
        ("- Gap: none\n", "", "1: no gap"),
    ] {
        let faults = find_faults(&parse(&good.replacen(from, to, 1)), 2, &tests);
        assert!(faults.len() == 1 && faults[0].starts_with(fault), "{fault}: {faults:?}");
    }
}
