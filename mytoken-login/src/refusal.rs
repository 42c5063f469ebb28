// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a login is refused: a word for the log, a sentence for the user, and the class that decides the PAM code
//! (`docs/interfaces.md`, "The prompt").

use std::time::Duration;

use mytoken::config::ConfigError;
use mytoken::http::HttpError;
use mytoken::server::ServerError;
use mytoken::token::NotAToken;
use mytoken::urls::UrlError;
use mytoken::{Error, Kind};
use mytoken_wire::chunks::ChunkFault;

use crate::link::LinkRefusal;
use crate::oidc::Rejection;
use crate::service_state::ServiceState;

mod class;
mod guess;
mod log;

pub use class::RefusalClass;
pub use log::Level;

/// Why a login is refused. `Display` is the sentence for the user. It never reveals what the user does not know already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The service or account does not accept tokens. Other modules of the PAM stack decide.
    #[error("this login does not accept tokens")]
    NotHandled(
        /// For the log.
        &'static str,
    ),
    /// An answer of zero bytes. ssh sends one when an askpass helper fails (SSH-21).
    #[error("no token was entered")]
    Empty,
    /// No such account. The sentence is the same as for garbage, so that it does not reveal which accounts exist.
    #[error("the token was not accepted")]
    UserUnknown,
    /// Text that does not have the form of any token. It was sent nowhere.
    #[error("{}", garbage(*.0))]
    Garbage(
        /// The problem.
        NotAToken,
    ),
    /// The chunks of a long token are incomplete, out of order or malformed.
    #[error("the token was not accepted")]
    Chunks(
        /// The problem.
        ChunkFault,
    ),
    /// An opaque access token. It cannot be verified here.
    #[error("opaque access tokens are not accepted here; use a mytoken or a JWT")]
    Opaque,
    /// An opaque access token that several providers could have made. It was sent nowhere.
    #[error(
        "several providers of this site have such tokens; write @at:NAME: in front of it, with the site's name of yours"
    )]
    OpaqueIssuer,
    /// The mytoken server gave an opaque access token for a mytoken, and no issuer here is its provider and has such tokens.
    #[error("{}", opaque_exchange(.provider.as_deref()))]
    OpaqueExchange {
        /// The provider's URL. `None`: a short token does not tell it.
        provider: Option<String>,
    },
    /// The configuration does not accept this kind of token.
    #[error("{0} is not accepted here")]
    KindNotAccepted(
        /// "a mytoken", "a short token", "a transfer code", "a one-time password of motley_cue".
        &'static str,
    ),
    /// A mytoken of another server than the configured one. It was sent nowhere.
    #[error("this mytoken was issued by a mytoken server that is not accepted here")]
    ForeignServer,
    /// A mytoken that rotates. Using it here would invalidate the user's own copy.
    #[error(
        "this mytoken rotates: the server replaces it with each use. Create a mytoken for logins that does not rotate"
    )]
    Rotating,
    /// A mytoken without the capability `AT`.
    #[error("this mytoken cannot get access tokens: it lacks the capability AT")]
    NoAccessTokens,
    /// A transfer code that is unknown, used or expired.
    #[error("the transfer code is unknown, expired or already used; create a new one")]
    CodeUnknown,
    /// A token that this connection has sent before. It was refused then, and is not sent again.
    #[error("this token was refused in this connection a moment ago; enter another one, or connect again")]
    Repeated,
    /// An access token that has logged in on this host before. Only with `replay` of `[login]`.
    #[error("this access token has logged in here before, and works once on this host; get a new one")]
    Replayed,
    /// A login with a link was not confirmed as this host asked for.
    #[error("{0}")]
    Link(
        /// Why.
        LinkRefusal,
    ),
    /// The server refuses the mytoken.
    #[error("the mytoken is expired, revoked or not valid yet")]
    MytokenRefused,
    /// The mytoken's restrictions do not allow the exchange.
    #[error("the restrictions of the mytoken do not allow this login (time, place, scope, audience or number of uses)")]
    Restricted,
    /// The server or the provider refused the exchange, or the access token is not the one that was requested.
    #[error("{0}")]
    ExchangeRefused(
        /// The error's sentence. It holds no secret.
        String,
    ),
    /// The access token is rejected.
    #[error("{0}")]
    Token(
        /// Why.
        Rejection,
    ),
    /// A limit of requests is reached. This never counts as an outage, because anybody at a prompt can cause it.
    #[error("too many logins at the moment; try again in {wait} s")]
    TooManyRequests {
        /// Seconds until the next request is possible.
        wait: u64,
        /// Which limit.
        limit: Limit,
    },
    /// The deadline passed before a request was sent. This never counts as an outage: the caller of a set-uid program can stop it for
    /// that long.
    #[error("this login took too long; try again")]
    DeadlinePassed,
    /// A server did not answer, or its answer was not usable.
    #[error("the login service is unavailable at the moment; try again later")]
    Unavailable(
        /// For the log.
        String,
    ),
    /// The provider behind the mytoken server is down: the server answers as after a success, but with an empty access token.
    #[error(
        "the login service is unavailable at the moment (the provider behind the mytoken server does not answer); try again later"
    )]
    ProviderUnavailable,
    /// The identity is verified, but no rule gives it this account.
    #[error("your identity is valid but not mapped to the account \"{account}\"{}", other_account(.maps_to.as_deref()))]
    NotMapped {
        /// The requested account.
        account: String,
        /// The account that a rule gives the identity.
        maps_to: Option<String>,
    },
    /// A rule gives the identity this account, but the identity does not meet a requirement of the rule.
    #[error("your identity does not meet a requirement of this account: {0}")]
    Requirement(
        /// The requirement, from the configuration.
        String,
    ),
    /// The account is the identity's, or may become it, but motley_cue does not want it to be used.
    #[error("{0}")]
    NotActive(
        /// Its state.
        ServiceState,
    ),
    /// motley_cue does not know the one-time password, or does not accept the token behind it.
    #[error("the one-time password is unknown or already used, or you may not use this service; log in again")]
    OneTimePasswordRefused(
        /// For the log.
        String,
    ),
    /// Whoever decides about the account has decided nothing for this token. This never counts as an outage, because the person can cause it.
    #[error(
        "it cannot be found out whether you may use this account; try again later, or ask the administrator of this host"
    )]
    NotDecided(
        /// For the log.
        String,
    ),
    /// The configuration cannot be used.
    #[error("login with tokens is misconfigured on this host; tell its administrator")]
    Configuration(
        /// For the log.
        String,
    ),
    /// The conversation failed or ended.
    #[error("the conversation ended")]
    Conversation,
    /// An operation of the operating system failed.
    #[error("this host has a problem; tell its administrator")]
    System(
        /// For the log.
        String,
    ),
}

