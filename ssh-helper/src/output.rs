// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output. Control sequences reach a terminal only, and none if `NO_COLOR` is set.

use std::io::Write;

/// Writes a line.
pub fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// Writes `text` at once: a program that reads the output may wait for it.
pub fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    // If the reader has closed the output, it needs no more of it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
