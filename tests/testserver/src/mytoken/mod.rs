// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mytoken server, faithful to the captures of mytoken 0.10.2.

mod access;
mod answer;
mod body;
mod capabilities;
mod clauses;
mod codes;
mod consent;
mod credential;
mod discovery;
mod faults;
mod guests;
mod hosts;
mod issue;
mod journal;
mod jwt;
mod limit;
mod login;
mod profiles;
mod quirks;
mod redeem;
mod redirect;
mod revoke;
mod rotation;
mod routes;
mod settings;
mod store;
mod successor;
mod templates;
mod tighten;
mod times;
mod tokeninfo;
mod transfer;
mod wanted;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

pub use answer::Problem;
pub use codes::mom_id;
pub use jwt::peek as claims_of;
pub use limit::{LOOPBACK, Limit};
pub use quirks::Quirks;

use crate::http::Request;
use crate::locked;
use crate::provider::link::{ProviderInfo, TokenEndpoint};

/// A provider the server has tokens from.
#[derive(Clone)]
pub struct Upstream {
    /// Name in the discovery document.
    pub name: String,
    /// How to reach it with a browser.
    pub info: ProviderInfo,
    /// How to reach it from here.
    pub link: Arc<dyn TokenEndpoint>,
}

/// The server's settings.
pub struct Config {
    /// Instance URL, without a trailing slash.
    pub issuer: String,
    /// Providers in the order of the discovery document.
    pub upstreams: Vec<Upstream>,
    /// Whether the dummy provider for guests is there.
    pub guests: bool,
    /// Request limit.
    pub limit: Option<Limit>,
    /// Bugs of the original.
    pub quirks: Quirks,
    /// Passwords of the groups that may write templates.
    pub groups: HashMap<String, String>,
    /// Unix seconds; the fault `clock-skew` is added to it.
    pub clock: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl Config {
    /// The world of the captures: guest mode on, group `_` with password `profilepw`, all quirks, no request limit.
    #[must_use]
    pub fn captured(issuer: &str, upstreams: Vec<Upstream>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            upstreams,
            guests: true,
            limit: None,
            quirks: Quirks::default(),
            groups: HashMap::from([("_".into(), "profilepw".into())]),
            clock: Box::new(unix_now),
        }
    }
}

/// The system's clock.
#[must_use]
pub fn unix_now() -> i64 {
    i64::try_from(crate::unix_time()).unwrap_or(i64::MAX)
}

/// Seconds a polling, transfer or consent code lives.
const CODE_LIFETIME: i64 = 300;
/// Letters of a code.
const CODE_LENGTH: usize = 8;
/// Letters of a short token.
const SHORT_LENGTH: usize = 64;
/// Below this a credential is a code.
const SHORTEST_TOKEN: usize = 32;

/// The server.
pub struct Server {
    config: Config,
    upstreams: Vec<Upstream>,
    key: jwt::Key,
    state: Mutex<store::State>,
    faults: faults::Faults,
    journal: journal::Journal,
    limiter: limit::Limiter,
}

impl Server {
    /// A server with nothing in it.
    ///
    /// # Errors
    /// No randomness for the signing key.
    pub fn new(config: Config) -> Result<Self, String> {
        let key = jwt::Key::generate().map_err(|problem| problem.description.unwrap_or_default())?;
        let mut upstreams = config.upstreams.clone();
        if config.guests {
            upstreams.push(guests::upstream(&config.issuer));
        }
        Ok(Self {
            upstreams,
            key,
            state: Mutex::default(),
            faults: faults::Faults::default(),
            journal: journal::Journal::default(),
            limiter: limit::Limiter::default(),
            config,
        })
    }

    /// Unix seconds as this server sees them.
    fn now(&self) -> i64 {
        (self.config.clock)().saturating_add(self.faults.skew())
    }

    fn state(&self) -> MutexGuard<'_, store::State> {
        locked(&self.state)
    }

    fn upstream(&self, index: usize) -> answer::Answer<&Upstream> {
        self.upstreams.get(index).ok_or_else(|| Problem::internal("no such provider"))
    }

    /// Sets a fault by its name (see `faults`), or with `clear` mends all of them.
    ///
    /// # Errors
    /// A name or an argument the server does not know.
    pub fn set_fault(&self, name: &str, args: &serde_json::Value) -> Result<(), String> {
        self.faults.set(name, args)
    }

    /// The requests answered so far, oldest first: objects with `time`, `method`, `path`, `endpoint`, `grant_type`,
    /// `action`, `status` and nothing secret.
    #[must_use]
    pub fn journal(&self) -> Vec<serde_json::Value> {
        self.journal.entries()
    }

    /// Forgets the requests answered so far.
    pub fn clear_journal(&self) {
        self.journal.clear();
    }
}

/// A request with what every endpoint needs of it.
struct Call<'a> {
    request: &'a Request,
    now: i64,
}

impl Call<'_> {
    fn event(&self, event: &'static str, comment: impl Into<String>) -> store::Event {
        store::Event {
            event,
            comment: comment.into(),
            time: self.now,
            ip: self.ip(),
            user_agent: self.request.header("User-Agent").unwrap_or_default().to_owned(),
        }
    }

    fn ip(&self) -> String {
        self.request.peer.to_canonical().to_string()
    }
}
