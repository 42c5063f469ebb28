// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scripts that tests write and then run. Each crate with such a test includes this file.

use std::io::{Error, Result, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable file. Another process writes it: while the fork of another test has a descriptor for writing the
/// file, exec fails with ETXTBSY.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path.as_ref()).stdin(Stdio::piped());
    let mut child = shell.spawn()?;
    // Dropped at the end of the line: the end of the file.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(text.as_bytes()));
    let status = child.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(Error::other(format!("{}: {status}", path.as_ref().display()))) }
}
