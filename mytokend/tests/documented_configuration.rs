// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration in the documents can be used as it is: each `toml` block names its file in the first line, and the product loads the
//! files of a page together.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mytoken::config::{FileTrust, IssuerSettings, Shared};
use mytoken_login::{LoginSettings, MapFile};
use mytokend::jobs::own_profiles::OwnProfiles;
use mytokend::jobs::settings::JobsSettings;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// All pages below a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The texts of the `toml` blocks of a page.
fn texts(page: &str) -> impl Iterator<Item = &str> {
    page.split("\n```toml\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0)
}

/// The first line of a block with a user's own file.
const OWN: &str = "# ~/.config/mytoken/jobs.toml\n";

/// The begin of a block with a drop-in for jobs.toml.
const DROP_IN: &str = "# /etc/mytoken/jobs.d/";

/// The begin of a block with keys for an issuer.
const ISSUER_KEYS: &str = "# a part of [[issuer]] in /etc/mytoken/mytoken.toml\n";

/// The `toml` blocks of a page with files of the site: name of the file, and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let texts = texts(page).filter(|text| ![OWN, DROP_IN, ISSUER_KEYS].iter().any(|begin| text.starts_with(begin)));
    let named = texts.map(|text| {
        let first = text.lines().next().unwrap();
        let name = first.strip_prefix("# /etc/mytoken/").unwrap_or_else(|| panic!("no file is named: {text}"));
        (name.to_owned(), text.to_owned())
    });
    named.collect()
}

fn loaded<T, E: std::fmt::Display>(page: &Path, result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// Loads the blocks of a page as `/etc/mytoken`. Returns the names of the files.
fn load(page: &Path) -> BTreeSet<String> {
    load_files(page, blocks(&fs::read_to_string(page).unwrap()))
}

fn load_files(page: &Path, files: Vec<(String, String)>) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut names = BTreeSet::new();
    for (name, text) in files {
        fs::write(folder.path().join(&name), text).unwrap();
        assert!(names.insert(name), "{}: a file twice", page.display());
    }
    let trust = FileTrust::user(nix::unistd::geteuid().as_raw());
    let has = |name: &str| names.contains(name);
    if names.is_empty() {
        return names;
    }
    let shared = loaded(page, Shared::load(folder.path(), trust));
    if has("login.toml") {
        loaded(page, LoginSettings::load(folder.path(), trust, &shared));
    }
    if has("jobs.toml") {
        loaded(page, JobsSettings::load(folder.path(), trust, &shared));
    }
    for name in &names {
        assert!(["mytoken.toml", "login.toml", "jobs.toml"].contains(&name.as_str()), "{}: {name}", page.display());
    }
    names
}

#[test]
fn the_configuration_of_every_page_can_be_loaded() {
    let loaded: usize = pages(&docs()).iter().map(|page| load(page).len()).sum();
    assert!(loaded >= 10, "only {loaded} files were found");
}

#[test]
fn the_users_own_file_of_every_page_narrows_the_profile_of_the_sample() {
    let sample = fs::read_to_string(docs().join("../packaging/samples/jobs.toml")).unwrap();
    let jobs: JobsSettings = toml::from_str(&sample).unwrap();
    let mut found = 0;
    for page in pages(&docs()) {
        for text in texts(&fs::read_to_string(&page).unwrap()).filter(|text| text.starts_with(OWN)) {
            let own: OwnProfiles = toml::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            for name in own.names() {
                loaded(&page, own.narrowed(&jobs, name.name).unwrap());
                found += 1;
            }
            loaded(&page, own.defaults(&jobs));
        }
    }
    assert!(found > 0);
}

#[test]
fn the_drop_ins_of_every_page_fit_the_sample() {
    let sample = fs::read_to_string(docs().join("../packaging/samples/jobs.toml")).unwrap();
    let mut found = 0;
    for page in pages(&docs()) {
        for text in texts(&fs::read_to_string(&page).unwrap()).filter(|text| text.starts_with(DROP_IN)) {
            let jobs: JobsSettings = loaded(&page, toml::from_str(&format!("{sample}\n{text}")));
            loaded(&page, jobs.check(&["mytoken"]));
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn the_keys_for_an_issuer_on_every_page_fit_an_issuer() {
    let issuer = "name = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://cluster.example.org']";
    let mut found = 0;
    for page in pages(&docs()) {
        for text in texts(&fs::read_to_string(&page).unwrap()).filter(|text| text.starts_with(ISSUER_KEYS)) {
            let issuer: IssuerSettings = loaded(&page, toml::from_str(&format!("{issuer}\n{text}")));
            loaded(&page, issuer.validate());
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn every_page_on_a_provider_has_a_whole_configuration_and_says_what_was_tried() {
    let providers: Vec<PathBuf> =
        pages(&docs().join("providers")).into_iter().filter(|page| !page.ends_with("README.md")).collect();
    assert_eq!(providers.len(), 7, "{providers:?}");
    for page in providers {
        let names = load(&page);
        assert!(names.contains("mytoken.toml") && names.contains("login.toml"), "{}: {names:?}", page.display());
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains("ried here"), "{} does not say what was tried", page.display());
    }
}

/// The text of a variable in an inventory of Ansible: the lines behind `NAME: |` that are indented further.
fn variable(inventory: &str, name: &str) -> String {
    let (before, rest) = inventory.split_once(&format!("{name}: |\n")).unwrap_or_else(|| panic!("no {name}"));
    let indent = before.rsplit('\n').next().unwrap().len() + 2;
    let lines = rest.lines().take_while(|line| line.len() > indent && line.get(..indent).unwrap().trim().is_empty());
    lines.map(|line| line.get(indent..).unwrap().to_owned() + "\n").collect()
}

#[test]
fn the_configuration_of_the_ansible_inventory_can_be_loaded() {
    let path = docs().join("../packaging/ansible/inventory.example.yml");
    let inventory = fs::read_to_string(&path).unwrap();
    let file = |name: &str, of: &str| (name.to_owned(), variable(&inventory, of));
    let files = vec![
        file("mytoken.toml", "mytoken_toml"),
        file("login.toml", "mytoken_login_toml"),
        file("jobs.toml", "mytoken_jobs_toml"),
    ];
    assert!(files.iter().all(|(_, text)| text.lines().count() > 4), "{files:?}");
    assert_eq!(load_files(&path, files).len(), 3);
}

/// The examples of a manual page: its text between `.nf` and `.fi`.
fn example(page: &str) -> String {
    let path = docs().join("../packaging/manual/sections").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let section = text.split_once(".SH EXAMPLES\n").unwrap().1;
    section.split_once(".nf\n.RS 4\n").unwrap().1.split_once(".RE\n").unwrap().0.to_owned()
}

#[test]
fn the_examples_of_the_manual_pages_fit_together() {
    let names = ["mytoken.toml", "login.toml", "jobs.toml"];
    let files = names.map(|name| (name.to_owned(), example(&format!("{name}.man"))));
    assert!(files.iter().all(|(_, text)| text.lines().count() > 5), "{files:?}");
    assert_eq!(load_files(Path::new("the manual pages"), files.to_vec()).len(), 3);
}

#[test]
fn lists_of_accounts_in_the_documents_are_map_files() {
    let mut lines = 0;
    for page in pages(&docs()) {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("\n```text\n# /etc/mytoken/users.map").skip(1) {
            let file = MapFile::parse(format!("#{}", block.split_once("\n```").unwrap().0).as_bytes());
            assert!(file.errors().is_empty(), "{}: {:?}", page.display(), file.errors());
            lines += 1;
        }
    }
    assert!(lines > 3, "only {lines} were found");
}