/// A limit of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `per_address` of `[budget]`.
    Address,
    /// `per_host` of `[budget]`.
    Host,
    /// The mytoken server's own limit: it answered 429.
    Server,
    /// The provider's limit: the provider answered the mytoken server with 429.
    Provider,
    /// Access tokens of one account whose use is remembered.
    UsedByAccount,
    /// Access tokens of all accounts whose use is remembered.
    UsedOnHost,
}

impl Refusal {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> RefusalClass {
        match self {
            Self::NotHandled(_) => RefusalClass::NotHandled,
            Self::Token(Rejection::KeysUnavailable(_) | Rejection::ValidationUnavailable(_))
            | Self::Unavailable(_)
            | Self::ProviderUnavailable => RefusalClass::Unavailable,
            Self::Token(Rejection::Scope(_)) | Self::NotMapped { .. } | Self::Requirement(_) | Self::NotActive(_) => {
                RefusalClass::Forbidden
            }
            Self::Configuration(_) => RefusalClass::Misconfigured,
            Self::Conversation => RefusalClass::Conversation,
            Self::System(_) => RefusalClass::System,
            Self::Empty
            | Self::UserUnknown
            | Self::Garbage(_)
            | Self::Chunks(_)
            | Self::Opaque
            | Self::OpaqueIssuer
            | Self::OpaqueExchange { .. }
            | Self::KindNotAccepted(_)
            | Self::ForeignServer
            | Self::Rotating
            | Self::NoAccessTokens
            | Self::CodeUnknown
            | Self::Repeated
            | Self::Replayed
            | Self::Link(_)
            | Self::MytokenRefused
            | Self::Restricted
            | Self::ExchangeRefused(_)
            | Self::OneTimePasswordRefused(_)
            | Self::NotDecided(_)
            | Self::TooManyRequests { .. }
            | Self::DeadlinePassed
            | Self::Token(_) => RefusalClass::Rejected,
        }
    }

