// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the testbed, as sentences for its user.

use std::io;
use std::time::Duration;

/// The result of everything that touches a site.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a site could not be made, or why a command in it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot hold a site at all; stories are skipped then.
    #[error("this machine cannot hold a site: {0}")]
    Impossible(String),
    /// The foreign mytoken server and the commands for it cannot do what the story needs, which is skipped then.
    #[error("{0}")]
    Unplayable(String),
    /// An operation on a file or process failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation, with the path or program.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A command failed.
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
    /// Something was not ready in time.
    #[error("gave up waiting for {what} after {} s{detail}", .waited.as_secs())]
    NotReady {
        /// The thing that was waited for.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// The last output of the check, or nothing.
        detail: String,
    },
    /// Any other failure, as a sentence.
    #[error("{0}")]
    Refused(String),
}

/// Adds the failed operation to a system error.
pub trait WithContext<T> {
    /// Turns the error into an [`Error::Io`] with this operation.
    ///
    /// # Errors
    /// The same error with the operation.
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> WithContext<T> for std::result::Result<T, E> {
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
