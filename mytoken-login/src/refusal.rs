// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every reason for which a login is not let in: a word for the log, a sentence for the person, and the class that decides the
//! PAM code (`docs/interfaces.md`, "The prompt").

use mytoken::config::ConfigError;
use mytoken::http::HttpError;
use mytoken::names::UrlError;
use mytoken::server::ServerError;
use mytoken::token::Why;
use mytoken::{Error, Kind};
use mytoken_wire::chunks::ChunkFault;

use crate::oidc::Rejection;

/// Why a login is not let in. `Display` is what the person reads; it never tells more than they know already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This module has nothing to do with the service or account; others in the stack decide.
    #[error("this login is not for tokens")]
    NotOurs(
        /// For the log.
        &'static str,
    ),
    /// An answer of zero bytes. ssh sends those when an askpass helper fails (SSH-21).
    #[error("no token was entered")]
    Empty,
    /// No such account. It reads like garbage, so that nobody learns which accounts exist.
    #[error("the token was not accepted")]
    UserUnknown,
    /// Not of the form of any token; sent nowhere.
    #[error("{}", garbage(*.0))]
    Garbage(
        /// Why not.
        Why,
    ),
    /// The pieces of a long token did not come in order.
    #[error("the token was not accepted")]
    Chunks(
        /// What was wrong.
        ChunkFault,
    ),
    /// An opaque access token: nobody can tell whose it is.
    #[error("opaque access tokens are not accepted here; use a mytoken or a JWT")]
    Opaque,
    /// A kind of token that the configuration does not accept.
    #[error("{0} is not accepted here")]
    KindNotAccepted(
        /// "a mytoken", "a short token", "a transfer code".
        &'static str,
    ),
    /// A mytoken of another server than the configured one. Nothing was sent anywhere.
    #[error("this mytoken belongs to a mytoken server that is not used here")]
    ForeignServer,
    /// A mytoken that rotates: using it here would make the person's own copy worthless.
    #[error("this mytoken is replaced with each use and cannot be used for a login; create one that does not rotate")]
    Rotating,
    /// A mytoken that may not get access tokens.
    #[error("this mytoken may not get access tokens (capability AT)")]
    NoAccessTokens,
    /// A transfer code that is unknown, used, or too old.
    #[error("the code is unknown, too old, or was used before; make a new one")]
    CodeUnknown,
    /// The server does not accept the mytoken.
    #[error("the mytoken is expired, revoked or not valid yet")]
    MytokenRefused,
    /// The mytoken's restrictions do not allow it.
    #[error("the restrictions of the mytoken do not allow this login (time, place, scope, audience or number of uses)")]
    Restricted,
    /// The server or the provider refused the exchange, or gave something else than what was asked for.
    #[error("{0}")]
    ExchangeRefused(
        /// The sentence of the error, which holds no secret.
        String,
    ),
    /// The access token is not accepted.
    #[error("{0}")]
    Token(
        /// Why.
        Rejection,
    ),
    /// Too many requests: the budget for what nobody has verified is spent, or the mytoken server said 429. Never an outage, because
    /// whoever types tokens can cause it.
    #[error("too many logins at the moment; try again in {wait} s")]
    Busy {
        /// Seconds.
        wait: u64,
        /// `budget_address`, `budget_host`, `server_limit` or `provider_limit`, for the log.
        what: &'static str,
    },
    /// The time for the login was over before anything was asked. Never an outage: who calls a set-uid program can stop it for so long.
    #[error("this login took too long; try again")]
    Late,
    /// A server did not answer, or not sensibly.
    #[error("the login service is unavailable at the moment; try again later")]
    Unavailable(
        /// For the log.
        String,
    ),
    /// The provider behind the mytoken server is down: success in form, but no access token.
    #[error(
        "the login service is unavailable at the moment (the provider behind the mytoken server does not answer); try again later"
    )]
    ProviderUnavailable,
    /// The identity is good, but no rule gives it this account.
    #[error("your identity is valid but not mapped to the account \"{account}\"{}", other_account(.maps_to.as_deref()))]
    NotMapped {
        /// The account asked for.
        account: String,
        /// The account that a rule does give it.
        maps_to: Option<String>,
    },
    /// A rule would give it this account, but demands something that it lacks.
    #[error("your identity lacks what the account needs: {0}")]
    Requirement(
        /// What it lacks, from the configuration.
        String,
    ),
    /// The configuration cannot be used.
    #[error("logins with tokens are not set up correctly on this machine; tell its administrator")]
    Configuration(
        /// For the log.
        String,
    ),
    /// The person's side of the conversation failed or went away.
    #[error("the conversation ended")]
    Conversation,
    /// The system failed.
    #[error("this machine has a problem; tell its administrator")]
    System(
        /// For the log.
        String,
    ),
}

