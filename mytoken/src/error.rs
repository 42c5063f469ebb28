// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error of operations that use several parts of this crate.

mod kind;

pub use kind::Kind;

use crate::InputError;
use crate::config::ConfigError;
use crate::http::HttpError;
use crate::private_files::FileError;
use crate::server::ServerError;
use crate::token_store::StoreError;
use crate::urls::UrlError;

/// Any error of this crate, as a sentence that says what is wrong and what to do. It contains no secret. Each part of the crate has its
/// own error type; [`Error::kind`] says how a caller can react.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Files that hold credentials.
    #[error(transparent)]
    File(#[from] FileError),
    /// The network.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The request itself.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The mytoken server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The token store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A URL.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl Error {
    /// Whether the server may have carried out the request although its answer cannot be used: it was lost on the way, or a server on the way
    /// answered instead.
    #[must_use]
    pub fn is_answer_lost(&self) -> bool {
        match self {
            Self::Http(HttpError::Unreachable { sent, .. }) => *sent,
            Self::Http(HttpError::TooLate { .. } | HttpError::TooLarge { .. }) => true,
            // The server itself undoes what it did when it fails. One on the way does not know.
            Self::Server(ServerError::Failed { status, .. }) => [502, 504].contains(status),
            Self::Server(ServerError::NotUnderstood { status, .. }) => (200..300).contains(status),
            _ => false,
        }
    }

    /// Whether the server has accepted the mytoken, and refused something else or gave something else.
    #[must_use]
    pub fn is_acceptance(&self) -> bool {
        matches!(
            self,
            Self::Server(
                ServerError::UsageRestricted { .. }
                    | ServerError::MissingCapability { .. }
                    | ServerError::ProviderRefused { .. }
                    | ServerError::ProviderTooManyRequests { .. }
                    | ServerError::EmptyAccessToken { .. }
                    | ServerError::OtherAccessToken { .. }
                    | ServerError::Broader { .. }
            )
        )
    }
}

/// Implements `From` for the listed error types of parts. `$variant` is the variant of `$error` that holds an [`Error`].
#[macro_export]
macro_rules! impl_from_part_errors {
    ($error:ident::$variant:ident: $($part:ty),+ $(,)?) => {
        $(impl From<$part> for $error {
            fn from(error: $part) -> Self {
                Self::$variant(error.into())
            }
        })+
    };
}
