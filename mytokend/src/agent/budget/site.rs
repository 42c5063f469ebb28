// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of the whole site: a broker gives permits for requests of all hosts, a number and never a token. A host whose brokers do not
//! answer goes by its own budget.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mytoken_wire::agent::UsedUp;
use serde::{Deserialize, Serialize};

use crate::broker::messages::PermitRequest;

/// After a question without an answer, brokers are not asked for this time: a login must not wait for one that is away.
const PAUSE: Duration = Duration::from_secs(30);

/// After an answer that a server has no limit, brokers are not asked about it for this time.
const UNLIMITED: Duration = Duration::from_secs(60);

/// What a broker says to a request that a host wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SitePermit {
    /// It may be sent.
    Granted {},
    /// The server has no limit that the broker knows.
    Unlimited {},
    /// Not now.
    Wait {
        /// After this time there may be a permit, in milliseconds.
        wait: u64,
        /// Only the user's share is used up.
        only_his: bool,
        /// Only the share of this host is used up.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        this_host: bool,
    },
}

impl SitePermit {
    /// No permit for this number of milliseconds.
    #[must_use]
    pub const fn wait(wait: u64, used_up: UsedUp) -> Self {
        let (only_his, this_host) = (matches!(used_up, UsedUp::User), matches!(used_up, UsedUp::Host));
        Self::Wait { wait, only_his, this_host }
    }
}

/// Whose share is used up, as a [`SitePermit::Wait`] says it.
pub(super) const fn used_up(only_his: bool, this_host: bool) -> UsedUp {
    match (only_his, this_host) {
        (_, true) => UsedUp::Host,
        (true, false) => UsedUp::User,
        (false, false) => UsedUp::All,
    }
}

/// Asks the brokers.
pub trait SitePermits: Send + Sync {
    /// A permit for a request to a server, or the note that a login has sent one. `None`: no broker answers.
    fn permit(&self, request: &PermitRequest) -> Option<SitePermit>;
}

/// Who is asked, and the memory of the last answers.
#[derive(Default)]
pub(super) struct SiteBudget {
    permits: RwLock<Option<Arc<dyn SitePermits>>>,
    quiet: Mutex<Quiet>,
}

#[derive(Default)]
struct Quiet {
    /// No broker has answered: none is asked before this time (elapsed).
    away: Option<Duration>,
    /// Servers without a limit, and until when that holds (elapsed).
    unlimited: HashMap<String, Duration>,
}

impl SiteBudget {
    /// Asks these brokers from now on. `None`: there are none.
    pub(super) fn set(&self, permits: Option<Arc<dyn SitePermits>>) {
        *self.permits.write().unwrap_or_else(PoisonError::into_inner) = permits;
        *self.quiet() = Quiet::default();
    }

    /// Whether there are brokers.
    pub(super) fn is_used(&self) -> bool {
        self.permits.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether they are asked about a server, by its URL, at this elapsed time.
    pub(super) fn is_asked(&self, server: &str, now: Duration) -> bool {
        let quiet = self.quiet();
        let is_quiet = quiet.away.is_some_and(|until| now < until)
            || quiet.unlimited.get(server).is_some_and(|until| now < *until);
        self.is_used() && !is_quiet
    }

    /// What the brokers say. `None`: this host goes by its own budget. `now` gives elapsed time.
    pub(super) fn ask(&self, request: &PermitRequest, now: impl Fn() -> Duration) -> Option<SitePermit> {
        if !self.is_asked(&request.server, now()) {
            return None;
        }
        // Without a lock: others need not wait for this answer.
        let permits = Arc::clone(self.permits.read().unwrap_or_else(PoisonError::into_inner).as_ref()?);
        let answer = permits.permit(request);
        let mut quiet = self.quiet();
        match answer {
            None => quiet.away = Some(now().saturating_add(PAUSE)),
            Some(SitePermit::Unlimited {}) => {
                quiet.unlimited.insert(request.server.clone(), now().saturating_add(UNLIMITED));
                return None;
            }
            Some(_) => {}
        }
        answer
    }

    fn quiet(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
