// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the mytoken of a command comes from: the user's store; without one for the server, what the session has.

pub mod session;

use mytoken::server::ServerError;
use mytoken::token_store::{AcquiredToken, StoreError, StoredToken, TokenStore, Trouble, UsedFor};
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Secret, SystemClock};

use crate::error::Error;
use crate::output::tell;
use crate::printable::printable;
use crate::settings::HelperSettings;
use session::{Found, Usual};

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

/// The source for a command.
#[derive(Debug)]
pub struct Chosen {
    /// The source.
    pub mytokens: MytokenSource,
    /// The server whose mytoken is used.
    pub server: ServerUrl,
    /// What the user is told about it, if it is not of the store.
    pub told: Option<String>,
}

impl Chosen {
    /// The source for the server that `option` (`--server`) or the configuration names: the store; if that has none for the server, or one
    /// that cannot be used any more, the session's.
    pub fn new(settings: &HelperSettings, option: Option<&str>) -> Result<Self, Error> {
        // Without a place to write, as in a container, there is none.
        let store = settings.existing_store()?;
        let server = match &store {
            Some(store) => settings.stored_server(option, store),
            None => settings.server(option).map_err(|error| if option.is_some() { error } else { Error::NoMytoken }),
        };
        let entry = match (&store, &server) {
            (Some(store), Ok(server)) => store.token(server)?,
            _ => None,
        };
        let why = entry.as_ref().and_then(|entry| unusable(entry, SystemClock.now()));
        // Of several, only the user knows which one is meant.
        let is_ambiguous =
            server.is_err() && store.as_ref().map_or(Ok(false), |store| store.tokens().map(|all| !all.is_empty()))?;
        let is_of_use = entry.is_some() && why.is_none();
        let lent = if is_of_use || is_ambiguous { None } else { found(settings, option, entry.is_some())? };
        // Of another server it is another choice than the user has made.
        let is_chosen = settings.user.server.is_some() || why.is_some();
        let fits = |lent: &Found| !is_chosen || server.as_ref().is_ok_and(|server| *server == lent.entry.server);
        if let Some(lent) = lent.filter(fits) {
            return Ok(Self::lent(lent, why.unwrap_or_default()));
        }
        let server = server?;
        if entry.is_some_and(|entry| entry.is_dangerous()) {
            // Before ssh runs, not at its prompt.
            return Err(StoreError::Dangerous { server: server.to_string() }.into());
        }
        match store {
            Some(store) => Ok(Self { mytokens: MytokenSource::Store(store), server, told: None }),
            None => Err(Error::NotLoggedIn { server: server.to_string() }),
        }
    }

    /// The mytoken that a program has printed; `place`: its name. `option`: `--server`.
    pub fn printed(
        settings: &HelperSettings,
        option: Option<&str>,
        mytoken: &Secret,
        place: &str,
    ) -> Result<Self, Error> {
        session::of_text(settings, option, mytoken, place, "").map(|found| Self::lent(found, ""))
    }

    fn lent(lent: Found, why: &str) -> Self {
        Self {
            told: Some(format!("with the mytoken \"{}\" of {}{why}", printable(&lent.entry.name), lent.place)),
            server: lent.entry.server.clone(),
            mytokens: MytokenSource::Lent(Box::new(lent.entry)),
        }
    }

    /// Tells the user of a mytoken that is not of the store.
    pub fn tell(self) -> Self {
        if let Some(told) = &self.told {
            tell(&format!("mytoken-ssh: {told}"));
        }
        self
    }
}

/// The session's mytoken. With a stored one, which may still be of use, what keeps the session's from being used is only told; so is what is
/// wrong with a file that nobody has named: another user may have put it into /tmp.
fn found(settings: &HelperSettings, option: Option<&str>, is_stored: bool) -> Result<Option<Found>, Error> {
    let told = |error: Error| {
        tell(&format!("mytoken-ssh: {error}"));
        None
    };
    match session::mytoken(settings, option, Usual::PassedOver) {
        Err(error) if is_stored => Ok(told(error)),
        Ok(None) => Ok(session::mytoken(settings, option, Usual::Used).unwrap_or_else(told)),
        named => named,
    }
}

