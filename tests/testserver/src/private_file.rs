// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files with key material.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file that only its owner can read; a reader sees the old or the new content, never a part.
///
/// # Errors
/// The folder cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let next = path.with_extension("new");
    // The mode counts only when the file is made, so a left-over must go first.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next).map_err(named)?;
    file.write_all(content).map_err(named)?;
    drop(file);
    std::fs::rename(&next, path).map_err(named)
}
