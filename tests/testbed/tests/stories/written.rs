// SPDX-License-Identifier: MIT OR Apache-2.0
//! What documents tell an administrator to type. Stories run it word by word.

use std::fs;

use testbed::site::paths;
use testbed::site::servers::{AUDIENCE, MYTOKEN_SERVER, PROVIDER, RESOURCE_SERVER};
use testbed::{Error, Result};

/// The names of the site in place of those of the documents. Nothing else is changed.
pub const NAMES: &[(&str, &str)] = &[
    ("https://mytoken.example.org", MYTOKEN_SERVER),
    ("https://op.example.org", PROVIDER),
    ("https://se.example.org", RESOURCE_SERVER),
    ("https://cluster.example.org", AUDIENCE),
    ("login.cluster.example.org", "testbed"),
];

/// A document of the repository.
pub fn document(name: &str) -> Result<String> {
    let path = paths::repository().join(name);
    fs::read_to_string(&path).map_err(|source| Error::Io { what: path.display().to_string(), source })
}

/// What a person pastes at once: a command with its continued lines, or a file by `cat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    /// Lines of the file that it writes; zero for a command.
    pub configuration: usize,
}

/// The steps of all code blocks of a section, with the site's names.
pub fn steps(section: &str) -> Vec<Step> {
    section.split("```\n").skip(1).step_by(2).flat_map(steps_of_block).collect()
}

/// The steps of the blocks that a page marks as `sh`.
pub fn shell_steps(page: &str) -> Vec<Step> {
    let blocks = page.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.flat_map(steps_of_block).collect()
}

/// The steps of a plain text whose commands are indented by four blanks.
pub fn indented_steps(text: &str) -> Vec<Step> {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    steps_of_block(&lines.join("\n"))
}

fn steps_of_block(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = block.lines().filter(|line| !line.trim().is_empty());
    while let Some(line) = lines.next() {
        let mut step = Step { text: line.to_owned(), configuration: 0 };
        while step.text.ends_with('\\') {
            step.text.push('\n');
            step.text.push_str(lines.next().unwrap_or_default());
        }
        if line.ends_with("<<'END'") {
            for line in lines.by_ref().take_while(|line| *line != "END") {
                step.text.push_str(&format!("\n{line}"));
                step.configuration += 1;
            }
            step.text.push_str("\nEND\n");
        }
        steps.push(Step { text: with_names(&step.text), ..step });
    }
    steps
}

/// The commands behind `Back:` of a text, the last one first.
pub fn ways_back(section: &str) -> Vec<String> {
    let spans = section.split("Back: `").skip(1).filter_map(|rest| rest.split('`').next());
    let mut ways: Vec<String> = spans.map(|span| with_names(&span.replace('\n', " "))).collect();
    ways.reverse();
    ways
}

pub fn with_names(text: &str) -> String {
    NAMES.iter().fold(text.to_owned(), |text, (documents, ours)| text.replace(documents, ours))
}
