// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the checks of sshd and PAM look at, so that they are decided without a host in tests.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mytoken::Deadline;

use crate::program::{self, ProgramError};

/// Time limit of a program.
const PROGRAM: Duration = Duration::from_secs(10);

/// Largest file that is read, in bytes. The largest that a healthy host has is the list of `AppArmor`'s profiles, with some KiB.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// A host.
pub trait Host {
    /// The text of a file; `None` when it cannot be read or is too large.
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
        read_text(path)
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

/// The text of a regular file, up to [`FILE_LIMIT`]; `None` when it cannot be read or is larger.
pub(super) fn read_text(path: &Path) -> Option<String> {
    // O_NONBLOCK: a FIFO at this path must not make the check hang.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let length = file.take(FILE_LIMIT + 1).read_to_string(&mut text).ok()?;
    (length as u64 <= FILE_LIMIT).then_some(text)
}

/// Where libpam looks for a module that is written without a directory: the triplets of Debian, and lib64 elsewhere.
#[must_use]
pub fn module_paths(module: &str) -> Vec<PathBuf> {
    if module.starts_with('/') {
        return vec![PathBuf::from(module)];
    }
    let little = cfg!(target_endian = "little");
    let triplet = match std::env::consts::ARCH {
        "powerpc64" if little => "powerpc64le-linux-gnu".to_owned(),
        "x86" => "i386-linux-gnu".to_owned(),
        "arm" => "arm-linux-gnueabihf".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (small, large, fifo) = (dir.path().join("small"), dir.path().join("large"), dir.path().join("fifo"));
        std::fs::write(&small, "auth").unwrap();
        File::create(&large).unwrap().set_len(FILE_LIMIT + 1).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_text(&small).as_deref(), Some("auth"));
        for path in [&large, &fifo, &dir.path().join("none")] {
            assert_eq!(read_text(path), None, "{}", path.display());
        }
        File::options().write(true).open(&large).unwrap().set_len(FILE_LIMIT).unwrap();
        assert!(read_text(&large).is_some());
        // Files of the kernel have no size.
        assert!(read_text(Path::new("/proc/self/maps")).is_some());
    }
}
