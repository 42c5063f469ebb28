// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the checks of sshd and PAM look at, so that they are decided without a host in tests.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mytoken::Deadline;

use crate::program::{self, ProgramError};

/// Time limit of a program.
const PROGRAM: Duration = Duration::from_secs(10);

/// A host.
pub trait Host {
    /// The text of a file; `None` when it cannot be read.
    fn read(&self, path: &Path) -> Option<String>;
    /// Whether there is a file.
    fn exists(&self, path: &Path) -> bool;
    /// Runs a program with a fixed path.
    fn run(&self, program: &Path, arguments: &[&str]) -> Ran;
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// Successfully, with this output.
    Output(String),
    /// With an error, with this output on standard error.
    Failed(String),
    /// It is not on this host.
    Missing,
}

/// This host.
#[derive(Debug, Clone, Copy)]
pub struct ThisHost;

impl Host for ThisHost {
    fn read(&self, path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Ran {
        match program::run(Command::new(program).args(arguments), Deadline::after(PROGRAM)) {
            Ok(outcome) if outcome.success => Ran::Output(outcome.output),
            Ok(outcome) => Ran::Failed(outcome.errors.trim().to_owned()),
            Err(ProgramError::Start(error)) if error.kind() == ErrorKind::NotFound => Ran::Missing,
            Err(error) => Ran::Failed(format!("it {error}")),
        }
    }
}

/// Where libpam looks for a module that is written without a directory: the triplets of Debian, and lib64 elsewhere.
#[must_use]
pub fn module_paths(module: &str) -> Vec<PathBuf> {
    if module.starts_with('/') {
        return vec![PathBuf::from(module)];
    }
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    [
        format!("/usr/lib/{triplet}"),
        format!("/lib/{triplet}"),
        "/usr/lib64".into(),
        "/lib64".into(),
        "/usr/lib".into(),
        "/lib".into(),
    ]
    .iter()
    .map(|directory| Path::new(directory).join("security").join(module))
    .collect()
}
