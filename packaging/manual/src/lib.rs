// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the manual pages and completions that are made of the code: commands from clap, configuration files from the samples.
//! It is not shipped. The pages about the whole, the module and the plugin are written by hand in `packaging/man`.
#![forbid(unsafe_code)]

mod command_page;
mod completion;
mod file_page;
pub mod programs;
pub mod release;
pub mod sample;

use std::io;
use std::path::{Path, PathBuf};

/// A file that this crate makes.
#[derive(Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Its path below `packaging`.
    pub path: PathBuf,
    /// What it contains.
    pub text: String,
}

/// The folder `packaging`.
pub fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files that this crate makes.
///
/// # Errors
/// A source cannot be read, or a sample has an unexpected form.
pub fn generated() -> io::Result<Vec<GeneratedFile>> {
    let date = release::date()?;
    let mut files = Vec::new();
    for program in programs::all() {
        files.push(command_page::page(&program, &date)?);
        files.extend(completion::completions(&program)?);
    }
    for page in file_page::PAGES {
        files.push(page.render(&date)?);
    }
    Ok(files)
}

/// Reads a file below `packaging`; an error names it.
fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let path = packaging().join(path);
    std::fs::read_to_string(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
