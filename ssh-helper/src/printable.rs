// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes text from servers and other programs safe to show on a terminal.

/// Longest text in characters.
const MAX_LENGTH: usize = 400;

/// The first 400 characters without control characters.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_LENGTH).collect()
}

/// The text without control characters, except for newline and tab. Used for prompts: ssh escapes the control
/// characters of a server's prompt, but other programs that start an askpass may not.
pub fn printable_lines(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}
