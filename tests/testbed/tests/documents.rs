// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the documents: paths, links and tests that they name exist, and lines have at most 100 columns.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use markdown::Page;

#[path = "documents/book.rs"]
mod book;
#[path = "documents/foreign.rs"]
mod foreign;
#[path = "documents/hosts.rs"]
mod hosts;
#[path = "documents/keys.rs"]
mod keys;
#[path = "documents/log_lines.rs"]
mod log_lines;
#[path = "documents/markdown.rs"]
mod markdown;

/// Longest line in characters. Tables and code are not checked, because they cannot be wrapped.
const WIDTH: usize = 100;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// All Markdown files by their places in the tree.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // What builds leave: cargo's directory, also that of fuzz, and those of tools, which begin with a dot.
            if name == "target" || name.starts_with('.') || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".md") {
                documents.push((path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(documents.len() > 30, "only {} documents were found", documents.len());
    documents
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

fn long_lines(text: &str) -> Vec<usize> {
    let is_long = |line: &str| !line.starts_with('|') && line.chars().count() > WIDTH;
    let prose = Page::parse(text).prose(text);
    prose.into_iter().filter(|(_, line)| is_long(line)).map(|(number, _)| number).collect()
}

/// Whether a span is a path in the repository. Paths of build products and of hosts are not.
fn is_path(span: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    span.contains('/') && span.bytes().all(is_plain) && !span.starts_with(['/', '.']) && !span.starts_with("target/")
}

/// The text below each heading of the third level.
fn recipes(text: &str) -> Vec<(&str, &str)> {
    let section = text.split("\n## ").find(|section| section.starts_with("Recipes\n")).unwrap_or_default();
    section.split("\n### ").skip(1).filter_map(|recipe| recipe.split_once('\n')).collect()
}

/// The names that a span of code consists of, if it is one name or a path of names: `Lease::new`, `self.record`.
fn names(span: &str) -> Vec<&str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:".contains(&byte);
    if !span.bytes().all(is_name) {
        return Vec::new();
    }
    span.split(['.', ':']).filter(|name| !name.is_empty()).collect()
}

/// The names in a recipe that are in none of its files. `read` returns the text of a file, or of all files of a folder.
fn missing_names(recipe: &str, read: impl Fn(&str) -> String) -> Vec<String> {
    let spans = Page::parse(recipe).spans;
    let texts: Vec<String> = spans.iter().filter(|span| is_path(span)).map(|path| read(path)).collect();
    let is_separator = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let known: HashSet<&str> = texts.iter().flat_map(|text| text.split(is_separator)).collect();
    let missing = spans.iter().filter(|span| names(span).iter().any(|name| !known.contains(name)));
    missing.cloned().collect()
}

/// The text of a file without its comments, or of all files of a folder.
fn read_all(path: &Path) -> String {
    if !path.is_dir() {
        let text = fs::read_to_string(path).unwrap();
        return text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
    }
    fs::read_dir(path).unwrap().map(|entry| read_all(&entry.unwrap().path()) + "\n").collect()
}

/// The possible files of the test and the modules in `cargo test -p PACKAGE --test NAME -- MODULE::`: of each list one must exist.
/// `packages` returns a package's folder.
fn test_files(command: &str, packages: impl Fn(&str) -> Option<PathBuf>) -> Option<Vec<Vec<PathBuf>>> {
    let mut words = command.strip_prefix("cargo test ")?.split(' ');
    let (mut package, mut test, mut modules) = (None, None, Vec::<&str>::new());
    while let Some(word) = words.next() {
        match word {
            "-p" => package = words.next(),
            "--test" => test = words.next(),
            word => modules.extend(word.strip_suffix("::")),
        }
    }
    let folder = packages(package?).unwrap_or_default();
    let Some(test) = test else { return Some(vec![vec![folder.join("Cargo.toml")]]) };
    let either = |path: &str, in_folder: &str| {
        [format!("{path}.rs"), format!("{path}/{in_folder}.rs")].map(|file| folder.join("tests").join(file)).to_vec()
    };
    let mut lists = vec![either(test, "main")];
    lists.extend(modules.into_iter().map(|module| either(&format!("{test}/{}", module.replace("::", "/")), "mod")));
    Some(lists)
}

/// The folder of a package of the workspace.
fn package(name: &str) -> Option<PathBuf> {
    let folders = ["", "tests", "packaging"].map(|folder| root().join(folder).join(name));
    folders.into_iter().find(|folder| folder.join("Cargo.toml").exists())
}

#[test]
fn lines_fit_100_columns() {
    let long: Vec<_> = documents().into_iter().map(|(place, text)| (place, long_lines(&text))).collect();
    let long: Vec<_> = long.iter().filter(|(_, lines)| !lines.is_empty()).collect();
    assert!(long.is_empty(), "lines longer than {WIDTH} columns: {long:?}");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut links = 0;
    for (place, text) in documents() {
        let folder = root().join(place.parent().unwrap());
        let page = Page::parse(&text);
        assert_eq!(page.html, [""; 0], "{}: raw HTML, whose links no test sees", place.display());
        for (path, anchor) in page.files() {
            let target = if path.is_empty() { root().join(&place) } else { folder.join(path) };
            assert!(target.exists(), "{}: no {path}", place.display());
            let has_anchor = || {
                let anchors = Page::parse(&fs::read_to_string(&target).unwrap()).anchors;
                anchors.iter().any(|known| known == anchor)
            };
            assert!(anchor.is_empty() || has_anchor(), "{}: no heading #{anchor} in {path}", place.display());
            links += 1;
        }
    }
    assert!(links > 100, "only {links} links were found");
}

#[test]
fn every_path_and_test_that_contributing_names_exists() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let spans = Page::parse(&text).spans;
    let paths: Vec<&String> = spans.iter().filter(|span| is_path(span)).collect();
    assert!(paths.len() > 20, "only these paths were found: {paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "no {path}");
    }
    let commands: Vec<_> = spans.iter().filter_map(|span| Some((span, test_files(span, package)?))).collect();
    assert!(commands.len() > 5, "only these commands were found: {commands:?}");
    for (command, lists) in commands {
        for files in lists {
            assert!(files.iter().any(|file| file.exists()), "{command}: none of {files:?}");
        }
    }
}

#[test]
fn every_name_in_a_recipe_is_in_a_file_of_the_recipe() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let recipes = recipes(&text);
    assert_eq!(recipes.len(), 7, "{recipes:?}");
    for (title, recipe) in recipes {
        let missing = missing_names(recipe, |path| read_all(&root().join(path)));
        assert_eq!(missing, [""; 0], "{title}: no file that the recipe names has these");
    }
}

