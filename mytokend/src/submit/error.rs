// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a submission gets no credential.

use mytoken::Error;

use crate::jobs::SealError;

/// Why a mytoken cannot be the parent of a job's sub-token. Follows "the mytoken".
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Its file.
    #[error("cannot be read ({0})")]
    Unreadable(#[from] std::io::Error),
    /// Not a JWT with a mytoken's claims.
    #[error("is no mytoken in the form of a JWT")]
    NoMytoken,
    /// Another issuer.
    #[error("is of another mytoken server")]
    OtherServer,
    /// Expired.
    #[error("has expired")]
    Expired,
    /// It rotates. All its users would have to store the successor under one lock, as the store does.
    #[error("is replaced at each use and cannot be shared by a file")]
    Rotates,
    /// Without the capability `create_mytoken`.
    #[error("may not make sub-tokens")]
    MissingCapability,
}

/// The reason, a sentence for the user who submits.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// `jobs.toml` has no such profile.
    #[error("there is no profile \"{}\"; this cluster has: {known}", name.escape_debug())]
    UnknownProfile {
        /// Its name.
        name: String,
        /// The names in `jobs.toml`.
        known: String,
    },
    /// The user has no mytoken that can make the sub-token.
    #[error("no credential: {} and {}. Run: mytoken-ssh login", session_reason(session.as_ref()), stored_reason(server, stored.as_ref()))]
    NoMytoken {
        /// Host of the mytoken server.
        server: String,
        /// Why the session's mytoken cannot be used; `None` when there is none.
        session: Option<Unusable>,
        /// Why the mytoken in the store cannot be used; `None` when there is none.
        stored: Option<Unusable>,
    },
    /// Configuration, store, network or server.
    #[error(transparent)]
    Client(#[from] Error),
    /// The credential could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

mytoken::from_boundaries!(
    SubmitError::Client: mytoken::config::ConfigError,
    mytoken::http::HttpError,
    mytoken::token_store::StoreError,
);

fn session_reason(unusable: Option<&Unusable>) -> String {
    unusable.map_or_else(|| "your session has none".to_owned(), |why| format!("the mytoken of your session {why}"))
}

fn stored_reason(server: &str, unusable: Option<&Unusable>) -> String {
    unusable.map_or_else(
        || format!("~/.config/mytoken holds no token for {server}"),
        |why| format!("the one in ~/.config/mytoken for {server} {why}"),
    )
}
