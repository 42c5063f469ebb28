// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the configuration.

use crate::urls::UrlError;

/// Why the configuration is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A configuration file cannot be read.
    #[error("cannot read {file}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// Other users could have written a configuration file.
    #[error("{file} is not used: {reason}{}", run(.fix))]
    Unsafe {
        /// The file or a directory above it.
        file: String,
        /// Why.
        reason: String,
        /// A command that makes it safe; empty if no single command does.
        fix: String,
    },
    /// A configuration file has a mistake.
    #[error("{place}: {problem}")]
    Invalid {
        /// File and line.
        place: String,
        /// The mistake.
        problem: String,
    },
    /// A URL that must not be used.
    #[error(transparent)]
    Url(#[from] UrlError),
}

fn run(fix: &str) -> String {
    if fix.is_empty() { String::new() } else { format!("; run: {fix}") }
}
