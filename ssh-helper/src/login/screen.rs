// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login shows: on a terminal a QR code and a countdown, otherwise plain lines that a program can read.

use std::io::IsTerminal;
use std::time::Duration;

use qrcode::render::unicode;
use qrcode::{EcLevel, QrCode};
use terminal_size::{Height, Width, terminal_size};

use crate::output::{print, print_line};
use mytoken::time_format::countdown;

/// Lines that must fit on the screen beside the QR code: invitation, link, countdown.
const OTHER_LINES: usize = 8;

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

    /// Shows the link, and its QR code if it fits.
    pub fn show_link(&self, link: &str, expires_in: Duration) {
        print_line(&format!("Open this link and confirm within {}:\n\n    {link}\n", countdown(expires_in)));
        if !self.is_terminal {
            print_line(WAITING);
        } else if let Some(code) = terminal_size().and_then(|size| qr_code(link, size)) {
            print_line(&code);
        }
    }

    /// Shows the time left to confirm, on a terminal only.
    pub fn show_countdown(&mut self, left: Duration) {
        if self.is_terminal {
            let text = format!("{WAITING}  {} left ", countdown(left));
            print(&format!("\r{text}"));
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

/// The link as QR code, two modules per character. `None`: it does not fit on the screen.
fn qr_code(link: &str, (Width(width), Height(height)): (Width, Height)) -> Option<String> {
    let code = QrCode::with_error_correction_level(link.as_bytes(), EcLevel::L).ok()?;
    // Scanners expect dark modules on a light background, and most terminals have a dark background. So the colours are
    // swapped.
    let text = code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build();
    let columns = text.lines().map(|line| line.chars().count()).max()?;
    let fits = columns <= usize::from(width) && text.lines().count() + OTHER_LINES <= usize::from(height);
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_qr_code_is_shown_if_it_fits() {
        let link = "https://mytoken.example.org/c/AbCdEfGh";
        let code = qr_code(link, (Width(80), Height(50))).unwrap();
        assert!(code.lines().count() > 10 && code.contains('█'));
        assert!(qr_code(link, (Width(20), Height(50))).is_none());
        assert!(qr_code(link, (Width(80), Height(15))).is_none());
    }
}
