// SPDX-License-Identifier: MIT OR Apache-2.0
//! Temporary and final errors: how a login, the agent or a helper reacts to an error.

use super::Error;
use crate::InputError;
use crate::http::HttpError;
use crate::server::ServerError;
use crate::token_store::StoreError;

/// How a caller can react to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Temporary: the same request can succeed later. Keep the tokens that you have.
    Unavailable,
    /// The token, code or right was refused: the same request will fail again.
    Refused,
    /// The answer must not be used: it is broader than requested, or comes from another issuer.
    Untrusted,
    /// The request or input is wrong.
    Invalid,
    /// The configuration of this machine or of the server is wrong.
    Configuration,
    /// A file of this machine cannot be read or written. A rotated token may be lost.
    Storage,
}

impl Error {
    /// How a caller can react.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(_) => Kind::Configuration,
            Self::File(_) => Kind::Storage,
            Self::Http(error) => http_kind(error),
            Self::Input(InputError::NotNarrower { .. }) => Kind::Refused,
            Self::Input(_) | Self::Url(_) => Kind::Invalid,
            Self::Server(error) => server_kind(error),
            Self::Store(StoreError::Busy { .. }) => Kind::Unavailable,
            Self::Store(StoreError::Dangerous { .. }) => Kind::Refused,
            Self::Store(_) => Kind::Storage,
        }
    }

    /// Whether the same request can succeed later: network, deadline, 5xx, 429, empty access token.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind() == Kind::Unavailable
    }
}

fn http_kind(error: &HttpError) -> Kind {
    match error {
        HttpError::Unreachable { .. }
        | HttpError::Proxy { .. }
        | HttpError::TooLate { .. }
        | HttpError::TooLarge { .. } => Kind::Unavailable,
        HttpError::Roots { .. } | HttpError::Settings { .. } | HttpError::Certificate { .. } => Kind::Configuration,
        HttpError::Url(_) | HttpError::Input(_) => Kind::Invalid,
    }
}

fn server_kind(error: &ServerError) -> Kind {
    match error {
        ServerError::NotUnderstood { .. }
        | ServerError::Failed { .. }
        | ServerError::TooManyRequests { .. }
        | ServerError::ProviderTooManyRequests { .. }
        | ServerError::EmptyAccessToken { .. } => Kind::Unavailable,
        ServerError::ProviderRefused { code, .. } if code == "temporarily_unavailable" || code == "server_error" => {
            Kind::Unavailable
        }
        ServerError::TokenRefused { .. }
        | ServerError::CodeRefused { .. }
        | ServerError::MissingCapability { .. }
        | ServerError::UsageRestricted { .. }
        | ServerError::ProviderRefused { .. }
        | ServerError::Declined
        | ServerError::LoginNotConfirmed
        | ServerError::LoginAbandoned
        | ServerError::Rejected { .. } => Kind::Refused,
        ServerError::ForeignIssuer { .. } | ServerError::OtherAccessToken { .. } | ServerError::Broader { .. } => {
            Kind::Untrusted
        }
        ServerError::NotOffered { .. } => Kind::Configuration,
        ServerError::RotatedTokenNotStored { .. } => Kind::Storage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::CertificateFault;

    #[test]
    fn temporary_and_final_errors_have_different_kinds() {
        let server = || "https://mt.example.org".to_owned();
        let table = [
            (Error::Server(ServerError::EmptyAccessToken { server: server() }), Kind::Unavailable),
            (Error::Http(HttpError::TooLate { host: server() }), Kind::Unavailable),
            (Error::Server(ServerError::Failed { server: server(), status: 500 }), Kind::Unavailable),
            (Error::Server(ServerError::TooManyRequests { server: server(), retry_after: None }), Kind::Unavailable),
            (
                Error::Server(ServerError::ProviderRefused {
                    server: server(),
                    code: "temporarily_unavailable".into(),
                }),
                Kind::Unavailable,
            ),
            (
                Error::Server(ServerError::ProviderRefused { server: server(), code: "invalid_grant".into() }),
                Kind::Refused,
            ),
            (Error::Server(ServerError::TokenRefused { server: server() }), Kind::Refused),
            (
                Error::Server(ServerError::Broader { server: server(), what: "scope".into(), revoked: true }),
                Kind::Untrusted,
            ),
            (Error::Server(ServerError::RotatedTokenNotStored { reason: "disk full".into() }), Kind::Storage),
            (Error::Http(HttpError::Roots { file: "x".into(), reason: "y".into() }), Kind::Configuration),
            // Waiting does not help.
            (
                Error::Http(HttpError::Certificate { host: server(), fault: CertificateFault::UnknownAuthority }),
                Kind::Configuration,
            ),
        ];
        for (error, kind) in table {
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.is_unavailable(), kind == Kind::Unavailable, "{error}");
        }
    }

    #[test]
    fn the_message_for_a_refused_audience_says_to_request_it_at_login() {
        let error = Error::Server(ServerError::ProviderRefused {
            server: "https://mt.example.org".into(),
            code: "invalid_target".into(),
        });
        assert!(error.to_string().contains("not asked for at login"), "{error}");
    }
}
