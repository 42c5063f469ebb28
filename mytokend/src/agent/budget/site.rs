// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of the whole site: a broker gives permits for requests of all hosts, a number and never a token. A host whose brokers do not
//! answer goes by its own budget.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mytoken_wire::agent::UsedUp;
use serde::{Deserialize, Serialize};

use super::ledger::Purpose;

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
    /// A permit for a request to a server (by its URL), or the note that a login has sent one. `None`: no broker answers.
    fn permit(&self, server: &str, purpose: Purpose, uid: u32) -> Option<SitePermit>;
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

    /// What the brokers say. `None`: this host goes by its own budget. `now` gives elapsed time.
    pub(super) fn ask(
        &self,
        server: &str,
        purpose: Purpose,
        uid: u32,
        now: impl Fn() -> Duration,
    ) -> Option<SitePermit> {
        let permits = Arc::clone(self.permits.read().unwrap_or_else(PoisonError::into_inner).as_ref()?);
        let begin = now();
        let quiet = self.quiet();
        if quiet.away.is_some_and(|until| begin < until)
            || quiet.unlimited.get(server).is_some_and(|until| begin < *until)
        {
            return None;
        }
        drop(quiet);
        // Without the lock: others need not wait for this answer.
        let answer = permits.permit(server, purpose, uid);
        let mut quiet = self.quiet();
        match answer {
            None => quiet.away = Some(now().saturating_add(PAUSE)),
            Some(SitePermit::Unlimited {}) => {
                quiet.unlimited.insert(server.to_owned(), now().saturating_add(UNLIMITED));
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gives the same answer to all, and counts them.
    struct Brokers(Option<SitePermit>, AtomicUsize);

    impl SitePermits for Arc<Brokers> {
        fn permit(&self, _server: &str, _purpose: Purpose, _uid: u32) -> Option<SitePermit> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0
        }
    }

    fn budget(answer: Option<SitePermit>) -> (SiteBudget, Arc<Brokers>) {
        let (budget, brokers) = (SiteBudget::default(), Arc::new(Brokers(answer, AtomicUsize::new(0))));
        budget.set(Some(Arc::new(Arc::clone(&brokers))));
        (budget, brokers)
    }

    fn ask(budget: &SiteBudget, second: u64) -> Option<SitePermit> {
        budget.ask("https://mytoken", Purpose::Submission, 7, || Duration::from_secs(second))
    }

    #[test]
    fn each_request_asks_for_a_permit() {
        let wait = SitePermit::wait(5000, UsedUp::User);
        for answer in [SitePermit::Granted {}, wait] {
            let (budget, brokers) = budget(Some(answer));
            assert_eq!([ask(&budget, 1), ask(&budget, 1)], [Some(answer); 2]);
            assert_eq!(brokers.1.load(Ordering::Relaxed), 2);
        }
    }

    #[test]
    fn brokers_that_are_away_are_asked_again_after_a_pause() {
        let (budget, brokers) = budget(None);
        assert_eq!([1, 2, 30].map(|second| ask(&budget, second)), [None; 3]);
        assert_eq!(brokers.1.load(Ordering::Relaxed), 1);
        ask(&budget, 31);
        assert_eq!(brokers.1.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_server_without_a_limit_needs_no_permits() {
        let (budget, brokers) = budget(Some(SitePermit::Unlimited {}));
        assert_eq!([1, 2, 60].map(|second| ask(&budget, second)), [None; 3]);
        assert_eq!(brokers.1.load(Ordering::Relaxed), 1);
        ask(&budget, 61);
        assert_eq!(brokers.1.load(Ordering::Relaxed), 2);
        budget.ask("https://other", Purpose::Submission, 7, || Duration::from_secs(61));
        assert_eq!(brokers.1.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_permit_of_the_brokers_sends_nothing_to_a_server_that_refuses_this_host() {
        let shared = "[[server]]\nname = 'm'\nurl = 'https://mytoken.example'\nrequest_limit = 100\n";
        let shared: mytoken::config::Shared = toml::from_str(shared).unwrap();
        let budgets = super::super::Budgets::new(Arc::new(mytoken::SystemClock));
        budgets.configure(&shared).unwrap();
        let (_, brokers) = budget(Some(SitePermit::Granted {}));
        budgets.set_site(Some(Arc::new(Arc::clone(&brokers))));
        budgets.submission("m", 7).unwrap();
        let url = shared.server_url("m").unwrap().to_string();
        budgets.with(&url, |found, now| found.ledger.refused(Some(Duration::from_secs(200)), now));
        let (wait, _) = budgets.submission("m", 7).unwrap_err();
        assert!((190..=300).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(brokers.1.load(Ordering::Relaxed), 1, "no permit is taken for what is not sent");
    }

    #[test]
    fn without_brokers_nobody_is_asked() {
        let (budget, brokers) = budget(Some(SitePermit::Granted {}));
        budget.set(None);
        assert_eq!(ask(&budget, 1), None);
        assert_eq!(brokers.1.load(Ordering::Relaxed), 0);
    }
}
