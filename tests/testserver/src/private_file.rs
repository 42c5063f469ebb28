// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes files with key material.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file atomically; only its owner can read it.
///
/// # Errors
/// The folder cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let next = path.with_extension("new");
    // The mode applies only to a new file, so a file of an interrupted run is removed first.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next).map_err(named)?;
    file.write_all(content).map_err(named)?;
    drop(file);
    std::fs::rename(&next, path).map_err(named)
}
