// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error of an operation that crosses several boundaries.

mod kind;

pub use kind::Kind;

use crate::InputError;
use crate::config::ConfigError;
use crate::http::HttpError;
use crate::private_files::FileError;
use crate::server::ServerError;
use crate::token_store::StoreError;
use crate::urls::UrlError;

/// What went wrong, in words that say what to do. No variant holds a secret. Each boundary has its own type; [`Error::kind`] says what
/// a caller may do about it.
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

/// For an error type with a variant that holds an [`Error`]: converts the errors of single boundaries into it.
#[macro_export]
macro_rules! from_boundaries {
    ($error:ident::$variant:ident: $($boundary:ty),+ $(,)?) => {
        $(impl From<$boundary> for $error {
            fn from(error: $boundary) -> Self {
                Self::$variant(error.into())
            }
        })+
    };
}
