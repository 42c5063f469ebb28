// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type of the crate: each variant is a sentence for the person who meets it.

mod kind;

use std::time::Duration;

pub use kind::Kind;

/// What went wrong, in words that say what to do. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file cannot be read.
    #[error("cannot read {file}: {reason}")]
    ConfigUnreadable {
        /// The file.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// A configuration file could have been written by others.
    #[error("{file} is not used: {reason}")]
    ConfigUnsafe {
        /// The file or a directory above it.
        file: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A configuration file has a mistake.
    #[error("{place}: {problem}")]
    ConfigInvalid {
        /// File and line.
        place: String,
        /// The mistake.
        problem: String,
    },
    /// A file or directory that holds credentials is not as it must be.
    #[error("{path}: {reason}")]
    File {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process may not act on files as this user.
    #[error("this process may not act on files as user {uid}")]
    Identity {
        /// The user.
        uid: u32,
    },
    // ---- names
    /// A URL that must not be used.
    #[error("the URL {url} cannot be used: {reason}")]
    InvalidUrl {
        /// The URL without credentials; only its origin when it came from a server.
        url: String,
        /// Why.
        reason: String,
    },

    // ---- HTTP
    /// The trusted certificates could not be loaded.
    #[error("the trusted certificates cannot be read from {file}: {reason}; set ca_file in mytoken.toml")]
    Roots {
        /// The file or files.
        file: String,
        /// Why.
        reason: String,
    },
    /// The HTTP client cannot be made with these settings.
    #[error("the HTTP client cannot be set up: {reason}; see [http] in mytoken.toml")]
    HttpSettings {
        /// Why.
        reason: String,
    },
    /// No answer from a host.
    #[error("{host} cannot be reached ({reason}); try again later")]
    Unreachable {
        /// Scheme, host and port.
        host: String,
        /// What the operating system or TLS said.
        reason: String,
        /// Whether the request may have been received and carried out, although no answer came.
        sent: bool,
    },
    /// The operation's deadline passed.
    #[error("{host} did not answer in time; try again later")]
    TooLate {
        /// Scheme, host and port.
        host: String,
    },
    /// An answer beyond the limit.
    #[error("{host} sent an answer of more than {limit} bytes; it was not read")]
    TooLarge {
        /// Scheme, host and port.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },

    // ---- mytoken server: temporary
    /// An answer that is not the protocol.
    #[error("{server} gave an answer that this program does not understand (status {status}, {reason})")]
    NotUnderstood {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
        /// What was wrong with it, without its content.
        reason: String,
    },
    /// The server failed.
    #[error("{server} has an internal problem (status {status}); try again later")]
    ServerFailed {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
    },
    /// The server's request limit is reached.
    #[error("{server} accepts no more requests from this address for now{}; try again later", wait_text(*.retry_after))]
    TooManyRequests {
        /// The server.
        server: String,
        /// When the server says that it will accept requests again.
        retry_after: Option<Duration>,
    },
    /// The provider behind the server answered 429 to what the server asked for this token.
    #[error("the provider behind {server} accepts no more requests for now{}; try again later", wait_text(*.retry_after))]
    ProviderTooManyRequests {
        /// The server.
        server: String,
        /// When the provider will accept requests again, if that was said.
        retry_after: Option<Duration>,
    },
    /// Success in form, but no access token: the provider behind the server is down.
    #[error(
        "the mytoken server at {server} answered with an empty access token; its provider is probably down. Your token is safe; try again later"
    )]
    EmptyAccessToken {
        /// The server.
        server: String,
    },

    // ---- mytoken server: set up
    /// Another server answered.
    #[error("{server} says that it is {claimed:?}; use the URL that the server gives itself, or another server")]
    ForeignIssuer {
        /// The URL that was asked.
        server: String,
        /// What the document says.
        claimed: String,
    },
    /// The server does not offer what is needed.
    #[error("the mytoken server at {server} does not offer {what}")]
    NotOffered {
        /// The server.
        server: String,
        /// What is missing.
        what: String,
    },

    // ---- mytoken server: refusals
    /// 401: the mytoken is expired, revoked, rotated away, not yet valid, or none at all.
    #[error("{server} does not accept this mytoken: it is expired, revoked, replaced or not valid yet; get a new one")]
    TokenRefused {
        /// The server.
        server: String,
    },
    /// A transfer or polling code that is unknown, used or too old.
    #[error("{server} does not accept this code: it is unknown, already used, or {}; make a new one", if *.expired { "was too old" } else { "revoked" })]
    CodeRefused {
        /// The server.
        server: String,
        /// Whether the server says that it was too old.
        expired: bool,
    },
    /// 403: the mytoken lacks a capability.
    #[error("this mytoken may not do that at {server}: it lacks the capability {needed}")]
    MissingCapability {
        /// The server.
        server: String,
        /// The capability.
        needed: String,
    },
    /// 403: no clause of the mytoken fits.
    #[error(
        "the restrictions of this mytoken do not allow this: time, place, scope, audience or the number of uses ({server})"
    )]
    UsageRestricted {
        /// The server.
        server: String,
    },
    /// The provider refused what the server asked on the holder's behalf.
    #[error("the provider behind {server} refused: {}", provider_text(.code))]
    ProviderRefused {
        /// The server.
        server: String,
        /// The OAuth error code.
        code: String,
    },
    /// The person said no on the consent page.
    #[error("the login was declined in the browser")]
    Declined,
    /// Nobody confirmed the login in the browser.
    #[error("the login was not confirmed in time; look at the browser for the reason and try again")]
    LoginNotConfirmed,
    /// The person gave up waiting.
    #[error("the login was given up; nothing was stored")]
    LoginAbandoned,
    /// Any other refusal.
    #[error("{server} refused the request (status {status}, {code})")]
    Rejected {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
        /// The `error` member, or a word for its absence.
        code: String,
    },

    // ---- held against the answer
    /// The access token is not what was asked for. It was not handed on.
    #[error(
        "{server} gave an access token with another {what} than asked for; a mytoken without restrictions gets everything: use a restricted one"
    )]
    OtherAccessToken {
        /// The server.
        server: String,
        /// `scope` or `audience`, with what differs.
        what: String,
    },
    /// The child came back broader than asked for. It is not used.
    #[error("{server} made a mytoken with more rights than asked for ({what}); it was {} and is not used", if *.revoked { "revoked" } else { "NOT revoked (revoking failed)" })]
    Broader {
        /// The server.
        server: String,
        /// What was broader.
        what: String,
        /// Whether the revocation succeeded.
        revoked: bool,
    },
    /// The server replaced the token and the replacement could not be stored.
    #[error(
        "the mytoken was replaced by the server, but its successor could not be stored ({reason}); the old one is dead: log in again"
    )]
    RotatedTokenNotStored {
        /// What the store said.
        reason: String,
    },

    // ---- refused before anything was sent
    /// A request that cannot be right.
    #[error("{reason}")]
    InvalidRequest {
        /// A whole sentence.
        reason: String,
    },
    /// What is wanted is not within what the parent allows.
    #[error("the mytoken does not allow this: {reason}")]
    NotNarrower {
        /// Which part of it.
        reason: String,
    },
    /// A restriction, capability or token text that is malformed.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// Why, without its content.
        reason: String,
    },

    // ---- token store
    /// The token store, or a file in it, can be reached by others.
    #[error("{path} is not used: {reason}")]
    StoreUnsafe {
        /// The directory or file.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The token store cannot be read or written.
    #[error("the token store cannot be used: {path}: {reason}")]
    StoreUnusable {
        /// The directory or file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// A file of the token store holds something else.
    #[error("{path} is damaged ({reason}); run: mytoken-ssh login")]
    StoreDamaged {
        /// The file.
        path: String,
        /// What is wrong with it, without its content.
        reason: String,
    },
    /// Another process kept the token store locked.
    #[error("another program uses the token store and did not finish in time ({path}); try again")]
    StoreBusy {
        /// The lock.
        path: String,
    },
}

fn wait_text(retry_after: Option<Duration>) -> String {
    retry_after.map(|wait| format!(" (for {} s)", wait.as_secs())).unwrap_or_default()
}

fn provider_text(code: &str) -> String {
    let advice = match code {
        "invalid_scope" => "the scope was not granted at login; log in again and ask for it there",
        "invalid_target" => {
            "the audience was not asked for at login; log in again with this audience (one login holds one audience)"
        }
        "invalid_grant" => "it no longer accepts the login behind this mytoken; log in again",
        "temporarily_unavailable" | "server_error" => "it has an internal problem; try again later",
        _ => "see its administrator",
    };
    format!("{code}: {advice}")
}
