// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people without our packages install: archives, the wheel, the formula, container images. Tests of what was not built are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::site::paths;
use testbed::{Error, Result, skip};

mod archives;
mod formula;
mod images;
mod wheel;

/// The files below `target/FOLDER` whose names end so; `None` after the test was recorded as skipped.
fn built(folder: &str, end: &str) -> Result<Option<Vec<PathBuf>>> {
    let names = fs::read_dir(paths::target().join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = names.filter(|file| file.to_string_lossy().ends_with(end)).collect();
    files.sort();
    if files.is_empty() {
        skip(&format!("there is no {end} in target/{folder}; run `make {folder}`"))?;
        return Ok(None);
    }
    Ok(Some(files))
}

fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|source| Error::Io { what: format!("running {command:?}"), source })
}

/// The standard output of a command that must succeed.
fn text(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    assert!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Io { what: path.display().to_string(), source })
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|source| Error::Io { what: "making a directory".into(), source })
}
