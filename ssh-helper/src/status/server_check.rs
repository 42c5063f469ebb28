// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a mytoken server says of a stored mytoken. The question counts no use and replaces no mytoken (MT-48).

use std::time::Duration;

use mytoken::Deadline;
use mytoken::http::HttpClient;
use mytoken::server::Server;
use mytoken::token_store::{StoredToken, UsedFor};
use serde::Serialize;

use crate::error::Error;
use crate::login_token::trust_ca_file;
use crate::mytoken_sources::MytokenSource;
use crate::settings::HelperSettings;

/// Time limit for one server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is known after the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The server accepts it.
    Valid,
    /// The server does not accept it: it was revoked or replaced, has expired, or is not valid yet.
    Refused,
    /// The server gave no answer that tells it.
    Unknown,
}

/// The answer about one mytoken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerCheck {
    pub state: State,
    /// Why the state is not known; `null` if it is.
    pub reason: Option<String>,
    /// A sentence, if this machine's clock differs much from the server's.
    pub clock: Option<String>,
    /// The server's time of day after its answer, Unix seconds.
    #[serde(skip)]
    pub now: Option<u64>,
}

impl ServerCheck {
    /// Asks the server of `entry` about the mytoken that is stored for it now.
    pub fn ask(settings: &HelperSettings, mytokens: &MytokenSource, entry: &StoredToken) -> Self {
        let mut http = settings.http(None);
        if settings.user.ca_file.is_none() {
            trust_ca_file(&mut http, entry.ca_file.as_deref());
        }
        let (mut clock, mut now) = (None, None);
        let mut ask = || -> Result<(), Error> {
            let deadline = Deadline::after(TIMEOUT);
            let http = HttpClient::new(&http)?;
            let server = Server::discover(&http, &entry.server, deadline)?;
            (clock, now) = (server.clock_difference(), Some(server.now()));
            // Another process may replace a rotating mytoken meanwhile: the server would refuse the old one.
            let removed = || Error::NotLoggedIn { server: entry.server.to_string() };
            let mut acquired = mytokens.acquire_to_ask(&entry.server, deadline)?.ok_or_else(removed)?;
            let said = server.accepts(&acquired.stored().mytoken, deadline);
            acquired.ended(said, UsedFor::Question).map(drop)
        };
        let (state, reason) = verdict(ask());
        Self { state, reason, clock, now }
    }

    /// The line for a terminal.
    pub fn line(&self) -> String {
        match (&self.state, &self.reason) {
            (State::Valid, _) => "the server accepts it".to_owned(),
            (State::Refused, _) => {
                "the server does not accept it: revoked, replaced, expired or not valid yet; run: mytoken-ssh login"
                    .to_owned()
            }
            (State::Unknown, reason) => format!("not checked: {}", reason.as_deref().unwrap_or_default()),
        }
    }
}

fn verdict(answer: Result<(), Error>) -> (State, Option<String>) {
    match answer {
        Ok(()) => (State::Valid, None),
        Err(Error::Refused { .. }) => (State::Refused, None),
        Err(error) => (State::Unknown, Some(error.to_string())),
    }
}
