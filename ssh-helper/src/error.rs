// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong. Each error is a sentence for the user, and says what to do.

use std::ffi::OsStr;

use mytoken_wire::chunks::Unsendable;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mytoken server, the token store or a configuration file.
    #[error(transparent)]
    Mytoken(#[from] mytoken::Error),
    /// The token cannot be sent as answer to a prompt.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    /// ssh does not show the destination in its prompts.
    #[error(
        "{found} is too old: releases before OpenSSH 8.5 do not show which host asks, so any host could get the token. \
         Install OpenSSH 8.5 or newer"
    )]
    SshTooOld {
        /// Name and release of the program.
        found: String,
    },
    /// A program could not be started.
    #[error("cannot run {program}: {reason}")]
    CannotRun {
        /// The program.
        program: String,
        /// Error of the operating system.
        reason: String,
    },
    /// `ssh -G` failed.
    #[error("ssh cannot find the destination in these arguments: {message}")]
    NotResolved {
        /// Message of ssh.
        message: String,
    },
    /// The askpass has no wrapper.
    #[error("only ssh can start this program as its askpass")]
    NotStartedBySsh,
    /// Arguments or configuration are wrong or incomplete.
    #[error("{0}")]
    Usage(String),
    /// There is no mytoken, and no server is configured.
    #[error("you have no mytoken; run: mytoken-ssh login")]
    NoMytoken,
    /// The store has no mytoken for the server.
    #[error("you have no mytoken for {server}; run: mytoken-ssh login")]
    NotLoggedIn {
        /// The server.
        server: String,
    },
    /// The server does not accept the mytoken.
    #[error(
        "{server} does not accept your mytoken: it is expired, revoked, replaced or not valid yet{}; run: mytoken-ssh login",
        if *.was_in_doubt { " (an answer was lost before, so the server may have replaced it)" } else { "" }
    )]
    Refused {
        /// The server.
        server: String,
        /// Whether an answer of the server was lost at an earlier use.
        was_in_doubt: bool,
    },
    /// The answer to a request that can replace the mytoken was lost.
    #[error(
        "{0}. The server may have replaced your mytoken, and the answer with the new one is lost; \
         if it is not accepted any more, run: mytoken-ssh login"
    )]
    InDoubt(mytoken::Error),
    /// The user has mytokens for several servers.
    #[error("you have mytokens for several servers; choose one with --server")]
    SeveralServers,
    /// The stored mytoken has expired.
    #[error("your mytoken for {server} has expired; run: mytoken-ssh login")]
    Expired {
        /// The server.
        server: String,
    },
    /// The stored mytoken cannot make a token for a login.
    #[error("your mytoken lacks the capability {capability}; run: mytoken-ssh login")]
    MissingCapability {
        /// Name of the capability.
        capability: &'static str,
    },
    /// A host asked for more than one token, or for chunks in the wrong order.
    #[error("it asked for the token again, but each login gets only one")]
    TokenAlreadySent,
    /// An operation on this machine failed: a socket, a directory, a file.
    #[error("{action}: {reason}")]
    System {
        /// What failed.
        action: String,
        /// Why, usually an error of the operating system.
        reason: String,
    },
    /// The user pressed Ctrl-C, or a signal ended the program.
    #[error("interrupted")]
    Interrupted,
}

mytoken::impl_from_part_errors!(
    Error::Mytoken: mytoken::InputError,
    mytoken::config::ConfigError,
    mytoken::http::HttpError,
    mytoken::urls::UrlError,
    mytoken::token_store::StoreError,
);

impl Error {
    /// For `map_err`: `program` could not be started.
    pub fn cannot_run<E: std::fmt::Display>(program: &OsStr) -> impl FnOnce(E) -> Self {
        let program = program.to_string_lossy().into_owned();
        move |error| Self::CannotRun { program, reason: error.to_string() }
    }

    /// For `map_err`: the operating system refused `action`.
    pub fn system<E: std::fmt::Display>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |error| Self::System { action, reason: error.to_string() }
    }
}
