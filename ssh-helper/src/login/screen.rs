// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login shows: on a terminal a QR code and a countdown, otherwise plain lines that a program can read.

use std::io::IsTerminal;
use std::time::Duration;

use mytoken::qr_code::{Room, ascii, half_blocks};
use mytoken::time_format::countdown;
use terminal_size::{Height, Width, terminal_size};

use crate::output::{print, print_line, shows_utf8};

/// The countdown's line without the time.
const WAITING: &str = "  waiting for you at the browser ...";

/// Bold, and back to normal.
const BOLD: (&str, &str) = ("\u{1b}[1m", "\u{1b}[0m");

/// Standard output during a login.
pub struct Screen {
    is_terminal: bool,
    /// The countdown that is on the screen.
    shown_countdown: Option<String>,
}

impl Screen {
    /// Finds out whether standard output is a terminal.
    pub fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), shown_countdown: None }
    }

    /// Shows the link, and its QR code if it fits. `is_opened`: a browser was asked to open it.
    pub fn show_link(&self, link: &str, expires_in: Duration, is_opened: bool) {
        let within = countdown(expires_in);
        let invitation = if is_opened {
            format!("Confirm in your browser within {within}. If it does not open, open this link:")
        } else {
            format!("Open this link and confirm within {within}:")
        };
        let link_line = format!("    {link}");
        print_line(&format!("{invitation}\n\n{link_line}\n"));
        if !self.is_terminal {
            print_line(WAITING);
        } else if let Some(code) =
            terminal_size().and_then(|size| qr_code(link, size, &[&invitation, &link_line], shows_utf8()))
        {
            print_line(&code);
        }
    }

    /// Shows the time left to confirm, on a terminal only.
    pub fn show_countdown(&mut self, left: Duration) {
        if self.is_terminal {
            let columns = terminal_size().map_or(80, |(Width(columns), _)| usize::from(columns));
            let text = countdown_line(left, columns);
            print(&over(&text, &self.shown_countdown.take().unwrap_or_default(), columns));
            self.shown_countdown = Some(text);
        }
    }

    /// Clears the countdown.
    pub fn clear_countdown(&mut self) {
        if let Some(text) = self.shown_countdown.take() {
            // Blanks instead of the sequence "erase line", so that it also works with NO_COLOR.
            print(&format!("\r{}\r", " ".repeat(text.chars().count())));
        }
    }

    /// Shows what a further login asks for: it takes from the last one what the user does not name.
    pub fn asked(&self, capabilities: &str, restrictions: &str) {
        print_line(&format!(
            "This login asks for what the last one got, except for what you name:\n  may: {capabilities}\n  for: {restrictions}\n"
        ));
    }

    /// Shows a success.
    pub fn success(&self, text: &str) {
        print_line(&format!("✓ {text}"));
    }

    /// Shows a warning, in bold type on a terminal.
    pub fn warning(&self, text: &str) {
        print_line(&format!("{}! {text}{}", BOLD.0, BOLD.1));
    }

    /// Shows what to do next.
    pub fn next(&self, command: &str) {
        print_line(&format!("Next:  {command}"));
    }
}

/// A line in the place of another one, of which nothing is left.
fn over(text: &str, before: &str, columns: usize) -> String {
    let width = before.chars().count().min(columns.saturating_sub(1));
    format!("\r{text:width$}")
}

/// The countdown. A line as wide as the screen would scroll it each time.
fn countdown_line(left: Duration, columns: usize) -> String {
    let left = countdown(left);
    let fitting = [format!("{WAITING}  {left} left "), format!("  {left} left "), left];
    fitting.into_iter().find(|text| text.chars().count() < columns).unwrap_or_default()
}

/// The link as QR code. `None`: it does not fit on the screen below these lines, each with an empty one, and above the countdown.
fn qr_code(link: &str, (Width(width), Height(height)): (Width, Height), above: &[&str], utf8: bool) -> Option<String> {
    let columns = usize::from(width);
    let lines = |text: &&str| text.chars().count().div_ceil(columns.max(1)) + 1;
    let others = above.iter().map(lines).sum::<usize>() + 1;
    let room = Room { columns, lines: usize::from(height).saturating_sub(others) };
    if utf8 { half_blocks(link, room) } else { ascii(link, room) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://mytoken.example.org/c/AbCdEfGh";

    #[test]
    fn the_qr_code_is_shown_if_it_fits() {
        let shown = |columns, lines, utf8| qr_code(LINK, (Width(columns), Height(lines)), &["Open", LINK], utf8);
        assert!(shown(80, 24, true).is_some_and(|code| code.contains('█')));
        assert_eq!((shown(32, 50, true), shown(80, 21, true)), (None, None));
        assert_eq!((shown(37, 22, true), shown(37, 23, true).is_some()), (None, true), "the link takes two lines");
        assert!(shown(80, 38, false).is_some_and(|code| code.is_ascii()));
        assert_eq!(shown(80, 24, false), None);
    }

    #[test]
    fn the_countdown_has_a_line_for_itself_at_any_width() {
        let at = |columns| countdown_line(Duration::from_secs(299), columns);
        for columns in 0..200 {
            assert!(at(columns).chars().count() < columns.max(1), "{columns}");
        }
        assert_eq!(over("9:59 left", "10:00 left", 80), "\r9:59 left ");
        assert_eq!(over("9:59 left", "10:00 left", 10), "\r9:59 left", "the screen has become narrower");
        assert!(at(80).starts_with(WAITING) && at(40).starts_with("  ") && at(40).contains("left"), "{:?}", at(40));
    }
}
