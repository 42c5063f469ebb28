// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong while a site is made, as sentences for the person in front of it.

use std::io;
use std::time::Duration;

/// The result of everything that touches a site.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a site could not be made or a command in it did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot hold a site at all; stories are skipped then.
    #[error("this machine cannot hold a site: {0}")]
    Impossible(String),
    /// A file, process or system call failed; the text names what was tried.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path or program.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A command ended with another status than success.
    #[error("`{command}` ended with {status}\n--- standard output\n{stdout}--- standard error\n{stderr}")]
    Failed {
        /// The command as a person would type it.
        command: String,
        /// Exit status or signal.
        status: String,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// Something did not come up in time.
    #[error("{what} was not ready after {} s{detail}", .waited.as_secs())]
    NotReady {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// The last answer seen, on lines of its own, or nothing.
        detail: String,
    },
    /// The caller asked for something that does not exist or does not fit.
    #[error("{0}")]
    Refused(String),
}

/// Adds what was tried to a system error.
pub trait Trying<T> {
    /// Turns the error into [`Error::Io`] that says what was tried.
    ///
    /// # Errors
    /// The same error, with `what` in front of it.
    fn trying(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Trying<T> for std::result::Result<T, E> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
