// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server, its settings, and the context of a request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::http::Request;
use crate::locked;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::faults::ServerFaults;
use crate::mytoken::journal::Journal;
use crate::mytoken::limit::{Limit, Limiter};
use crate::mytoken::model::guest_provider;
use crate::mytoken::model::jwt::MytokenKey;
use crate::mytoken::model::store::{HistoryEvent, ServerState};
use crate::mytoken::model::upstream::Upstream;
use crate::mytoken::quirks::Quirks;

/// The server's settings.
pub struct Config {
    /// Instance URL, without a trailing slash.
    pub issuer: String,
    /// Providers in the order of the discovery document.
    pub upstreams: Vec<Upstream>,
    /// Whether the provider for guests is enabled.
    pub guests: bool,
    /// Request limit.
    pub limit: Option<Limit>,
    /// Which bugs of the original are copied.
    pub quirks: Quirks,
    /// Passwords of the groups that may write templates.
    pub groups: HashMap<String, String>,
    /// Unix seconds; the fault `clock-skew` is added to it.
    pub clock: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl Config {
    /// The settings of the captured server: guest mode, group `_` with password `profilepw`, all quirks, no request
    /// limit.
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

/// The server.
pub struct Server {
    pub(crate) config: Config,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) key: MytokenKey,
    state: Mutex<ServerState>,
    pub(crate) faults: ServerFaults,
    pub(crate) journal: Journal,
    pub(crate) limiter: Limiter,
}

impl Server {
    /// A server without tokens.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn new(config: Config) -> Result<Self, String> {
        let key = MytokenKey::generate().map_err(|problem| problem.description.unwrap_or_default())?;
        let mut upstreams = config.upstreams.clone();
        if config.guests {
            upstreams.push(guest_provider::upstream(&config.issuer));
        }
        Ok(Self {
            upstreams,
            key,
            state: Mutex::default(),
            faults: ServerFaults::default(),
            journal: Journal::default(),
            limiter: Limiter::default(),
            config,
        })
    }

    /// Unix seconds as this server sees them.
    pub(crate) fn now(&self) -> i64 {
        (self.config.clock)().saturating_add(self.faults.skew())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ServerState> {
        locked(&self.state)
    }

    pub(crate) fn upstream(&self, index: usize) -> ApiResult<&Upstream> {
        self.upstreams.get(index).ok_or_else(|| ApiError::internal("no such provider"))
    }

    /// Sets a fault by its name (see `faults`); `clear` ends all faults.
    ///
    /// # Errors
    /// The name or an argument is unknown.
    pub fn set_fault(&self, name: &str, args: &serde_json::Value) -> Result<(), String> {
        self.faults.set(name, args)
    }

    /// The requests answered so far, oldest first: objects with `time`, `method`, `path`, `endpoint`, `grant_type`,
    /// `action`, `status` and nothing secret.
    #[must_use]
    pub fn journal(&self) -> Vec<serde_json::Value> {
        self.journal.entries()
    }

    /// Deletes the entries of the journal.
    pub fn clear_journal(&self) {
        self.journal.clear();
    }
}

/// A request and the time of its arrival.
pub(crate) struct RequestContext<'a> {
    pub request: &'a Request,
    pub now: i64,
}

impl RequestContext<'_> {
    pub(crate) fn event(&self, event: &'static str, comment: impl Into<String>) -> HistoryEvent {
        HistoryEvent {
            event,
            comment: comment.into(),
            time: self.now,
            ip: self.ip(),
            user_agent: self.request.header("User-Agent").unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn ip(&self) -> String {
        self.request.peer.to_canonical().to_string()
    }
}