/// Why a stored mytoken is of no use any more.
pub fn unusable(entry: &StoredToken, now: u64) -> Option<&'static str> {
    match entry.trouble {
        _ if entry.expired(now) => Some(", because the stored one has expired"),
        _ if entry.is_dangerous() => Some(", because the stored one is in doubt"),
        Some(Trouble::Refused) => Some(", because the server has refused the stored one"),
        Some(Trouble::AnswerLost) | None => None,
    }
}

impl MytokenSource {
    /// As [`TokenStore::token`].
    pub fn token(&self, server: &ServerUrl) -> Result<Option<StoredToken>, StoreError> {
        match self {
            Self::Store(store) => store.token(server),
            Self::Lent(entry) => Ok(Some((**entry).clone()).filter(|entry| entry.server == *server)),
        }
    }

    /// The user's own one, which `logout` would revoke.
    pub fn own(&self, server: &ServerUrl) -> Option<StoredToken> {
        match self {
            Self::Store(store) => store.token(server).ok().flatten(),
            Self::Lent(_) => None,
        }
    }

    /// As [`TokenStore::acquire_to_ask`].
    pub fn acquire_to_ask(
        &self,
        server: &ServerUrl,
        deadline: Deadline,
    ) -> Result<Option<UsedMytoken<'_>>, StoreError> {
        match self {
            Self::Store(store) => {
                Ok(store.acquire_to_ask(server, deadline)?.map(|acquired| UsedMytoken::Stored(Box::new(acquired))))
            }
            Self::Lent(entry) => Ok(Some(UsedMytoken::Lent(entry)).filter(|_| entry.server == *server)),
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
    pub fn note<T>(&mut self, outcome: &Result<T, mytoken::Error>, used_for: UsedFor) {
        if let Self::Stored(acquired) = self {
            acquired.ended(outcome, used_for);
        }
    }

    /// As [`AcquiredToken::ended`], and the error as a sentence for the owner of the mytoken.
    pub fn ended<T>(&mut self, outcome: Result<T, mytoken::Error>, used_for: UsedFor) -> Result<T, Error> {
        let was_in_doubt = self.stored().trouble == Some(Trouble::AnswerLost);
        self.note(&outcome, used_for);
        outcome.map_err(|error| match error {
            mytoken::Error::Server(ServerError::TokenRefused { server }) => Error::Refused { server, was_in_doubt },
            error if error.is_answer_lost() && self.stored().trouble == Some(Trouble::AnswerLost) => {
                Error::InDoubt(error)
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scope_and_audience::tests::{NOW, stored};

    #[test]
    fn a_stored_mytoken_is_of_no_use_after_its_end_after_a_refusal_and_where_it_would_revoke_others() {
        let with = |trouble, auto_revoke: bool, expires_at| {
            let rotation = serde_json::from_value(json!({"on_AT": true, "auto_revoke": auto_revoke})).unwrap();
            let entry = StoredToken { trouble, rotation: Some(rotation), expires_at, ..stored(&["AT"], &json!([])) };
            unusable(&entry, NOW).is_some()
        };
        assert!(!with(None, true, None) && with(None, false, Some(NOW - 1)));
        assert!(with(Some(Trouble::Refused), false, None));
        assert!(!with(Some(Trouble::AnswerLost), false, None) && with(Some(Trouble::AnswerLost), true, None));
    }

    #[test]
    fn a_lent_mytoken_is_not_the_users_own() {
        let entry = stored(&["AT"], &json!([]));
        let server = entry.server.clone();
        let lent = MytokenSource::Lent(Box::new(entry));
        assert!(lent.token(&server).unwrap().is_some() && lent.own(&server).is_none());
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::open(&dir.path().join("tokens")).unwrap();
        let entry = stored(&["AT"], &json!([]));
        store.lock(Deadline::after(std::time::Duration::from_secs(9))).unwrap().put(&entry).unwrap();
        assert!(MytokenSource::Store(store).own(&server).is_some());
    }
}
