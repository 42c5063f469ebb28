// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the checks of sshd and PAM look at, so that they are decided without a host in tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).env_clear().output();
        match output {
            Ok(output) if output.status.success() => Ran::Output(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => Ran::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ran::Missing,
            Err(error) => Ran::Failed(error.to_string()),
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
