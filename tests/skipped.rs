// SPDX-License-Identifier: MIT OR Apache-2.0
//! Noting that a test is skipped: libtest knows only those that nobody began. Each crate with such a test includes this file.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Result, Write};

/// The file of the notes, one line each: name of the test, tab, reason. `testbed test` makes it and counts.
pub const SKIPPED_FILE: &str = "TESTBED_SKIPPED_FILE";

/// Notes that the running test is skipped.
///
/// # Errors
/// When the note cannot be written: an unnoted skip would count as passed.
pub fn skip(reason: &str) -> Result<()> {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("{name}: skipped: {reason}");
    env::var_os(SKIPPED_FILE).map_or(Ok(()), |path| note(&path, &name, reason))
}

/// Adds a line to a file that is there. With `fs.protected_regular` nobody, not even root, may open another user's file in /tmp with
/// `O_CREAT`; the file is that of whoever runs `make test`.
pub fn note(path: impl AsRef<OsStr>, name: &str, reason: &str) -> Result<()> {
    let mut file = File::options().append(true).open(path.as_ref())?;
    file.write_all(format!("{name}\t{}\n", reason.replace('\n', " ")).as_bytes())
}
