// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that the command lines in the documents are the program's. Each crate with a program that users call includes this file, and
//! asks the program itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command line in a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// The subcommand; empty if there is none.
    pub command: String,
    /// The word behind it, which some commands have for a subcommand of theirs.
    pub next: String,
    /// The long options, without values.
    pub options: Vec<String>,
}

/// Fails unless `binary`, called `program` in the documents, has every command and option that they name. `passes_on` lists the commands
/// whose options end at their first argument.
pub fn check(program: &str, binary: &str, passes_on: &[&str], at_least: usize) {
    let mut found = BTreeSet::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        found.extend(written(&text, program, passes_on).into_iter().map(|written| (written, path.clone())));
    }
    assert!(found.len() >= at_least, "only these lines were found: {found:?}");
    let help = |words: &[&str]| {
        let help = Command::new(binary).args(words).arg("--help").output().unwrap();
        String::from_utf8_lossy(&help.stdout).into_owned()
    };
    let commands = commands(&help(&[]));
    for (Written { command, next, options }, path) in found {
        // Not by trying: `mytoken-ssh nonsense` connects to a host.
        let exists = command.is_empty() || commands.contains(&command);
        assert!(exists, "{}: {program} has no command {command}, only {commands:?}", path.display());
        let mut words: Vec<&str> = [command.as_str()].into_iter().filter(|word| !word.is_empty()).collect();
        let mut text = help(&words);
        let below = self::commands(&text);
        if !command.is_empty() && !below.is_empty() && !next.is_empty() {
            assert!(
                below.contains(&next),
                "{}: {program} {command} has no command {next}, only {below:?}",
                path.display()
            );
            words.push(&next);
            text = help(&words);
        }
        for option in options {
            let known = text.split_ascii_whitespace().any(|word| word.split(['=', '[', ',']).next() == Some(&option));
            assert!(known, "{}: {program} {command} has no option {option}:\n{text}", path.display());
        }
    }
}

/// The subcommands in a program's help.
fn commands(help: &str) -> BTreeSet<String> {
    let section = help.split_once("Commands:\n").unwrap_or_default().1.split("\n\n").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// All documents of the tree for users and administrators, and the Ansible role.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).into();
    let mut folders = vec![root.join("docs"), root.join("packaging")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if [".md", ".yml"].iter().any(|end| name.ends_with(end)) || name.contains("README.") {
                found.push(path);
            }
        }
    }
    found
}

/// The command lines of `program` in code blocks, indented lines and spans of code.
pub fn written(text: &str, program: &str, passes_on: &[&str]) -> Vec<Written> {
    let mut code = Vec::new();
    let mut is_block = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block || line.starts_with("    ") {
            code.push(line.to_owned());
        } else {
            prose += line;
            prose.push(' ');
        }
    }
    // A line that ends with a backslash goes on in the next one.
    let blocks = code.join("\n").replace("\\\n", " ");
    let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    let lines = blocks.lines().map(str::to_owned).chain(spans);
    lines.flat_map(|line| parse(&line, program, passes_on)).collect()
}

fn parse(line: &str, program: &str, passes_on: &[&str]) -> Vec<Written> {
    let mut found = Vec::new();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    for (index, word) in words.iter().enumerate() {
        // A path of the program counts; a word in quotes or a message (`mytokenctl: ...`) does not.
        if word.rsplit('/').next() != Some(program) || is_prose(&words, index) {
            continue;
        }
        let mut rest = words.get(index + 1..).unwrap_or_default().iter().copied().peekable();
        let is_command = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.contains(['.', '@']);
        let command = rest.next_if(is_command).unwrap_or_default().trim_end_matches(['"', '\'', ';', ',', ':']);
        let next = rest.clone().next().filter(|word| is_command(word)).unwrap_or_default();
        let next = next.trim_end_matches(['"', '\'', ';', ',', ':']);
        // `ssh|scp|sftp` in a synopsis are three.
        for command in command.split('|') {
            let mut options = Vec::new();
            let mut expects_value = false;
            for word in rest.clone() {
                if ["|", "<", ">", "--", "#", "&&", ";", "or"].contains(&word) || word.starts_with(['#', '<', '>']) {
                    break;
                }
                let word = word.trim_start_matches('[');
                if let Some(option) = word.strip_prefix("--") {
                    let name = option.split(['=', '[', ']', ';']).next().unwrap_or_default();
                    expects_value = !option.contains('=') && name != "delegate";
                    options.push(format!("--{name}"));
                } else if !std::mem::take(&mut expects_value) && passes_on.contains(&command) {
                    break;
                }
            }
            found.push(Written { command: command.to_owned(), next: next.to_owned(), options });
        }
    }
    found
}

/// Whether the program's name is an argument, of a package manager or of a service manager, or in a comment.
fn is_prose(words: &[&str], index: usize) -> bool {
    let before = words.get(..index).unwrap_or_default();
    // A comment behind a command is prose.
    if before.contains(&"#") {
        return true;
    }
    before.iter().any(|word| {
        ["apt", "dnf", "systemctl", "journalctl", "pgrep", "systemd-analyze", "cargo", "-p", "grep"].contains(word)
    }) && !before.iter().any(|word| ["&&", ";", "|"].contains(word))
}
