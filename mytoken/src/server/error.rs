// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a mytoken server refuses, or does wrong.

use std::time::Duration;

/// Why a mytoken server gave nothing that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
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
    /// 403: no clause of the mytoken allows the use.
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
    /// The person declined on the consent page.
    #[error("the login was declined in the browser")]
    Declined,
    /// The login was not confirmed in the browser in time.
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
