// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files beside the drop-ins, and beside the further private keys, that are not read because of their names.

use std::path::Path;

use super::configuration::word;
use super::{Findings, kinds};
use crate::jobs::further_keys::{KEY, RETIRED};

/// The directories of drop-ins.
const DIRECTORIES: [&str; 3] = ["mytoken.d", "login.d", "jobs.d"];

/// How names end of which everybody knows that they do not count: those of editors, of package managers, and of this program's commands.
const SET_ASIDE: [&str; 11] =
    ["~", ".bak", ".orig", ".old", ".save", ".rpmnew", ".rpmsave", ".rpmorig", ".disabled", ".unused", ".before"];

/// Most names in a sentence.
const MOST_SHOWN: usize = 5;

impl Findings {
    /// Warns of files in the directories of drop-ins that are passed over.
    pub(super) fn drop_ins(&mut self, dir: &Path) {
        for directory in DIRECTORIES.map(|name| dir.join(name)) {
            self.passed_over(&directory, &[".toml"]);
        }
    }

    /// Warns of files in the directory of the further private keys that are passed over.
    pub(super) fn unread_keys(&mut self, directory: &Path) {
        self.passed_over(directory, &[KEY, RETIRED]);
    }

    fn passed_over(&mut self, directory: &Path, read: &[&str]) {
        // A directory that cannot be read is a finding of its own.
        let names = directory.read_dir().into_iter().flatten().flatten();
        // What is in a directory was set aside.
        let names = names.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| is_passed_over(name, read)).collect();
        names.sort_unstable();
        let Some(first) = names.first() else { return };
        let shown: Vec<String> = names.iter().take(MOST_SHOWN).map(|name| word(name)).collect();
        let more = names.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (are, path) = (if names.len() == 1 { "is" } else { "are" }, directory.display());
        let text =
            format!("{path}: {}{more} {are} not read: a name must end with {}", shown.join(", "), read.join(" or "));
        // Somebody may have renamed it so that it does not count.
        let end = read.first().copied().unwrap_or_default();
        let path = |name: &str| word(&directory.join(name).to_string_lossy());
        let mut fix = format!("ls -l {}", word(&directory.to_string_lossy()));
        // A copy would count beside what it is a copy of.
        if !first.contains(end) && !first.contains(char::REPLACEMENT_CHARACTER) {
            let (now, then) = (path(first), path(&renamed(first, end)));
            fix.push_str(&format!("   # if it should count, rename it: mv -nT {now} {then}"));
        }
        self.add_fixed(kinds::DROP_IN_UNREAD, text, fix);
    }
}

/// Whether nobody reads a file of this name, and its name does not say so.
fn is_passed_over(name: &str, read: &[&str]) -> bool {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    // dpkg-old, dpkg-dist, ucf-new and others.
    let of_packages = [".dpkg-", ".ucf-"].iter().any(|part| name.contains(part));
    let of_emacs = name.starts_with('#') && name.ends_with('#');
    let is_silent = name.starts_with('.') || name.starts_with("README") || of_packages || of_emacs;
    !(is_silent || ends(read) || ends(&SET_ASIDE))
}

/// The name with another end.
fn renamed(name: &str, end: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_passed_over_is_told_unless_its_name_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut findings = Findings::default();
        findings.drop_ins(dir.path());
        let directory = dir.path().join("login.d");
        std::fs::create_dir(&directory).unwrap();
        let silent = [
            "10-vo.toml",
            ".hidden",
            ".#10-vo.toml",
            "10-vo.toml~",
            "a.toml.bak",
            "a.toml.orig",
            "a.toml.dpkg-old",
            "a.toml.dpkg-dist",
            "a.toml.ucf-dist",
            "a.toml.rpmnew",
            "a.toml.rpmsave",
            "a.toml.unused.~1~",
            "README",
            "README.md",
            "a.toml.disabled",
            "#10-vo.toml#",
            "a.toml.save",
        ];
        for name in silent {
            std::fs::write(directory.join(name), "").unwrap();
        }
        std::fs::create_dir(directory.join("lost+found")).unwrap();
        findings.drop_ins(dir.path());
        assert!(findings.findings.is_empty(), "{findings:?}");
        // With another name it would count twice.
        std::fs::write(directory.join("10-vo.toml.20261130"), "").unwrap();
        findings.drop_ins(dir.path());
        assert_eq!(findings.findings[0].fix, Some(format!("ls -l {}", directory.display())));
        std::fs::remove_file(directory.join("10-vo.toml.20261130")).unwrap();
        findings = Findings::default();
        std::fs::write(directory.join("deny.conf"), "[accounts]\ndeny = ['eve']\n").unwrap();
        findings.drop_ins(dir.path());
        let [found] = &findings.findings[..] else { panic!("{findings:?}") };
        let path = directory.display();
        assert_eq!(found.text, format!("{path}: deny.conf is not read: a name must end with .toml"));
        let fix = format!("ls -l {path}   # if it should count, rename it: mv -nT {path}/deny.conf {path}/deny.toml");
        assert_eq!((found.id.as_deref(), found.fix.as_deref()), (Some("drop-in-not-read"), Some(fix.as_str())));
        for name in ["toml", "deny.TOML", "deny.toml.txt", "a", "b", "c"] {
            std::fs::write(directory.join(name), "").unwrap();
        }
        let mut findings = Findings::default();
        findings.drop_ins(dir.path());
        let text = &findings.findings[0].text;
        assert!(text.contains("a, b, c, deny.TOML, deny.conf and 2 more are not read"), "{text}");
    }

    #[test]
    fn a_key_with_another_name_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0123abcd.key", "4567abcd.retired", "0123abcd.key.before", "0123abcd.key.before.~1~", "README"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut findings = Findings::default();
        findings.unread_keys(dir.path());
        assert!(findings.findings.is_empty(), "{findings:?}");
        std::fs::write(dir.path().join("89abcdef.pem"), "").unwrap();
        findings.unread_keys(dir.path());
        assert!(findings.findings[0].text.contains("89abcdef.pem is not read: "), "{findings:?}");
    }
}
