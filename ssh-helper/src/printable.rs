// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text from servers and other programs, safe to show on a terminal.

use mytoken_wire::is_printable;

/// Longest text in characters.
const MAX_LENGTH: usize = 400;

/// The first 400 characters, in one line.
pub fn printable(text: &str) -> String {
    mytoken_wire::printable(text, MAX_LENGTH)
}

/// The whole text with its newlines and tabs. Used for prompts: ssh escapes the control
/// characters of a server's prompt, but other programs that start an askpass may not.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) || matches!(c, '\n' | '\t') { c } else { '?' }).collect()
}
