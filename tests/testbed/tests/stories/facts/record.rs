// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that `docs/facts` and the code agree: each cited id is defined; each fact is cited and has a release and a
//! proof.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A fact as its file states it.
#[derive(Debug, Default)]
struct Fact {
    id: String,
    /// The text after "Seen on:": programs with their releases.
    seen: String,
    /// The text after "Proof:".
    proof: String,
}

/// The tests and captures that a proof may name.
#[derive(Debug, Default)]
struct Proofs {
    /// Functions with `#[test]`.
    tests: BTreeSet<String>,
    /// `topic/scenario` of `tests/captures`.
    captures: BTreeSet<String>,
}

/// Reads the facts of a file: `### ID Title`, text, `- Seen on: ..`, `- Proof: ..`; continuation lines are indented.
fn parse_facts(text: &str) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    let mut item = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            let id = title.split(' ').next().unwrap_or_default().to_owned();
            facts.push(Fact { id, ..Fact::default() });
            item = None;
        }
        let Some(fact) = facts.last_mut() else { continue };
        let (name, rest) = match line.strip_prefix("- ").and_then(|entry| entry.split_once(": ")) {
            Some((name, rest)) => (Some(name), rest),
            None if line.starts_with("  ") => (item, line.trim_start()),
            None => (None, ""),
        };
        item = name;
        let value = match name {
            Some("Seen on") => &mut fact.seen,
            Some("Proof") => &mut fact.proof,
            _ => continue,
        };
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str(rest);
    }
    facts
}

/// `XY` of `XY-07`, if this has the form of an id.
fn prefix(id: &str) -> Option<&str> {
    let (prefix, number) = id.split_once('-')?;
    let is_name = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_name && number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(prefix)
}

/// The ids in a text that have one of these prefixes.
fn find_ids<'text>(text: &'text str, prefixes: &BTreeSet<&str>) -> Vec<&'text str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-');
    words.filter(|word| prefix(word).is_some_and(|prefix| prefixes.contains(prefix))).collect()
}

/// The texts in backticks after each occurrence of `word`.
fn quoted_after<'text>(text: &'text str, word: &str) -> Vec<&'text str> {
    let start = format!("{word} `");
    text.split(start.as_str()).skip(1).filter_map(|rest| rest.split('`').next()).collect()
}

/// All faults of these facts. `cited` has files with the ids that they cite.
fn find_faults(facts: &[Fact], cited: &[(String, String)], proofs: &Proofs) -> Vec<String> {
    let mut faults = Vec::new();
    let mut defined = BTreeSet::new();
    for Fact { id, seen, proof } in facts {
        let mut report = |fault: String| faults.push(format!("{id}: {fault}"));
        if prefix(id).is_none() {
            report("an id is capital letters, a hyphen and two digits".into());
        }
        if !defined.insert(id.as_str()) {
            report("defined twice".into());
        }
        if !cited.iter().any(|(_, cited)| cited == id) {
            report("cited nowhere: remove it, or cite it where it forces code".into());
        }
        if !seen.contains(|character: char| character.is_ascii_digit()) {
            report("no release in \"Seen on:\"".into());
        }
        let (tests, captures) = (quoted_after(proof, "test"), quoted_after(proof, "capture"));
        let reason = proof.split("no test here: ").nth(1).unwrap_or_default();
        if tests.is_empty()
            && captures.is_empty()
            && quoted_after(proof, "command").is_empty()
            && reason.trim().is_empty()
        {
            report("\"Proof:\" names no test, capture or command, and no reason why there is none".into());
        }
        for test in tests.into_iter().filter(|test| !proofs.tests.contains(*test)) {
            report(format!("there is no test `{test}`; was it renamed?"));
        }
        for capture in captures.into_iter().filter(|capture| !proofs.captures.contains(*capture)) {
            report(format!("there is no capture `{capture}`"));
        }
    }
    let unknown = cited.iter().filter(|(_, id)| !defined.contains(id.as_str()));
    faults.extend(unknown.map(|(place, id)| format!("{place}: cites {id}, which docs/facts does not define")));
    faults
}

/// The names of the functions with `#[test]` in a source file.
pub(super) fn find_tests(source: &str) -> Vec<String> {
    let mut lines = source.lines();
    let mut names = Vec::new();
    while lines.any(|line| line.trim() == "#[test]") {
        let name = lines.find_map(|line| line.split_once("fn ").map(|(_, rest)| rest));
        names.extend(name.and_then(|rest| rest.split('(').next()).map(str::to_owned));
    }
    names
}

pub(super) fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// The text files of the repository by their paths, without build products, captures and inputs of fuzz targets.
pub(super) fn repository_texts() -> BTreeMap<String, String> {
    let root = root();
    let mut texts = BTreeMap::new();
    let mut ahead = vec![root.clone()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))).unwrap();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if kind.is_dir() && !["target", ".git", "corpus"].contains(&name.as_str()) {
                ahead.push(path);
            } else if kind.is_file() && !name.ends_with(".json") && name != "Cargo.lock" {
                let place = path.strip_prefix(&root).unwrap().display().to_string();
                texts.extend(fs::read_to_string(&path).ok().map(|text| (place, text)));
            }
        }
    }
    texts
}