#[test]
fn an_unknown_name_in_a_recipe_is_found() {
    let text = "# A\n## Recipes\nx\n### One\n`a/b` has `Lease::new`,\n`self.record`.\n### Two\n`c`\n## B\n### Three\n";
    assert_eq!(recipes(text), [("One", "`a/b` has `Lease::new`,\n`self.record`."), ("Two", "`c`")]);
    let missing =
        |file: &str| missing_names(recipes(text)[0].1, |path| if path == "a/b" { file.into() } else { "".into() });
    assert_eq!(missing("impl Lease { fn new() { self.record(1) } }"), [""; 0]);
    assert_eq!(missing("impl Lease { fn renew() { self.records(1) } }"), ["Lease::new", "self.record"]);
    assert_eq!(names("cargo test"), [""; 0]);
    assert_eq!(names("#[serde(default)]"), [""; 0]);
}

#[test]
fn parts_of_a_document_are_recognised() {
    let (long, fits) = ("ä".repeat(WIDTH + 1), "ä".repeat(WIDTH));
    let text = format!("{fits}\n{long}\n| {long}\n\n```\n{long}\n```\n{long}\n");
    assert_eq!(long_lines(&text), [2, 8]);
    for (span, expected) in [
        ("mytoken/src/lib.rs", true),
        ("fuzz/corpus", true),
        ("lib.rs", false),
        ("/etc/mytoken", false),
        ("target/roots/", false),
        ("make shell", false),
        ("a/b --c", false),
    ] {
        assert_eq!(is_path(span), expected, "{span}");
    }
    let folder = |name: &str| (name == "one").then(|| PathBuf::from("one"));
    let files = |command| test_files(command, folder);
    assert_eq!(files("cargo test -p one"), Some(vec![vec!["one/Cargo.toml".into()]]));
    let two: Vec<PathBuf> = vec!["one/tests/two.rs".into(), "one/tests/two/main.rs".into()];
    assert_eq!(files("cargo test -p one --test two three"), Some(vec![two.clone()]));
    let four: Vec<PathBuf> = vec!["one/tests/two/three/four.rs".into(), "one/tests/two/three/four/mod.rs".into()];
    assert_eq!(files("cargo test -p one --test two -- three::four::"), Some(vec![two, four]));
    assert_eq!(files("cargo build -p one"), None);
}
