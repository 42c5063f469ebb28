// SPDX-License-Identifier: MIT OR Apache-2.0
//! Secrets that somebody gives on standard input, because arguments can be seen by all users.

use std::io::{BufRead as _, Read as _, stdin};

use mytoken::Secret;
use zeroize::Zeroizing;

/// The token on standard input.
///
/// # Errors
/// The system's sentence.
pub fn read_token() -> Result<Secret, String> {
    // It has its full size from the start: a growing one would leave copies in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(128 * 1024));
    stdin().take(128 * 1024).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(Secret::new(text.as_str()))
}

/// The one-time code on standard input: its first line, because somebody may type it.
///
/// # Errors
/// The system's sentence.
pub fn read_code() -> Result<Secret, String> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    stdin().lock().take(1024).read_line(&mut text).map_err(|error| error.to_string())?;
    Ok(Secret::new(text.as_str()))
}