fn captures() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("tests/captures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let topic = path.file_stem().unwrap().to_string_lossy().into_owned();
        let scenarios = file["scenarios"].as_array().unwrap();
        names.extend(scenarios.iter().map(|scenario| format!("{topic}/{}", scenario["name"].as_str().unwrap())));
    }
    names
}

#[test]
fn every_fact_is_cited_dated_and_proved_and_every_citation_has_its_fact() {
    let texts = repository_texts();
    let is_record = |place: &str| place.starts_with("docs/facts/");
    let records = texts.iter().filter(|(place, _)| is_record(place) && !place.ends_with("README.md"));
    let facts: Vec<Fact> = records.flat_map(|(_, text)| parse_facts(text)).collect();
    assert!(facts.len() > 50, "only {} facts were found", facts.len());
    let prefixes: BTreeSet<&str> = facts.iter().filter_map(|fact| prefix(&fact.id)).collect();
    let (mut cited, mut proofs) = (Vec::new(), Proofs { captures: captures(), ..Proofs::default() });
    for (place, text) in texts.iter().filter(|(place, _)| !is_record(place)) {
        cited.extend(find_ids(text, &prefixes).into_iter().map(|id| (place.clone(), id.to_owned())));
        if place.ends_with(".rs") {
            proofs.tests.extend(find_tests(text));
        }
    }
    let mut faults = find_faults(&facts, &cited, &proofs);
    // Facts cite each other.
    let defined: BTreeSet<&str> = facts.iter().map(|fact| fact.id.as_str()).collect();
    for (place, text) in texts.iter().filter(|(place, _)| is_record(place)) {
        let unknown = find_ids(text, &prefixes).into_iter().filter(|id| !defined.contains(id));
        faults.extend(unknown.map(|id| format!("{place}: {id} is not defined")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A fact without a fault, as text.
const GOOD: &str = "# Facts\n### XY-01 It glues\nTwo lines\nof text.\n- Seen on: It 9.2\n- Proof: capture `topic/scenario`,\n  test `it_glues`\n";

fn faults_of(text: &str, cited: &[&str]) -> Vec<String> {
    let cited: Vec<_> = cited.iter().map(|id| ("src/lib.rs".to_owned(), (*id).to_owned())).collect();
    let proofs = Proofs {
        tests: BTreeSet::from(["it_glues".to_owned()]),
        captures: BTreeSet::from(["topic/scenario".to_owned()]),
    };
    find_faults(&parse_facts(text), &cited, &proofs)
}

#[test]
fn a_complete_fact_has_no_fault() {
    assert_eq!(faults_of(GOOD, &["XY-01"]), [""; 0]);
    for proof in ["command `it --version`", "no test here: it takes a person"] {
        let other = GOOD.replace("capture `topic/scenario`,\n  test `it_glues`", proof);
        assert_eq!(faults_of(&other, &["XY-01"]), [""; 0], "{proof}");
    }
}

#[test]
fn every_fault_is_reported() {
    let proof = "capture `topic/scenario`,\n  test `it_glues`";
    for (text, cited, fault) in [
        (GOOD.to_owned(), &[][..], "XY-01: cited nowhere"),
        (GOOD.to_owned(), &["XY-01", "XY-02"], "src/lib.rs: cites XY-02"),
        (GOOD.replace("XY-01", "XY-1"), &["XY-1"], "XY-1: an id is"),
        (format!("{GOOD}{GOOD}"), &["XY-01"], "XY-01: defined twice"),
        (GOOD.replace("It 9.2", "It"), &["XY-01"], "XY-01: no release"),
        (GOOD.replace("- Seen on: It 9.2\n", ""), &["XY-01"], "XY-01: no release"),
        (GOOD.replace("`it_glues`", "`it_glued`"), &["XY-01"], "XY-01: there is no test `it_glued`"),
        (GOOD.replace("/scenario", "/other"), &["XY-01"], "XY-01: there is no capture `topic/other`"),
        (GOOD.replace(&format!("- Proof: {proof}\n"), ""), &["XY-01"], "XY-01: \"Proof:\" names no"),
        (GOOD.replace(proof, "seen once"), &["XY-01"], "XY-01: \"Proof:\" names no"),
        (GOOD.replace(proof, "no test here: "), &["XY-01"], "XY-01: \"Proof:\" names no"),
    ] {
        let faults = faults_of(&text, cited);
        assert!(faults.len() == 1 && faults[0].starts_with(fault), "{fault}: {faults:?}");
    }
}

#[test]
fn ids_and_tests_are_found_in_texts() {
    let prefixes = BTreeSet::from(["XY"]);
    let text = "// XY-01: why (see XY-02, `XY-03`); not XY-4, XY-055, AXY-06, XY-07-8, SSH-2.0, AB-09";
    assert_eq!(find_ids(text, &prefixes), ["XY-01", "XY-02", "XY-03"]);
    let source =
        "#[test]\nfn first() {}\n\n    #[test]\n    #[ignore]\n    pub(crate) fn second(x: u8) {}\nfn third() {}\n";
    assert_eq!(find_tests(source), ["first", "second"]);
}
