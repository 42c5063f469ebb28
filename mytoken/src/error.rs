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
/// own error type; [`Error::kind`] tells how a caller can react.
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

/// Implements `From` for the error types of single parts, for an error type with a variant that holds an [`Error`].
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
