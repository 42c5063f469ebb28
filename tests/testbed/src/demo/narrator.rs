// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output of the demo: headings, commands and their output. Every token is replaced by its fingerprint.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::time::Instant;

use anstream::AutoStream;
use sha2::{Digest, Sha256};

use crate::site::command::CommandOutcome;
use crate::{Error, Result};

/// Prints the demo and keeps its checks for the summary.
pub struct Narrator {
    /// Removes control sequences if it is a file or a pipe, or if `NO_COLOR` is set.
    out: Box<dyn Write>,
    start: Instant,
    checks: Vec<(bool, String)>,
}

impl Narrator {
    /// A narrator on standard output. Its clock starts now.
    #[must_use]
    pub fn new() -> Self {
        Self::to(AutoStream::auto(io::stdout()))
    }

    fn to(out: impl Write + 'static) -> Self {
        Self { out: Box::new(out), start: Instant::now(), checks: Vec::new() }
    }

    fn line(&mut self, text: fmt::Arguments) {
        // A closed pipe, as with `| head`, does not end the demo.
        let _ = writeln!(self.out, "{text}");
    }

    /// Prints a heading.
    pub fn chapter(&mut self, title: &str) {
        self.line(format_args!("\n\x1b[1m== {title}\x1b[0m  ({} s)", self.start.elapsed().as_secs()));
    }

    /// Prints a sentence.
    pub fn say(&mut self, sentence: &str) {
        self.line(format_args!("   {sentence}"));
    }

    /// Shows a command as `who` typed it, and what it printed.
    pub fn show(&mut self, who: &str, command: &str, outcome: &CommandOutcome) {
        self.line(format_args!("{who}$ {}", masked(command)));
        for line in outcome.stdout.lines().chain(outcome.stderr.lines()) {
            self.line(format_args!("   | {}", masked(line)));
        }
    }

    /// Prints a check and keeps it for the summary. A failed check makes the demo fail at its end.
    pub fn check(&mut self, passed: bool, claim: &str) {
        self.line(format_args!("   {} {claim}", mark(passed)));
        self.checks.push((passed, claim.to_owned()));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// [`Error::Refused`] when a check failed.
    pub fn summary(mut self) -> Result<()> {
        self.line(format_args!("\n\x1b[1m== Summary\x1b[0m  ({} s)", self.start.elapsed().as_secs()));
        let checks = mem::take(&mut self.checks);
        for (passed, claim) in &checks {
            self.line(format_args!(" {} {claim}", mark(*passed)));
        }
        self.line(format_args!("\nKeep a site open and try it yourself:  make shell   (it prints commands to try)"));
        match checks.iter().filter(|(passed, _)| !passed).count() {
            0 => Ok(()),
            failed => Err(Error::Refused(format!("{failed} of {} checks failed", checks.len()))),
        }
    }
}

impl Default for Narrator {
    fn default() -> Self {
        Self::new()
    }
}

fn mark(passed: bool) -> &'static str {
    if passed { "\x1b[32m✓\x1b[0m" } else { "\x1b[31m✗\x1b[0m" }
}

/// Replaces tokens, codes and ciphertext by their kind and a fingerprint.
#[must_use]
pub fn masked(line: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        out.push_str(&mask_word(word));
        word.clear();
    };
    for c in line.chars() {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

fn mask_word(word: &str) -> String {
    let fingerprint =
        || Sha256::digest(word.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    if word.starts_with("eyJ") && word.matches('.').count() == 2 {
        format!("<token {}>", fingerprint())
    } else if word.starts_with("mt1.") {
        format!("<sealed, {} bytes, {}>", word.len(), fingerprint())
    } else if word.len() == 64 && word.chars().all(|c| c.is_ascii_alphabetic()) {
        format!("<short token {}>", fingerprint())
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The output of a short demo, through the stream that `by` makes.
    fn demo_output(by: impl Fn(File) -> AutoStream<File>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut narrator = Narrator::to(by(file.reopen().unwrap()));
        narrator.chapter("A site");
        narrator.check(true, "good");
        narrator.check(false, "bad");
        narrator.summary().unwrap_err();
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn a_file_has_no_control_sequences() {
        let text = demo_output(AutoStream::auto);
        assert!(!text.contains('\x1b') && text.contains("== A site") && text.contains("✗ bad"), "{text}");
        assert!(demo_output(AutoStream::always).contains("\x1b[1m== A site"));
    }

    #[test]
    fn tokens_are_replaced_by_their_fingerprint() {
        let line =
            masked("BEARER=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln SLURM_MYTOKEN=mt1.00112233.AbC-_9 rest, of line.");
        assert!(!line.contains("eyJ") && !line.contains("AbC") && line.ends_with("rest, of line."), "{line}");
        assert!(masked(&"abcdefgh".repeat(8)).starts_with("<short token "));
    }
}
