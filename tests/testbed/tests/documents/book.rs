// SPDX-License-Identifier: MIT OR Apache-2.0
//! The book: every page is in its summary, and messages that it quotes are the product's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{documents, links, normal, root};

/// Crates of the product, where its messages stand.
const PRODUCT: [&str; 7] =
    ["mytoken-wire", "mytoken", "mytoken-login", "pam-mytoken", "slurm-spank", "mytokend", "ssh-helper"];

/// The pages of the book, by their paths in the tree.
fn chapters() -> BTreeSet<PathBuf> {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    links(&summary).into_iter().map(|(path, _)| normal(&Path::new("docs").join(path))).collect()
}

/// The text of all sources below a folder, with strings of several lines joined as the compiler joins them.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// Joins lines that end with a backslash, and removes the backslashes in front of quotes.
fn joined(source: &str) -> String {
    let mut text = String::new();
    let mut is_continued = false;
    for line in source.lines() {
        let line = if is_continued { line.trim_start() } else { line };
        let kept = line.strip_suffix('\\');
        is_continued = kept.is_some();
        text += kept.unwrap_or(line);
        if !is_continued {
            text.push('\n');
        }
    }
    text.replace("\\\"", "\"")
}

/// The messages in the first column of a page's tables.
fn messages(page: &str) -> Vec<&str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The parts of a message that are always the same. Dots stand for names.
fn fixed_parts(message: &str) -> Vec<&str> {
    message.split('…').map(str::trim).filter(|part| part.chars().any(char::is_alphabetic)).collect()
}

#[test]
fn every_page_is_in_the_book_and_links_lead_to_pages_of_the_book() {
    let chapters = chapters();
    assert!(chapters.len() > 20, "{chapters:?}");
    for (place, text) in documents() {
        if place.ends_with("SUMMARY.md") {
            continue;
        }
        assert!(chapters.contains(&place), "{} is missing in docs/SUMMARY.md", place.display());
        for (path, _) in links(&text).into_iter().filter(|(path, _)| path.ends_with(".md")) {
            let target = normal(&place.parent().unwrap().join(path));
            assert!(chapters.contains(&target), "{}: {path} is not in docs/SUMMARY.md", place.display());
        }
    }
}

#[test]
fn messages_in_the_troubleshooting_are_the_products() {
    let product: String = PRODUCT.iter().map(|name| joined(&sources(&root().join(name).join("src")))).collect();
    let page = fs::read_to_string(root().join("docs/user/troubleshooting.md")).unwrap();
    // Messages of ssh and Slurm, and a name.
    let others = ["Permission denied (publickey)", "unrecognized option", "BEARER_TOKEN_FILE"];
    let messages: Vec<&str> = messages(&page).into_iter().filter(|message| !others.contains(message)).collect();
    assert!(messages.len() > 25, "{messages:?}");
    for message in messages {
        for part in fixed_parts(message) {
            assert!(product.contains(part), "no message of the product has: {part}");
        }
    }
}

/// The manual pages that a text names: `mytokenctl(1)` is `mytokenctl.1`.
fn manual_pages(text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let page = |span: &str| {
        let (name, section) = span.strip_suffix(')')?.split_once('(')?;
        let is_page = name.contains("mytoken") || name.ends_with(".toml");
        let is_page = is_page && name.chars().all(is_name) && section.parse::<u8>().is_ok();
        is_page.then(|| format!("{name}.{section}"))
    };
    text.split('`').skip(1).step_by(2).filter_map(page).collect()
}

#[test]
fn manual_pages_that_documents_name_exist_and_the_guide_names_all() {
    let mut named = BTreeSet::new();
    for (_, text) in documents() {
        named.extend(manual_pages(&text));
    }
    let pages = fs::read_dir(root().join("packaging/man")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    // The guide names this one without its section.
    let pages: BTreeSet<String> = pages.filter(|name| name != "mytoken-suite.7").collect();
    named.remove("mytoken-suite.7");
    assert_eq!(named, pages);
}

#[test]
fn parts_of_a_message_are_recognised() {
    assert_eq!(manual_pages("`mytokenctl(1)`, `login.toml(5)`, `open(2)`, `f(x)`"), ["mytokenctl.1", "login.toml.5"]);
    assert_eq!(messages("| a |\n|---|\n| `b … c` and `d` | `e` |\n"), ["b … c", "d"]);
    assert_eq!(fixed_parts("… cannot be reached (…); try"), ["cannot be reached (", "); try"]);
    assert_eq!(joined("\"a \\\n    b\\\"c\"\nd"), "\"a b\"c\"\nd\n");
    assert_eq!(normal(Path::new("docs/admin/../../README.md")), Path::new("README.md"));
}
