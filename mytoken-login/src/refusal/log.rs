// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the log line of a refusal has: its level, its word and its details.

use mytoken::token::NotAToken;

use super::{Limit, Refusal, RefusalClass};
use crate::oidc::Rejection;
use crate::service_state::ServiceState;

/// Level of a log line, as syslog defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing works: the configuration cannot be used, or there is an internal error.
    Critical,
    /// A service or the operating system failed.
    Error,
    /// Something works only in part: a session without its credential.
    Warning,
    /// A refused login.
    Notice,
    /// An accepted login, or text that was not a token.
    Info,
    /// Only with the argument `debug`.
    Debug,
}

impl Level {
    /// Its name in syslog.
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
            Self::NotHandled(_) => "not_ours",
            Self::Empty => "empty",
            Self::UserUnknown => "user_unknown",
            Self::Garbage(NotAToken::TooLong) => "too_long",
            Self::Garbage(NotAToken::Cut) => "cut",
            Self::Garbage(_) => "garbage",
            Self::Chunks(_) => "chunks",
            Self::Opaque => "opaque",
            Self::OpaqueIssuer => "opaque_issuer",
            Self::OpaqueExchange { .. } => "opaque_exchange",
            Self::KindNotAccepted(_) => "kind_not_accepted",
            Self::ForeignServer => "foreign_server",
            Self::Rotating => "rotating",
            Self::NoAccessTokens => "no_at_capability",
            Self::CodeUnknown => "code_unknown",
            Self::Repeated => "repeated",
            Self::Replayed => "replayed",
            Self::Link(refusal) => refusal.reason(),
            Self::MytokenRefused => "mytoken_refused",
            Self::Restricted => "usage_restricted",
            Self::ExchangeRefused(_) => "exchange_refused",
            Self::Token(rejection) => rejection.reason(),
            Self::TooManyRequests { limit: Limit::Address, .. } => "budget_address",
            Self::TooManyRequests { limit: Limit::Host, .. } => "budget_host",
            Self::TooManyRequests { limit: Limit::Server, .. } => "server_limit",
            Self::TooManyRequests { limit: Limit::Provider, .. } => "provider_limit",
            Self::TooManyRequests { limit: Limit::UsedByAccount, .. } => "used_by_account",
            Self::TooManyRequests { limit: Limit::UsedOnHost, .. } => "used_on_host",
            Self::DeadlinePassed => "late",
            Self::Unavailable(_) => "unavailable",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::NotMapped { .. } => "not_mapped",
            Self::Requirement(_) => "requirement",
            Self::NotActive(ServiceState::Suspended) => "suspended",
            Self::NotActive(ServiceState::Limited) => "limited",
            Self::NotActive(ServiceState::Pending) => "pending",
            Self::OneTimePasswordRefused(_) => "otp_refused",
            Self::NotDecided(_) => "not_decided",
            Self::Configuration(_) => "configuration",
            Self::Conversation => "conversation",
            Self::System(_) => "system",
        }
    }

    /// The level of its log line.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::NotHandled(_) | Self::Empty => Level::Debug,
            Self::UserUnknown
            | Self::Conversation
            | Self::Garbage(NotAToken::Empty | NotAToken::SshdJunk | NotAToken::TooShort) => Level::Info,
            Self::Configuration(_) => Level::Critical,
            Self::TooManyRequests { limit: Limit::UsedOnHost, .. } => Level::Error,
            _ if matches!(self.class(), RefusalClass::Unavailable | RefusalClass::System) => Level::Error,
            _ => Level::Notice,
        }
    }

    /// The details for the log.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NotHandled(what) | Self::KindNotAccepted(what) => Some((*what).to_owned()),
            Self::Unavailable(what)
            | Self::Configuration(what)
            | Self::System(what)
            | Self::ExchangeRefused(what)
            | Self::OneTimePasswordRefused(what)
            | Self::NotDecided(what)
            | Self::Requirement(what)
            | Self::Token(
                Rejection::KeysUnavailable(what)
                | Rejection::ValidationUnavailable(what)
                | Rejection::ValidationRefused(what)
                | Rejection::Scope(what),
            ) => Some(what.clone()),
            Self::Link(refusal) => refusal.detail(),
            Self::Garbage(why) => Some(why.as_str().to_owned()),
            Self::Chunks(fault) => Some(fault.to_string()),
            Self::OpaqueExchange { provider: Some(url) } => Some(format!(
                "the mytoken server gave an opaque access token: the [[issuer]] of {url} needs the key opaque, \
                 and a validation that asks the provider"
            )),
            Self::OpaqueExchange { provider: None } => Some(
                "the mytoken server gave an opaque access token for a short token, so its provider is not known"
                    .to_owned(),
            ),
            Self::NotMapped { maps_to: Some(account), .. } => Some(format!("maps to {account}")),
            Self::Token(rejection @ (Rejection::Claim(_) | Rejection::WrongKind(_) | Rejection::ClaimsDiffer(_))) => {
                Some(rejection.to_string())
            }
            _ => None,
        }
    }
}
