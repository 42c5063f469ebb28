// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong, as sentences for the person at the terminal.

/// A sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the shared crate.
    #[error(transparent)]
    Mytoken(#[from] mytoken::Error),
    /// ssh does not name the destination in its prompts.
    #[error(
        "this ssh ({found}) is too old: before OpenSSH 8.5 it does not say which host asks, so the token could go to any; install a newer one"
    )]
    OldSsh {
        /// What `ssh -V` said.
        found: String,
    },
    /// A program cannot be started.
    #[error("cannot run {program}: {reason}")]
    CannotRun {
        /// The program.
        program: String,
        /// What the operating system said.
        reason: String,
    },
    /// `ssh -G` failed.
    #[error("ssh cannot tell where these arguments lead: {said}")]
    NotResolved {
        /// What ssh said.
        said: String,
    },
    /// A question to the person has no answer in configuration or arguments.
    #[error("{0}")]
    Usage(String),
    /// Nothing in the store.
    #[error("you have no mytoken for {server}; run: mytoken-ssh login")]
    NotLoggedIn {
        /// The server.
        server: String,
    },
    /// The stored mytoken is over.
    #[error("your mytoken for {server} has expired; run: mytoken-ssh login")]
    Expired {
        /// The server.
        server: String,
    },
    /// Something of this machine: a socket, a directory, a file.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: String,
        /// What the operating system said.
        reason: String,
    },
    /// The person pressed Ctrl-C, or somebody ended the program.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// For `map_err`: what was tried when the operating system refused.
    pub fn system<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::System { what, reason: error.to_string() }
    }
}
