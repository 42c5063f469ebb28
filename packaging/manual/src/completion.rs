// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions for bash, zsh and fish.

use std::io;
use std::path::Path;

use clap_complete::{Shell, generate};

use crate::GeneratedFile;
use crate::programs::Program;

/// The completions of a program that people type.
pub fn completions(program: &Program) -> io::Result<Vec<GeneratedFile>> {
    if !program.is_typed {
        return Ok(Vec::new());
    }
    let name = program.name();
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
