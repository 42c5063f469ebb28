// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records skipped tests: libtest cannot skip a running test. Each crate with such a test includes this file.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Result, Write};

/// The file with skipped tests, one per line: name of the test, tab, reason. `testbed test` makes and reads it.
pub const SKIPPED_FILE: &str = "TESTBED_SKIPPED_FILE";

/// Records that the running test is skipped.
///
/// # Errors
/// When it cannot be recorded: the story would count as passed.
pub fn skip(reason: &str) -> Result<()> {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "{name}: skipped: {reason}");
    env::var_os(SKIPPED_FILE).map_or(Ok(()), |path| note(&path, &name, reason))
}

/// Adds a line to an existing file. With `fs.protected_regular` not even root may open another user's file in /tmp with
/// `O_CREAT`, and the file belongs to the user that runs `make test`.
pub fn note(path: impl AsRef<OsStr>, name: &str, reason: &str) -> Result<()> {
    let mut file = File::options().append(true).open(path.as_ref())?;
    file.write_all(format!("{name}\t{}\n", reason.replace('\n', " ")).as_bytes())
}