/// What follows from a refusal, in PAM's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Others decide.
    NotOurs,
    /// The token is not accepted.
    Rejected,
    /// The token is good, the account is not for its holder.
    Forbidden,
    /// Nobody could say.
    Unavailable,
    /// This machine is not set up for it.
    Misconfigured,
    /// The conversation failed.
    Conversation,
    /// The system failed.
    System,
}

/// How loud the log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Critical,
    /// Something does not work.
    Error,
    /// Something was left out.
    Warning,
    /// A refused login.
    Notice,
    /// A login, or noise.
    Info,
    /// Only with the argument `debug`.
    Debug,
}

impl Level {
    /// The name that syslog gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "crit",
            Self::Error => "err",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Refusal {
    /// One word for the log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotOurs(_) => "not_ours",
            Self::Empty => "empty",
            Self::UserUnknown => "user_unknown",
            Self::Garbage(Why::TooLong) => "too_long",
            Self::Garbage(Why::Cut) => "cut",
            Self::Garbage(_) => "garbage",
            Self::Chunks(_) => "chunks",
            Self::Opaque => "opaque",
            Self::KindNotAccepted(_) => "kind_not_accepted",
            Self::ForeignServer => "foreign_server",
            Self::Rotating => "rotating",
            Self::NoAccessTokens => "no_at_capability",
            Self::CodeUnknown => "code_unknown",
            Self::MytokenRefused => "mytoken_refused",
            Self::Restricted => "usage_restricted",
            Self::ExchangeRefused(_) => "exchange_refused",
            Self::Token(rejection) => rejection.reason(),
            Self::Busy { what, .. } => what,
            Self::Late => "late",
            Self::Unavailable(_) => "unavailable",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::NotMapped { .. } => "not_mapped",
            Self::Requirement(_) => "requirement",
            Self::Configuration(_) => "configuration",
            Self::Conversation => "conversation",
            Self::System(_) => "system",
        }
    }

    /// What follows in PAM's terms.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotOurs(_) => Class::NotOurs,
            Self::Token(Rejection::KeysUnavailable(_)) | Self::Unavailable(_) | Self::ProviderUnavailable => {
                Class::Unavailable
            }
            Self::Token(Rejection::Scope(_)) | Self::NotMapped { .. } | Self::Requirement(_) => Class::Forbidden,
            Self::Configuration(_) => Class::Misconfigured,
            Self::Conversation => Class::Conversation,
            Self::System(_) => Class::System,
            Self::Empty
            | Self::UserUnknown
            | Self::Garbage(_)
            | Self::Chunks(_)
            | Self::Opaque
            | Self::KindNotAccepted(_)
            | Self::ForeignServer
            | Self::Rotating
            | Self::NoAccessTokens
            | Self::CodeUnknown
            | Self::MytokenRefused
            | Self::Restricted
            | Self::ExchangeRefused(_)
            | Self::Busy { .. }
            | Self::Late
            | Self::Token(_) => Class::Rejected,
        }
    }

    /// How loud the log line is.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::NotOurs(_) | Self::Empty => Level::Debug,
            Self::UserUnknown | Self::Conversation | Self::Garbage(Why::Empty | Why::SshdJunk | Why::TooShort) => {
                Level::Info
            }
            Self::Configuration(_) => Level::Critical,
            _ if matches!(self.class(), Class::Unavailable | Class::System) => Level::Error,
            _ => Level::Notice,
        }
    }

    /// Whether the answer waits for `fail_delay`: what takes no time must not differ from what does. Nothing is told by answering
    /// zero bytes at once, which sshd hands on as they are for every account, and ssh without askpass sends three of them (SSH-21).
    #[must_use]
    pub fn waits(&self) -> bool {
        !matches!(self, Self::NotOurs(_) | Self::Empty | Self::Conversation)
    }

    /// Whether the person is told. Nobody reads it where nothing was asked, or nobody is there.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.waits()
    }

    /// What the log says beyond the reason.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NotOurs(what) | Self::KindNotAccepted(what) => Some((*what).to_owned()),
            Self::Unavailable(what)
            | Self::Configuration(what)
            | Self::System(what)
            | Self::ExchangeRefused(what)
            | Self::Requirement(what)
            | Self::Token(Rejection::KeysUnavailable(what) | Rejection::Scope(what)) => Some(what.clone()),
            Self::Garbage(why) => Some(why.as_str().to_owned()),
            Self::Chunks(fault) => Some(fault.to_string()),
            Self::NotMapped { maps_to: Some(account), .. } => Some(format!("maps to {account}")),
            Self::Token(rejection @ (Rejection::Claim(_) | Rejection::WrongKind(_))) => Some(rejection.to_string()),
            _ => None,
        }
    }
}

