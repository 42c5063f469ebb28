// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which errors are temporary, which are final: what a login, an agent or a helper decides by.

use super::Error;

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Temporary: the same request may succeed later. Keep what you have.
    Unavailable,
    /// The token, code or right was refused: the same request will fail again.
    Refused,
    /// An answer that must not be used (broader than asked, foreign issuer).
    Untrusted,
    /// The request or input is wrong.
    Invalid,
    /// The configuration of this machine or of the server is wrong.
    Configuration,
    /// A file of this machine cannot be read or written as it must be; a rotated token may be lost by it.
    Storage,
}

impl Error {
    /// What a caller may do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. }
            | Self::TooLate { .. }
            | Self::TooLarge { .. }
            | Self::NotUnderstood { .. }
            | Self::ServerFailed { .. }
            | Self::TooManyRequests { .. }
            | Self::ProviderTooManyRequests { .. }
            | Self::EmptyAccessToken { .. }
            | Self::StoreBusy { .. } => Kind::Unavailable,
            Self::ProviderRefused { code, .. } if code == "temporarily_unavailable" || code == "server_error" => {
                Kind::Unavailable
            }
            Self::TokenRefused { .. }
            | Self::CodeRefused { .. }
            | Self::MissingCapability { .. }
            | Self::UsageRestricted { .. }
            | Self::ProviderRefused { .. }
            | Self::Declined
            | Self::LoginNotConfirmed
            | Self::LoginAbandoned
            | Self::Rejected { .. }
            | Self::NotNarrower { .. } => Kind::Refused,
            Self::ForeignIssuer { .. } | Self::OtherAccessToken { .. } | Self::Broader { .. } => Kind::Untrusted,
            Self::InvalidUrl { .. } | Self::InvalidRequest { .. } | Self::Malformed { .. } => Kind::Invalid,
            Self::ConfigUnreadable { .. }
            | Self::ConfigUnsafe { .. }
            | Self::ConfigInvalid { .. }
            | Self::Roots { .. }
            | Self::HttpSettings { .. }
            | Self::NotOffered { .. } => Kind::Configuration,
            Self::File { .. }
            | Self::Identity { .. }
            | Self::RotatedTokenNotStored { .. }
            | Self::StoreUnsafe { .. }
            | Self::StoreUnusable { .. }
            | Self::StoreDamaged { .. } => Kind::Storage,
        }
    }

    /// Whether the same request may succeed later: network, deadline, 5xx, 429, empty access token.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind() == Kind::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_and_final_are_told_apart() {
        let server = || "https://mt.example.org".to_owned();
        let table = [
            (Error::EmptyAccessToken { server: server() }, Kind::Unavailable),
            (Error::TooLate { host: server() }, Kind::Unavailable),
            (Error::ServerFailed { server: server(), status: 500 }, Kind::Unavailable),
            (Error::TooManyRequests { server: server(), retry_after: None }, Kind::Unavailable),
            (Error::ProviderRefused { server: server(), code: "temporarily_unavailable".into() }, Kind::Unavailable),
            (Error::ProviderRefused { server: server(), code: "invalid_grant".into() }, Kind::Refused),
            (Error::TokenRefused { server: server() }, Kind::Refused),
            (Error::Broader { server: server(), what: "scope".into(), revoked: true }, Kind::Untrusted),
            (Error::RotatedTokenNotStored { reason: "disk full".into() }, Kind::Storage),
            (Error::Roots { file: "x".into(), reason: "y".into() }, Kind::Configuration),
        ];
        for (error, kind) in table {
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.is_unavailable(), kind == Kind::Unavailable, "{error}");
        }
    }

    #[test]
    fn a_refused_audience_is_explained_in_words_of_the_login() {
        let error = Error::ProviderRefused { server: "https://mt.example.org".into(), code: "invalid_target".into() };
        assert!(error.to_string().contains("not asked for at login"), "{error}");
    }
}
