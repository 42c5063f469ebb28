// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of requests to a mytoken server.

use std::time::Duration;

/// Why a request to a mytoken server failed, or its answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The answer does not follow the protocol.
    #[error("{server} gave an answer that this program does not understand (status {status}, {reason})")]
    NotUnderstood {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it, without its content.
        reason: String,
    },
    /// The server failed.
    #[error("{server} has an internal problem (status {status}); try again later")]
    Failed {
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
        /// Time until the server accepts requests again, if it named one.
        retry_after: Option<Duration>,
    },
    /// The provider answered 429 to the server's request for this token.
    #[error("the provider behind {server} accepts no more requests for now{}; try again later", wait_text(*.retry_after))]
    ProviderTooManyRequests {
        /// The server.
        server: String,
        /// Time until the provider accepts requests again, if it named one.
        retry_after: Option<Duration>,
    },
    /// Status 200 without an access token: the provider is down.
    #[error(
        "the mytoken server at {server} answered with an empty access token; its provider is probably down. Your token is safe; try again later"
    )]
    EmptyAccessToken {
        /// The server.
        server: String,
    },
    /// The discovery document names another server.
    #[error("{server} says that its URL is {claimed:?}; configure that URL, or another server")]
    ForeignIssuer {
        /// The configured URL.
        server: String,
        /// The URL in the document.
        claimed: String,
    },
    /// The server does not support the request.
    #[error("the mytoken server at {server} does not offer {what}")]
    NotOffered {
        /// The server.
        server: String,
        /// What it does not support.
        what: String,
    },
    /// 401: the mytoken is expired, revoked, rotated, not yet valid, or not a mytoken.
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
        /// Whether the server says that the code is too old.
        expired: bool,
    },
    /// 403: the mytoken lacks a capability.
    #[error("{server} refused the request: this mytoken lacks the capability {needed}")]
    MissingCapability {
        /// The server.
        server: String,
        /// The capability.
        needed: String,
    },
    /// 403: no clause of the mytoken allows the use.
    #[error(
        "the restrictions of this mytoken do not allow this: time, place, scope, audience or the number of uses ({server})"
    )]
    UsageRestricted {
        /// The server.
        server: String,
    },
    /// The provider refused the server's request.
    #[error("the provider behind {server} refused: {}", provider_text(.code))]
    ProviderRefused {
        /// The server.
        server: String,
        /// The OAuth error code.
        code: String,
    },
    /// The person declined on the consent page.
    #[error("the login was declined in the browser")]
    Declined,
    /// The login was not confirmed in the browser in time.
    #[error("the login was not confirmed in time; look at the browser for the reason and try again")]
    LoginNotConfirmed,
    /// The user stopped waiting.
    #[error("the login was cancelled; nothing was stored")]
    LoginAbandoned,
    /// Any other refusal.
    #[error("{server} refused the request (status {status}, {code})")]
    Rejected {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
        /// The `error` member, or `unknown_error`.
        code: String,
    },
    /// The access token differs from the request. The caller does not get it.
    #[error(
        "{server} gave an access token with another {what} than asked for; a mytoken without restrictions gets everything: use a restricted one"
    )]
    OtherAccessToken {
        /// The server.
        server: String,
        /// `scope` or `audience`, with the difference.
        what: String,
    },
    /// The child is broader than requested. The caller does not get it.
    #[error("{server} made a mytoken with more rights than asked for ({what}); it was {} and is not used", if *.revoked { "revoked" } else { "NOT revoked (revoking failed)" })]
    Broader {
        /// The server.
        server: String,
        /// What is broader.
        what: String,
        /// Whether the revocation succeeded.
        revoked: bool,
    },
    /// The server replaced the token, and its successor could not be stored.
    #[error(
        "the server replaced the mytoken, but the successor could not be stored ({reason}); the old one no longer works: log in again"
    )]
    RotatedTokenNotStored {
        /// The error of the store.
        reason: String,
    },
}

fn wait_text(retry_after: Option<Duration>) -> String {
    retry_after.map(|wait| format!(" (for {} s)", wait.as_secs())).unwrap_or_default()
}

fn provider_text(code: &str) -> String {
    let advice = match code {
        "invalid_scope" => "the scope was not granted at login; log in again and ask for it there",
        "invalid_target" => {
            "the audience was not asked for at login; log in again with this audience (one login has one audience)"
        }
        "invalid_grant" => "it no longer accepts the login behind this mytoken; log in again",
        "temporarily_unavailable" | "server_error" => "it has an internal problem; try again later",
        _ => "ask its administrator",
    };
    format!("{code}: {advice}")
}
