// SPDX-License-Identifier: MIT OR Apache-2.0
//! The committed pages: they are what the code says, mandoc accepts them, they fit a terminal, and what they name exists.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use manual::programs;
use skipped::skip;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// Long options of other programs that pages name, one of them in an example of a site's own command.
const OTHERS: [&str; 4] = ["mytoken", "jobid", "overlap", "strict"];

fn folder(name: &str) -> PathBuf {
    manual::packaging().join(name)
}

/// All pages: path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages: Vec<(PathBuf, String)> = fs::read_dir(folder("man"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    pages.sort();
    assert!(pages.len() >= 11, "only {} pages", pages.len());
    pages
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn the_committed_files_are_those_that_the_code_gives() {
    let generated = manual::generated().unwrap();
    for file in &generated {
        let committed = fs::read_to_string(folder(".").join(&file.path)).unwrap_or_default();
        assert!(committed == file.text, "packaging/{} is out of date; run: cargo run -p manual", file.path.display());
    }
    // A page of a program or file that is gone.
    let is_generated = |path: &Path| generated.iter().any(|file| path.ends_with(&file.path));
    for (path, text) in pages() {
        assert_eq!(is_generated(&path), text.contains("Do not edit."), "{}", path.display());
    }
    for shell in ["bash", "zsh", "fish"] {
        for entry in fs::read_dir(folder("completions").join(shell)).unwrap() {
            let path = entry.unwrap().path();
            assert!(is_generated(&path), "{}", path.display());
        }
    }
}

#[test]
fn mandoc_has_no_warning() -> std::io::Result<()> {
    let files = pages().into_iter().map(|(path, _)| path);
    let Ok(output) = Command::new("mandoc").args(["-T", "lint", "-W", "style"]).args(files).output() else {
        return skip("mandoc is not installed");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // References depend on the pages that this host has installed, and generated pages do not wrap their source.
    let is_known = |line: &&str| {
        ["referenced manual not found", "input text line longer", "outdated mandoc.db"]
            .iter()
            .any(|known| line.contains(known))
    };
    let findings: Vec<&str> = said.lines().filter(|line| !is_known(line)).collect();
    assert_eq!(findings, [""; 0]);
    Ok(())
}

/// A page as a terminal of 80 columns shows it; `None` without mandoc.
fn shown(page: &Path) -> Option<String> {
    let output = Command::new("mandoc").args(["-T", "utf8", "-O", "width=78"]).arg(page).output().ok()?;
    assert!(output.status.success(), "{}", page.display());
    // Bold is a letter, a backspace and the letter again.
    let mut text = String::new();
    for letter in String::from_utf8(output.stdout).unwrap().chars() {
        if letter == '\u{8}' {
            text.pop();
        } else {
            text.push(letter);
        }
    }
    Some(text)
}

#[test]
fn pages_fit_80_columns() -> std::io::Result<()> {
    for (path, source) in pages() {
        let Some(text) = shown(&path) else { return skip("mandoc is not installed") };
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(text.lines().count() > 20 && long.is_empty(), "{}: {long:#?}", path.display());
        if !source.contains("Do not edit.") {
            let long: Vec<&str> = source.lines().filter(|line| line.chars().count() > WIDTH).collect();
            assert!(long.is_empty(), "{}: {long:#?}", path.display());
        }
    }
    Ok(())
}

/// The long options of a command and of all commands below it. A hidden one is for the program itself.
fn long_options(command: &clap::Command) -> BTreeSet<String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let own = shown.filter_map(|argument| argument.get_long()).map(str::to_owned);
    own.chain(command.get_subcommands().flat_map(long_options)).collect()
}