impl Class {
    /// The code of `pam_authenticate` that belongs to it.
    #[must_use]
    pub fn pam(self) -> &'static str {
        match self {
            Self::NotOurs => "PAM_USER_UNKNOWN",
            Self::Rejected => "PAM_AUTH_ERR",
            Self::Forbidden => "PAM_PERM_DENIED",
            Self::Unavailable => "PAM_AUTHINFO_UNAVAIL",
            Self::Misconfigured => "PAM_SERVICE_ERR",
            Self::Conversation => "PAM_CONV_ERR",
            Self::System => "PAM_SYSTEM_ERR",
        }
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

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Token(rejection)
    }
}

/// What the mytoken server's answers mean for a login.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match (&error, error.kind()) {
            (Error::Server(ServerError::EmptyAccessToken { .. }), _) => Self::ProviderUnavailable,
            (Error::Server(ServerError::TokenRefused { .. }), _) => Self::MytokenRefused,
            (Error::Server(ServerError::CodeRefused { .. }), _) => Self::CodeUnknown,
            (Error::Server(ServerError::MissingCapability { .. }), _) => Self::NoAccessTokens,
            (Error::Server(ServerError::UsageRestricted { .. }), _) => Self::Restricted,
            (Error::Server(ServerError::RotatedTokenNotStored { .. }), _) => Self::Rotating,
            (
                Error::Server(ServerError::TooManyRequests { retry_after, .. })
                | Error::Server(ServerError::ProviderTooManyRequests { retry_after, .. }),
                _,
            ) => {
                let wait = retry_after.map_or(30, |wait| wait.as_secs().max(1));
                let provider = matches!(error, Error::Server(ServerError::ProviderTooManyRequests { .. }));
                Self::Busy { wait, what: if provider { "provider_limit" } else { "server_limit" } }
            }
            (Error::Url(UrlError { .. }) | Error::Server(ServerError::ForeignIssuer { .. }), _)
            | (_, Kind::Configuration) => Self::Configuration(error.to_string()),
            (_, Kind::Unavailable) => Self::Unavailable(error.to_string()),
            (_, Kind::Storage) => Self::System(error.to_string()),
            (_, Kind::Refused | Kind::Untrusted | Kind::Invalid) => Self::ExchangeRefused(error.to_string()),
        }
    }
}

fn garbage(why: Why) -> &'static str {
    match why {
        Why::Cut => "the token was cut by your ssh client; use a transfer code, a short token, or mytoken-ssh",
        Why::TooLong => "this is longer than any token",
        _ => "the token was not accepted",
    }
}

fn other_account(account: Option<&str>) -> String {
    account.map(|account| format!(". It maps to \"{account}\"")).unwrap_or_default()
}