    /// Whether `fail_delay` applies: the time of a refusal must not show its reason. An empty answer is refused at once. That reveals
    /// nothing, because sshd passes an empty answer on for every account; and ssh without an askpass sends three of them (SSH-21).
    #[must_use]
    pub fn is_delayed(&self) -> bool {
        !matches!(self, Self::NotHandled(_) | Self::Empty | Self::Conversation)
    }

    /// The sentence for whoever is at the prompt. With a link somebody else may have confirmed: a person who was lured into that must not
    /// give the name of an account away.
    pub(crate) fn sentence(&self, by_link: bool) -> String {
        match self {
            Self::NotMapped { account, .. } if by_link => {
                Self::NotMapped { account: account.clone(), maps_to: None }.to_string()
            }
            other => other.to_string(),
        }
    }

    /// Whether the user sees the sentence. Without a prompt, an answer or a conversation there is no reader.
    #[must_use]
    pub fn is_shown_to_user(&self) -> bool {
        self.is_delayed()
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Token(rejection)
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Error::from(error).into()
    }
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        Error::from(error).into()
    }
}

/// The refusal that follows from an error of the mytoken server.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match (&error, error.kind()) {
            (Error::Server(ServerError::EmptyAccessToken { .. }), _) => Self::ProviderUnavailable,
            (Error::Server(ServerError::TokenRefused { .. }), _) => Self::MytokenRefused,
            (Error::Server(ServerError::CodeRefused { .. }), _) => Self::CodeUnknown,
            (Error::Server(ServerError::MissingCapability { .. }), _) => Self::NoAccessTokens,
            (Error::Server(ServerError::UsageRestricted { .. }), _) => Self::Restricted,
            (Error::Server(ServerError::RotatedTokenNotStored { .. }), _) => Self::Rotating,
            (Error::Server(ServerError::TooManyRequests { retry_after, .. }), _) => {
                Self::TooManyRequests { wait: seconds(*retry_after), limit: Limit::Server }
            }
            (Error::Server(ServerError::ProviderTooManyRequests { retry_after, .. }), _) => {
                Self::TooManyRequests { wait: seconds(*retry_after), limit: Limit::Provider }
            }
            (Error::Url(UrlError { .. }) | Error::Server(ServerError::ForeignIssuer { .. }), _)
            | (_, Kind::Configuration) => Self::Configuration(error.to_string()),
            (_, Kind::Unavailable) => Self::Unavailable(error.to_string()),
            (_, Kind::Storage) => Self::System(error.to_string()),
            (_, Kind::Refused | Kind::Untrusted | Kind::Invalid) => Self::ExchangeRefused(error.to_string()),
        }
    }
}

/// The time to wait after a 429.
fn seconds(retry_after: Option<Duration>) -> u64 {
    retry_after.map_or(30, |wait| wait.as_secs().max(1))
}

fn garbage(why: NotAToken) -> &'static str {
    match why {
        NotAToken::Cut => {
            "the token was cut by ssh or by the program that asked for it; use a transfer code, a short token, or mytoken-ssh"
        }
        NotAToken::TooLong => "the text is longer than any token",
        _ => "the token was not accepted",
    }
}

fn opaque_exchange(provider: Option<&str>) -> &'static str {
    if provider.is_some() {
        "your provider gives opaque access tokens, and this host is not set up for them; tell its administrator"
    } else {
        "the provider gives opaque access tokens, and a short token does not say which provider that is; use the mytoken itself"
    }
}

fn other_account(account: Option<&str>) -> String {
    account.map(|account| format!(". It maps to \"{account}\"")).unwrap_or_default()
}
