// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output and standard error of `mytokenctl`. What cannot be written never ends the program in the middle of its work.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

/// Why something did not reach standard output.
static LOST: Mutex<Option<String>> = Mutex::new(None);

/// Writes a line to standard output. [`lost`] tells whether one could not be written.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    note(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// A closed pipe (`| head`) is no error: its reader needs no more.
fn note(written: io::Result<()>) {
    if let Err(error) = written {
        if error.kind() != ErrorKind::BrokenPipe {
            LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }
    }
}

/// Why a line did not reach standard output: what reads it has not got all.
pub fn lost() -> Option<String> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Writes a line to standard error. If that fails, there is nobody to tell.
pub fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "mytokenctl: {text}");
}
