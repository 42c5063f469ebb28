// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the mytoken of a command comes from: the user's store; without one for the server, what the session has.

pub mod session;

use mytoken::server::ServerError;
use mytoken::token_store::{AcquiredToken, StoreError, StoredToken, TokenStore, Trouble};
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Secret};

use crate::error::Error;
use crate::output::tell;
use crate::printable::printable;
use crate::settings::HelperSettings;

/// A place with mytokens.
#[derive(Debug)]
pub enum MytokenSource {
    /// The user's store.
    Store(TokenStore),
    /// A mytoken that somebody else keeps. It does not rotate.
    Lent(Box<StoredToken>),
}

/// A mytoken that is being used for a request.
pub enum UsedMytoken<'source> {
    /// Of the store, which keeps its successor.
    Stored(Box<AcquiredToken<'source>>),
    /// Of somebody else.
    Lent(&'source StoredToken),
}

impl MytokenSource {
    /// The source for the server that `option` (`--server`) or the configuration names, and the server. A mytoken that is not of the store is
    /// told.
    pub fn choose(settings: &HelperSettings, option: Option<&str>) -> Result<(Self, ServerUrl), Error> {
        let store = settings.store()?;
        let server = settings.stored_server(option, &store);
        if let Ok(server) = &server {
            if store.token(server)?.is_some() {
                return Ok((Self::Store(store), server.clone()));
            }
        } else if !store.tokens()?.is_empty() {
            // Which one is meant, only the user knows.
            return server.map(|server| (Self::Store(store), server));
        }
        if let Some(lent) = session::mytoken(settings, option)? {
            let server = lent.entry.server.clone();
            tell(&format!("mytoken-ssh: with the mytoken \"{}\" of {}", printable(&lent.entry.name), lent.place));
            return Ok((Self::Lent(Box::new(lent.entry)), server));
        }
        server.map(|server| (Self::Store(store), server))
    }

    /// As [`TokenStore::token`].
    pub fn token(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        match self {
            Self::Store(store) => store.token(server),
            Self::Lent(entry) => Ok(Some((**entry).clone()).filter(|entry| entry.server == *server)),
        }
    }

    /// As [`TokenStore::acquire`].
    pub fn acquire(&self, server: &ServerUrl, deadline: Deadline) -> Result<Option<UsedMytoken<'_>>, StoreError> {
        match self {
            Self::Store(store) => {
                Ok(store.acquire(server, deadline)?.map(|acquired| UsedMytoken::Stored(Box::new(acquired))))
            }
            Self::Lent(entry) => Ok(Some(UsedMytoken::Lent(entry)).filter(|_| entry.server == *server)),
        }
    }
}

impl UsedMytoken<'_> {
    /// The mytoken with its rights.
    pub fn stored(&self) -> &StoredToken {
        match self {
            Self::Stored(acquired) => acquired.stored(),
            Self::Lent(entry) => entry,
        }
    }

    /// As [`AcquiredToken::ended`].
    pub fn note<T>(&mut self, outcome: &Result<T, mytoken::Error>, replaces: bool) {
        if let Self::Stored(acquired) = self {
            acquired.ended(outcome, replaces);
        }
    }

    /// As [`AcquiredToken::ended`], and the error as a sentence for the owner of the mytoken.
    pub fn ended<T>(&mut self, outcome: Result<T, mytoken::Error>, replaces: bool) -> Result<T, Error> {
        let was_in_doubt = self.stored().trouble == Some(Trouble::AnswerLost);
        self.note(&outcome, replaces);
        outcome.map_err(|error| match error {
            mytoken::Error::Server(ServerError::TokenRefused { server }) => Error::Refused { server, was_in_doubt },
            error if replaces && self.stored().rotates() && error.is_answer_lost() => Error::InDoubt(error),
            error => error.into(),
        })
    }

    /// As [`AcquiredToken::store_successor`].
    pub fn store_successor(&mut self, successor: &Secret) -> Result<(), StoreError> {
        match self {
            Self::Stored(acquired) => acquired.store_successor(successor),
            // Only for a mytoken that rotates although it says that it does not: nobody has a place for the new one.
            Self::Lent(_) => Err(StoreError::Unusable {
                path: "the session's mytoken".into(),
                reason: "the server has replaced it, and it does not say that it is replaced".into(),
            }),
        }
    }
}
