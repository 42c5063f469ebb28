// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the demo speaks: headings, the command as typed, its real output with every token replaced by its fingerprint.

use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::command::Outcome;
use crate::{Error, Result};

/// Tells the story and keeps the marks for the summary.
#[derive(Debug)]
pub struct Teller {
    start: Instant,
    checks: Vec<(bool, String)>,
}

impl Teller {
    /// Begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), checks: Vec::new() }
    }

    /// Opens a chapter.
    pub fn chapter(&self, title: &str) {
        println!("\n\x1b[1m== {title}\x1b[0m  ({} s)", self.start.elapsed().as_secs());
    }

    /// Says a sentence.
    pub fn say(&self, sentence: &str) {
        println!("   {sentence}");
    }

    /// Shows a command as `who` typed it, and what it printed.
    pub fn show(&self, who: &str, command: &str, outcome: &Outcome) {
        println!("{who}$ {}", masked(command));
        for line in outcome.stdout.lines().chain(outcome.stderr.lines()) {
            println!("   | {}", masked(line));
        }
    }

    /// Notes for the summary whether a claim held; a claim that did not hold fails the demo at its end.
    pub fn check(&mut self, held: bool, claim: &str) {
        println!("   {} {claim}", mark(held));
        self.checks.push((held, claim.to_owned()));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// [`Error::Refused`] when a claim did not hold.
    pub fn summary(&self) -> Result<()> {
        println!("\n\x1b[1m== Summary\x1b[0m  ({} s)", self.start.elapsed().as_secs());
        for (held, claim) in &self.checks {
            println!(" {} {claim}", mark(*held));
        }
        println!("\nKeep a site open and try it yourself:  make shell   (it says what to type)");
        match self.checks.iter().filter(|(held, _)| !held).count() {
            0 => Ok(()),
            failed => Err(Error::Refused(format!("{failed} of {} claims did not hold", self.checks.len()))),
        }
    }
}

impl Default for Teller {
    fn default() -> Self {
        Self::new()
    }
}

fn mark(held: bool) -> &'static str {
    if held { "\x1b[32m✓\x1b[0m" } else { "\x1b[31m✗\x1b[0m" }
}

/// Replaces whatever is a token, code or ciphertext by what it is and a fingerprint.
#[must_use]
pub fn masked(line: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        out.push_str(&shown(word));
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

fn shown(word: &str) -> String {
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
    use super::*;

    #[test]
    fn tokens_are_shown_by_fingerprint_only() {
        let line =
            masked("BEARER=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln SLURM_MYTOKEN=mt1.00112233.AbC-_9 rest, of line.");
        assert!(!line.contains("eyJ") && !line.contains("AbC") && line.ends_with("rest, of line."), "{line}");
        assert!(masked(&"abcdefgh".repeat(8)).starts_with("<short token "));
    }
}
