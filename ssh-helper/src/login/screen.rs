// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login shows: on a terminal with QR code and a running clock, else plain lines that a program can read.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use qrcode::render::unicode;
use qrcode::{EcLevel, QrCode};
use terminal_size::{Height, Width, terminal_size};

/// Lines around the QR code: invitation, link, progress.
const OTHER_LINES: usize = 8;

/// Standard output.
pub struct Screen {
    terminal: bool,
    progress: bool,
}

impl Screen {
    /// Looks at what standard output is.
    pub fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), progress: false }
    }

    /// Shows the link, and its QR code where there is room.
    pub fn invite(&mut self, link: &str, time: Duration) {
        self.line(&format!("Open this link and confirm within {}:", clock(time)));
        self.line("");
        self.line(&format!("    {link}"));
        self.line("");
        if self.terminal {
            if let Some(code) = terminal_size().and_then(|size| picture(link, size)) {
                self.line(&code);
            }
        } else {
            self.line("  waiting for you at the browser ...");
        }
    }

    /// The running clock.
    pub fn waiting(&mut self, left: Duration) {
        if self.terminal {
            self.progress = true;
            write(&format!("\r  waiting for you at the browser ...  {} left ", clock(left)));
        }
    }

    /// Takes the running clock away.
    pub fn waited(&mut self) {
        if std::mem::take(&mut self.progress) {
            write("\r\u{1b}[K");
        }
    }

    /// Something went well.
    pub fn success(&mut self, text: &str) {
        self.line(&format!("✓ {text}"));
    }

    /// Something the person should see.
    pub fn remark(&mut self, text: &str) {
        if self.terminal {
            self.line(&format!("\u{1b}[1m! {text}\u{1b}[0m"));
        } else {
            self.line(&format!("! {text}"));
        }
    }

    /// A line. Written out at once: whoever reads it may be waiting for the link.
    pub fn line(&mut self, text: &str) {
        write(&format!("{text}\n"));
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed our output does not want to know.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `4:52`
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// The link as QR code, two modules a character; `None` when it does not fit.
fn picture(link: &str, (Width(width), Height(height)): (Width, Height)) -> Option<String> {
    let code = QrCode::with_error_correction_level(link.as_bytes(), EcLevel::L).ok()?;
    // Terminals are dark more often than light, and readers want dark on light.
    let text = code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build();
    let wide = text.lines().map(|line| line.chars().count()).max()?;
    let fits = wide <= usize::from(width) && text.lines().count() + OTHER_LINES <= usize::from(height);
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_qr_code_is_shown_where_it_fits() {
        let link = "https://mytoken.example.org/c/AbCdEfGh";
        let shown = picture(link, (Width(80), Height(50))).unwrap();
        assert!(shown.lines().count() > 10 && shown.contains('█'));
        assert!(picture(link, (Width(20), Height(50))).is_none());
        assert!(picture(link, (Width(80), Height(15))).is_none());
    }

    #[test]
    fn time_is_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_secs(292)), "4:52");
        assert_eq!(clock(Duration::from_secs(9)), "0:09");
    }
}
