// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which refusals guessing causes, and which honest users meet.

use super::{Limit, Refusal};
use crate::oidc::Rejection;
use mytoken::token::NotAToken;

impl Refusal {
    /// Whether a scanner should count it: text that is no token, forged tokens, unknown codes and accounts. The others happen to honest
    /// users, too: an expired token, the wrong account, an outage. The filter for fail2ban counts the same.
    #[must_use]
    pub fn is_guess(&self) -> bool {
        match self {
            Self::Garbage(why) => *why != NotAToken::Cut,
            Self::Token(rejection) => matches!(
                rejection,
                Rejection::Malformed
                    | Rejection::IssuerUnknown
                    | Rejection::Algorithm
                    | Rejection::Critical
                    | Rejection::KeyUnknown
                    | Rejection::KeyUnfit
                    | Rejection::Signature
                    | Rejection::Inactive
            ),
            Self::UserUnknown
            | Self::Chunks(_)
            | Self::Opaque
            | Self::OpaqueIssuer
            | Self::CodeUnknown
            | Self::TooManyRequests { limit: Limit::Address, .. } => true,
            Self::NotHandled(_)
            | Self::Empty
            | Self::OpaqueExchange { .. }
            | Self::KindNotAccepted(_)
            | Self::ForeignServer
            | Self::Rotating
            | Self::NoAccessTokens
            | Self::Repeated
            | Self::Replayed
            | Self::Link(_)
            | Self::MytokenRefused
            | Self::Restricted
            | Self::ExchangeRefused(_)
            | Self::TooManyRequests { .. }
            | Self::DeadlinePassed
            | Self::Unavailable(_)
            | Self::ProviderUnavailable
            | Self::NotMapped { .. }
            | Self::Requirement(_)
            | Self::NotActive(_)
            | Self::OneTimePasswordRefused(_)
            | Self::NotDecided(_)
            | Self::Configuration(_)
            | Self::Conversation
            | Self::System(_) => false,
        }
    }

    /// The sentence for the user and what only the log has, for an administrator.
    pub(crate) fn whole_sentence(&self) -> String {
        let sentence = self.to_string();
        match self.detail() {
            Some(detail) if !sentence.contains(&detail) => format!("{sentence}: {detail}"),
            _ => sentence,
        }
    }
}
