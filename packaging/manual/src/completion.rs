// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions for bash, zsh and fish.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::GeneratedFile;
use crate::programs::Program;

/// The completions of a program that people type.
pub fn completions(program: &Program) -> io::Result<Vec<GeneratedFile>> {
    if !program.is_typed {
        return Ok(Vec::new());
    }
    let name = program.name();
    let hidden = options(&program.command, true);
    if let Some(option) = options(&program.command, false).intersection(&hidden).next() {
        // A line of a completion does not say which command it is about.
        return Err(io::Error::other(format!("{name}: one command hides --{option}, and another one shows it")));
    }
    let places = [
        (Shell::Bash, format!("bash/{name}")),
        (Shell::Zsh, format!("zsh/_{name}")),
        (Shell::Fish, format!("fish/{name}.fish")),
    ];
    let file = |(shell, place): (Shell, String)| {
        let mut text = Vec::new();
        generate(shell, &mut program.command.clone(), name, &mut text);
        let mut text = String::from_utf8(text).map_err(io::Error::other)?;
        if shell == Shell::Bash {
            text = with_matching_names(&text, name);
        }
        let text = without_hidden(shell, &text, &hidden);
        Ok(GeneratedFile { path: Path::new("completions").join(place), text })
    };
    places.into_iter().map(file).collect()
}

/// `clap_complete` 4.6 writes the name of a program with a hyphen in two ways, so that bash finds no option of a command
/// (clap-rs/clap#6421). `tests/completions.rs` shows whether this is right.
fn with_matching_names(text: &str, program: &str) -> String {
    let names = |separator: &str| format!("{}__subcmd__", program.replace('-', separator));
    text.replace(&names("__subcmd__"), &names("__"))
}

/// The long options of a program and of its commands: those that help does not show, because the program passes them to itself, or the
/// others.
fn options(command: &Command, hidden: bool) -> BTreeSet<String> {
    let own = command.get_arguments().filter(|argument| argument.is_hide_set() == hidden);
    let own = own.filter_map(|argument| argument.get_long().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(|below| options(below, hidden))).collect()
}

/// `clap_complete` 4.6 offers hidden options, too. Takes them out.
fn without_hidden(shell: Shell, text: &str, hidden: &BTreeSet<String>) -> String {
    let mut kept = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let code = line.trim();
        let branch = code.strip_prefix("--").and_then(|name| name.strip_suffix(')'));
        match shell {
            Shell::Bash if branch.is_some_and(|name| hidden.contains(name)) => {
                // What completes its value, to the end of this branch.
                lines.by_ref().take_while(|line| line.trim() != ";;").for_each(drop);
            }
            Shell::Bash if code.starts_with("opts=\"") => {
                let without = |line: String, name: &String| {
                    line.replace(&format!(" --{name} "), " ").replace(&format!(" --{name}\""), "\"")
                };
                kept.push_str(&hidden.iter().fold(line.to_owned(), without));
            }
            Shell::Fish if hidden.iter().any(|name| code.contains(&format!(" -l {name} "))) => {}
            Shell::Zsh => kept.extend(line_of_zsh(line, hidden)),
            _ => kept.push_str(line),
        }
    }
    kept
}

/// A line about an option: `'(--OTHER)*--NAME=[HELP]...`, with the options that exclude it. `None`: it is hidden.
fn line_of_zsh(line: &str, hidden: &BTreeSet<String>) -> Option<String> {
    let Some(specification) = line.strip_prefix('\'') else { return Some(line.to_owned()) };
    let excluded = specification.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (others, option) = excluded.unwrap_or(("", specification));
    let name = option.trim_start_matches('*').strip_prefix("--").and_then(|name| name.split(['=', '[']).next());
    if name.is_some_and(|name| hidden.contains(name)) {
        return None;
    }
    if excluded.is_none() {
        return Some(line.to_owned());
    }
    let is_shown = |other: &&str| !other.strip_prefix("--").is_some_and(|name| hidden.contains(name));
    let others: Vec<&str> = others.split(' ').filter(is_shown).collect();
    Some(format!("'({}){option}", others.join(" ")))
}