/// The words behind two hyphens in a text.
fn words_after_two_hyphens(text: &str) -> BTreeSet<String> {
    let plain = text.replace("\\-", "-").replace("Fl -", "--");
    let is_word = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let words = plain.match_indices("--").map(|(at, _)| &plain[at + 2..]);
    words
        .map(|rest| rest.split(|letter| !is_word(letter)).next().unwrap_or_default())
        .filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_option_is_documented_and_every_documented_option_exists() {
    let mut known: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    for program in programs::all() {
        let options = long_options(&program.command);
        let page = folder("man").join(format!("{}.{}", program.name(), program.section));
        let documented = words_after_two_hyphens(&fs::read_to_string(&page).unwrap());
        assert_eq!(options.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new(), "{}", page.display());
        let foreign: BTreeSet<String> = documented.difference(&options).cloned().collect();
        assert!(foreign.iter().all(|option| OTHERS.contains(&option.as_str()) || option == "delegate"), "{foreign:?}");
        known.extend(options);
    }
    for (path, text) in pages() {
        let unknown: Vec<String> = words_after_two_hyphens(&text).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

/// The references of a page, `NAME(SECTION)`, in man(7) and in mdoc(7).
fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [".Xr", name, section, ..] => found.push(format!("{name}.{section}")),
            [".BR", name, section, ..] if section.starts_with('(') => {
                let section = section.trim_matches(|letter: char| !letter.is_ascii_digit());
                found.push(format!("{}.{section}", name.replace("\\-", "-")));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn pages_refer_to_pages_that_exist() {
    let names: Vec<String> = pages().iter().map(|(path, _)| name(path)).collect();
    for (path, text) in pages() {
        let references = references(&text);
        assert!(references.iter().any(|reference| *reference != name(&path)), "{}: no reference", path.display());
        for reference in references.iter().filter(|name| name.contains("mytoken") || name.contains(".toml")) {
            assert!(names.contains(reference), "{}: {reference}", path.display());
        }
    }
    // Readers find each page from the one about the whole.
    let (_, suite) = pages().into_iter().find(|(path, _)| name(path) == "mytoken-suite.7").unwrap();
    let listed: BTreeSet<String> = references(&suite).into_iter().collect();
    for name in names.iter().filter(|name| *name != "mytoken-suite.7") {
        assert!(listed.contains(name), "mytoken-suite.7 does not name {name}");
    }
}

/// The command lines of a program in a page: command and long options.
fn command_lines(text: &str, program: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> =
            line.split_ascii_whitespace().map(|word| word.trim_matches(|mark| "‘’.,;:[]".contains(mark))).collect();
        for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == program) {
            let Some(command) = words.get(at + 1) else { continue };
            let options = words.iter().skip(at + 2).take_while(|word| !["|", "&&", program].contains(*word));
            let options = options.filter_map(|word| word.strip_prefix("--")).filter(|name| !name.is_empty());
            let name = |option: &str| option.split(['=', '[', ']']).next().unwrap_or_default().to_owned();
            found.push(((*command).to_owned(), options.map(name).collect()));
        }
    }
    found
}

#[test]
fn command_lines_have_the_options_of_their_command() -> std::io::Result<()> {
    let mut lines = 0;
    for (path, _) in pages() {
        let Some(text) = shown(&path) else { return skip("mandoc is not installed") };
        for program in programs::all() {
            for (name, options) in command_lines(&text, program.name()) {
                let Some(command) = program.command.find_subcommand(&name) else { continue };
                let known = long_options(command);
                let unknown: Vec<&String> = options.iter().filter(|option| !known.contains(*option)).collect();
                assert!(unknown.is_empty(), "{}: {} {name}: {unknown:?}", path.display(), program.name());
                lines += 1;
            }
        }
    }
    assert!(lines > 30, "only {lines} command lines were found");
    Ok(())
}

#[test]
fn command_lines_are_recognised() {
    let found = command_lines("a p check --as x, ‘p status --login’ and\np ssh --delegate[=D] | q --z\np\n", "p");
    let expected = [("check", vec!["as"]), ("status", vec!["login"]), ("ssh", vec!["delegate"])];
    let expected =
        expected.map(|(name, options)| (name.to_owned(), options.into_iter().map(str::to_owned).collect::<Vec<_>>()));
    assert_eq!(found, expected);
}

#[test]
fn every_page_has_the_sections_that_readers_expect() {
    for (path, text) in pages() {
        let has = |heading: &str| text.lines().any(|line| line.replace('"', "").eq_ignore_ascii_case(heading));
        let headings: &[&str] = match name(&path).as_str() {
            "mytoken-submit.1" => &["EXIT STATUS", "ENVIRONMENT", "FILES"],
            page if page.ends_with(".1") || page == "mytokend.8" => &["EXIT STATUS", "FILES", "EXAMPLES"],
            _ => &["FILES", "EXAMPLES"],
        };
        for heading in ["NAME", "DESCRIPTION", "SEE ALSO"].iter().chain(headings) {
            let is_there = has(&format!(".SH {heading}")) || has(&format!(".Sh {heading}"));
            assert!(is_there, "{}: no section {heading}", path.display());
        }
    }
}
