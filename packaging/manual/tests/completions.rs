// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shells themselves read the committed completions, and offer commands and options.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::io::Result;
use std::process::Command;

use skipped::skip;

/// What a shell prints for a script; `None` if the shell is not installed.
fn run(shell: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(shell).args(arguments).current_dir(manual::packaging().join("completions")).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{shell} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Lines to complete, and some words of the answer.
const LINES: [(&str, &[&str], &[&str]); 4] = [
    ("mytokenctl", &["ch"], &["check"]),
    ("mytokenctl", &["check", "--only-"], &["--only-read"]),
    ("mytokend", &["agent", "--std"], &["--stderr"]),
    ("mytoken-ssh", &["login", "--sc"], &["--scope"]),
];

#[test]
fn bash_completes_commands_and_options() -> Result<()> {
    for (program, words, expected) in LINES {
        let last = words.len();
        let script = format!(
            "source bash/{program}; COMP_WORDS=({program} {words}); COMP_CWORD={last}; \
             function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $function {program} {current} {previous}; echo \"${{COMPREPLY[@]}}\"",
            words = words.join(" "),
            current = words.last().unwrap(),
            previous = words.iter().rev().nth(1).unwrap_or(&program),
        );
        let Some(answer) = run("bash", &["--norc", "-c", &script]) else { return skip("bash is not installed") };
        assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), expected, "{program} {words:?}");
    }
    Ok(())
}

#[test]
fn fish_completes_commands_and_options() -> Result<()> {
    for (program, words, expected) in LINES {
        let line = format!("{program} {}", words.join(" "));
        let script = format!("source fish/{program}.fish; complete --do-complete '{line}'");
        let Some(answer) = run("fish", &["--no-config", "-c", &script]) else { return skip("fish is not installed") };
        let offered: Vec<&str> = answer.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(offered, expected, "{line}");
    }
    Ok(())
}

#[test]
fn zsh_reads_the_completions() -> Result<()> {
    for (program, ..) in LINES {
        let script = format!(
            "autoload -Uz compinit; compinit -D -u; fpath=($PWD/zsh $fpath); autoload -Uz +X _{program}; \
             functions _{program} | grep -c _arguments"
        );
        let Some(answer) = run("zsh", &["-f", "-c", &script]) else { return skip("zsh is not installed") };
        assert!(answer.trim().parse::<u32>().unwrap() > 1, "{program}: {answer}");
    }
    Ok(())
}

/// The long options that help does not show.
fn hidden(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter(|argument| argument.is_hide_set());
    let own = own.filter_map(|argument| argument.get_long().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(hidden)).collect()
}

#[test]
fn no_shell_offers_an_option_that_the_program_passes_to_itself() {
    let typed = manual::programs::all().into_iter().filter(|program| program.is_typed);
    let hidden: Vec<String> = typed.flat_map(|program| hidden(&program.command)).collect();
    assert!(hidden.iter().any(|name| name == "only-account"), "{hidden:?}");
    for file in manual::generated().unwrap().iter().filter(|file| file.path.starts_with("completions")) {
        let words = file.text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        for name in &hidden {
            let offered = words.contains(&format!("--{name}").as_str())
                || words.windows(2).any(|two| two == ["-l", name.as_str()]);
            assert!(!offered, "{}: --{name}", file.path.display());
        }
    }
}
