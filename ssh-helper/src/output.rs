// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output. Control sequences reach a terminal only, and none if `NO_COLOR` is set.

use std::io::{self, Write};

use crate::error::Error;

/// Writes a line.
pub fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// Writes `text` at once: a program that reads the output may wait for it.
pub fn print(text: &str) {
    // If the reader has closed the output, it needs no more of it.
    let _ = write(text);
}

/// Writes what a program reads.
///
/// # Errors
/// It could not be written: the program would take what it has got for all.
pub fn print_for_program(text: &str) -> Result<(), Error> {
    write(text).map_err(Error::system("cannot write to standard output"))
}

/// Writes a line to standard error. If that fails, there is nobody to tell.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}
