// SPDX-License-Identifier: MIT OR Apache-2.0
//! The book: every page is in its summary, and messages that it quotes are the product's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::markdown::Page;
use super::{documents, normal, root};

/// Crates of the product, where its messages stand.
const PRODUCT: [&str; 8] =
    ["mytoken-wire", "mytoken", "login-child", "mytoken-login", "pam-mytoken", "slurm-spank", "mytokend", "ssh-helper"];

/// The pages of the book, by their paths in the tree.
fn chapters() -> BTreeSet<PathBuf> {
    let summary = Page::parse(&fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap());
    summary.files().into_iter().map(|(path, _)| normal(&Path::new("docs").join(path))).collect()
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

/// The paths that `make book` copies into the book.
fn copied() -> Vec<String> {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let line = makefile.lines().find_map(|line| line.strip_prefix("\t@cp -a --parents ")).unwrap();
    line.split(' ').filter(|path| *path != "$(BOOK_SOURCE)").map(str::to_owned).collect()
}

/// Whether one of the paths that are copied, which can end or begin with `*`, is this path or a folder above it.
fn is_copied(copied: &[String], path: &Path) -> bool {
    copied.iter().any(|copied| match (copied.strip_prefix('*'), copied.strip_suffix('*')) {
        (Some(end), _) => path.components().count() == 1 && path.to_string_lossy().ends_with(end),
        (_, Some(begin)) => path.to_string_lossy().starts_with(begin),
        _ => path.starts_with(copied),
    })
}

#[test]
fn every_page_is_in_the_book_and_links_lead_to_pages_of_the_book() {
    let (chapters, copied) = (chapters(), copied());
    assert!(chapters.len() > 20, "{chapters:?}");
    for (place, text) in documents() {
        let is_for_readers = place.components().count() == 1 || place.starts_with("docs");
        if place.ends_with("SUMMARY.md") || !(is_for_readers || chapters.contains(&place)) {
            continue;
        }
        assert!(chapters.contains(&place), "{} is missing in docs/SUMMARY.md", place.display());
        assert!(is_copied(&copied, &place), "{}: `make book` does not copy it", place.display());
        for (path, _) in Page::parse(&text).files().into_iter().filter(|(path, _)| !path.is_empty()) {
            let target = normal(&place.parent().unwrap().join(path));
            let is_page = path.ends_with(".md");
            assert!(!is_page || chapters.contains(&target), "{}: {path} is not in docs/SUMMARY.md", place.display());
            assert!(is_copied(&copied, &target), "{}: {path} is not in the book", place.display());
            // A browser has no page for a directory.
            assert!(!root().join(&target).is_dir(), "{}: {path} is a directory", place.display());
        }
    }
}

#[test]
fn what_the_book_contains_is_recognised() {
    let copied = ["*.md", "LICENSE-*", "docs", "a/b.md"].map(str::to_owned);
    for (path, expected) in [
        ("README.md", true),
        ("x/README.md", false),
        ("LICENSE-MIT", true),
        ("docs/a/b", true),
        ("documents", false),
        ("a/b.md", true),
        ("a", false),
    ] {
        assert_eq!(is_copied(&copied, Path::new(path)), expected, "{path}");
    }
}

/// The values of an attribute in a page of HTML that mdBook wrote.
fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    let mark = format!(" {attribute}=\"");
    html.split(&mark).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The HTML pages below a folder, by their paths in it.
fn html_pages(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                let text = fs::read_to_string(&path).unwrap();
                pages.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
            }
        }
    }
    pages
}

/// The links of the built book that lead to nothing.
fn broken_links(folder: &Path) -> Vec<String> {
    let pages = html_pages(folder);
    let mut broken = Vec::new();
    for (place, html) in &pages {
        // It stands for any address, and the book may be served below any path.
        if place == Path::new("404.html") {
            continue;
        }
        for link in values(html, "href").into_iter().chain(values(html, "src")) {
            if link.contains("://") || link.starts_with(['#']) && link.len() == 1 {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { place.clone() } else { normal(&place.parent().unwrap().join(path)) };
            let is_there = folder.join(&target).is_file();
            let has_anchor = || pages.get(&target).is_some_and(|html| values(html, "id").contains(&anchor));
            if !is_there || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{}: {link}", place.display()));
            }
        }
    }
    broken
}

#[test]
fn the_book_that_mdbook_builds_has_all_pages_and_no_broken_link() {
    if Command::new("mdbook").arg("--version").output().is_err() {
        return testbed::skip("mdbook is not installed").unwrap();
    }
    let target = tempfile::tempdir().unwrap();
    let mut make = Command::new("make");
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env("CARGO_TARGET_DIR", target.path());
    let built = make.arg("-C").arg(root()).arg("book").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&built.stdout), String::from_utf8_lossy(&built.stderr));
    assert!(built.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let book = target.path().join("book");
    for chapter in chapters() {
        assert!(book.join(chapter.with_extension("html")).is_file(), "{} was not built", chapter.display());
    }
    assert_eq!(broken_links(&book), [""; 0]);
}

#[test]
fn broken_links_of_a_built_book_are_found() {
    let book = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(book.path().join(name), text).unwrap();
    fs::create_dir(book.path().join("a")).unwrap();
    write("index.html", r##"<a href="a/b.html#c">1</a> <a href="a/b.html#d">2</a> <a href="https://x/y">3</a>"##);
    write("a/b.html", r##"<h1 id="c"></h1><a href="#c">1</a><a href="../no.html"></a><img src="b.svg">"##);
    let mut broken = broken_links(book.path());
    broken.sort();
    assert_eq!(broken, ["a/b.html: ../no.html", "a/b.html: b.svg", "index.html: a/b.html#d"]);
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
