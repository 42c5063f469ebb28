// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the beginning of a file. std's readers grow their buffer, which leaves copies of a token in freed memory, and each brings code of
//! its own into the Slurm plugin.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

/// The first `limit` bytes, or all if there are fewer.
///
/// # Errors
/// Those of `read(2)`.
pub fn limited_read(mut file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, mut length) = (vec![0; limit], 0);
    loop {
        match file.read(bytes.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
