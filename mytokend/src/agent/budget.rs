// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of requests of this host: who may send how many to a mytoken server that has a limit. The agent's own requests and the
//! submissions on this host ask for permits; logins are only counted. A copy is in the runtime directory, for the next run.

pub mod kept_for_next_run;
pub mod ledger;
pub mod limit;
pub mod site;
pub mod stored;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytoken::config::Shared;
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::server::ServerError;
use mytoken::{Error, ScheduleClock};
use mytoken_wire::agent::{BudgetStatus, BudgetUse, UsedUp};

use crate::jobs::repeatable;
use kept_for_next_run::{Keep, KeptForNextRun};
use ledger::{Ledger, Purpose};
use limit::Limit;
use site::{SiteBudget, SitePermit, SitePermits};
use stored::Stored;

/// From so many requests in a period on, the agent wants to know the limit of a server that has told none.
const WORTH_A_QUESTION: u32 = 8;

/// Pause between two such questions to a server that has told no limit. Most of them have none for this host.
const QUESTION_PAUSE: u64 = 3_600_000;

/// Pause between two such questions to a server whose limit is only assumed.
const ASSUMED_PAUSE: u64 = 30_000;

/// Most entries of a server in the status.
const SHOWN: usize = 20;

#[derive(Default)]
struct ServerBudget {
    name: String,
    ledger: Ledger,
    /// When the server was last asked for its limit.
    asked: Option<u64>,
}

impl ServerBudget {
    /// A permit, or after how many milliseconds there may be one, and whose share is used up.
    fn permit(&mut self, purpose: Purpose, uid: Option<u32>, now: u64) -> Result<(), (u64, UsedUp)> {
        let used_up = if self.ledger.left(now) > 0 { UsedUp::User } else { UsedUp::Host };
        self.ledger.ask(purpose, uid, now).map_err(|wait| (wait, used_up))
    }
}

/// The budgets of all configured servers, by URL.
pub struct Budgets {
    clock: Arc<dyn ScheduleClock>,
    servers: Mutex<BTreeMap<String, ServerBudget>>,
    kept: KeptForNextRun,
    site: SiteBudget,
    /// A server that has not answered is taken to have the usual limit.
    assumes: bool,
}

/// Why a request was not answered.
#[derive(Debug)]
pub enum Unsent {
    /// It had no permit.
    NoPermit {
        /// After this time one may be had.
        wait: Duration,
        /// Whose share is used up.
        used_up: UsedUp,
    },
    /// It failed.
    Failed(Error),
}

impl Budgets {
    /// No server yet.
    #[must_use]
    pub fn new(clock: Arc<dyn ScheduleClock>) -> Self {
        Self {
            clock,
            servers: Mutex::default(),
            kept: KeptForNextRun::default(),
            site: SiteBudget::default(),
            assumes: false,
        }
    }

    /// The same for a broker, which gives permits to all hosts and hears no answers to their requests: a server that has not answered is taken
    /// to have the usual limit.
    #[must_use]
    pub fn assuming(self) -> Self {
        Self { assumes: true, ..self }
    }

    /// [`Self::write_counts`] will keep the counts there. `before` is what an earlier run has kept.
    ///
    /// # Errors
    /// When that cannot be read. The server's next answer then tells what is left.
    pub fn keep_in(&self, place: Box<dyn Keep>, before: Option<&[u8]>) -> Result<(), serde_json::Error> {
        let now = self.now();
        let restored = before.map_or(Ok(None), |bytes| serde_json::from_slice::<Stored>(bytes).map(Some));
        let mut servers = self.servers();
        let restored = restored.map(|stored| {
            if let Some(stored) = stored {
                stored.restore(servers.iter_mut().map(|(url, server)| (url.as_str(), &mut server.ledger)), now);
            }
        });
        drop(servers);
        self.kept.set_place(place);
        restored
    }

    /// Why the counts cannot be kept at present, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.kept.trouble()
    }

    /// Writes the counts after each change, in a thread of its own: no request waits for a file system. Changes during a write become
    /// one. Returns after [`Self::stop_writing`].
    pub fn write_counts(&self) {
        self.kept.write(|| {
            let now = self.now();
            let servers = self.servers();
            Stored::of(servers.iter().map(|(url, server)| (url.as_str(), &server.ledger)), now)
        });
    }

    /// [`Self::write_counts`] writes the last change and returns.
    pub fn stop_writing(&self) {
        self.kept.stop();
    }

    /// Takes over the servers of `mytoken.toml`. What was counted stays.
    ///
    /// # Errors
    /// When the URL of a server is not allowed.
    pub fn configure(&self, shared: &Shared) -> Result<(), Error> {
        let mut servers = self.servers();
        let mut before = std::mem::take(&mut *servers);
        for settings in &shared.servers {
            let url = shared.server_url(&settings.name)?.to_string();
            let mut server = before.remove(&url).unwrap_or_default();
            server.name.clone_from(&settings.name);
            let period = settings.request_period.as_secs().saturating_mul(1000);
            let limit = |requests| (requests > 0).then_some(Limit { requests, period, guessed: false });
            server.ledger.configure(settings.request_limit.map(limit));
            if self.assumes {
                server.ledger.assume();
            }
            servers.insert(url, server);
        }
        Ok(())
    }

    /// Brokers give the permits from now on, as long as they answer. `None`: there are none.
    pub fn set_site(&self, permits: Option<Arc<dyn SitePermits>>) {
        self.site.set(permits);
    }

    /// A permit for a request to a server, by its URL: of the brokers, or else of this host's own budget.
    ///
    /// # Errors
    /// [`Unsent::NoPermit`].
    fn admit(&self, server: &str, purpose: Purpose, uid: Option<u32>) -> Result<(), Unsent> {
        // What the server has told this host, the brokers have not heard.
        if let Some(wait) = self.with(server, |found, now| found.ledger.refused_for(now)).flatten() {
            return Err(Unsent::NoPermit { wait: Duration::from_millis(wait), used_up: UsedUp::Host });
        }
        // Not while the counts are locked: brokers take their time.
        let site = uid.and_then(|uid| self.site.ask(server, purpose, uid, || self.clock.elapsed()));
        let admitted = self.with(server, |found, now| match site {
            Some(SitePermit::Wait { wait, only_his, this_host }) => Err((wait, site::used_up(only_his, this_host))),
            Some(SitePermit::Granted {}) => {
                found.ledger.count(purpose, uid, now);
                Ok(())
            }
            Some(SitePermit::Unlimited {}) | None => found.permit(purpose, uid, now),
        });
        let refused = |(wait, used_up)| Unsent::NoPermit { wait: Duration::from_millis(wait), used_up };
        admitted.unwrap_or(Ok(())).map_err(refused)
    }

    /// A permit of this host's own budget, for a request to a server by its URL.
    ///
    /// # Errors
    /// After how many milliseconds there may be one, and whose share is used up: the user's, or all that this host may send.
    pub fn permit(&self, server: &str, purpose: Purpose, uid: u32) -> Result<(), (u64, UsedUp)> {
        self.with(server, |found, now| found.permit(purpose, Some(uid), now)).unwrap_or(Ok(()))
    }

    /// Counts a request that was sent without a permit, to a server by its URL.
    pub fn count(&self, server: &str, purpose: Purpose, uid: u32) {
        self.with(server, |found, now| found.ledger.count(purpose, Some(uid), now));
    }

    /// The limit of a server, by its URL. `None`: it has none, or none is known, or the server is not configured.
    #[must_use]
    pub fn limit(&self, server: &str) -> Option<Limit> {
        let now = self.now();
        self.servers().get(server)?.ledger.limit(now)
    }

    /// Whether the limit of a server, by its URL, is only assumed.
    #[must_use]
    pub fn is_assumed(&self, server: &str) -> bool {
        let now = self.now();
        self.servers().get(server).is_some_and(|found| found.ledger.is_assumed(now))
    }

    /// Whether a server, by its URL, should be asked for its limit, which is only assumed. The caller asks it; nobody else is told so for a
    /// while.
    #[must_use]
    pub fn must_ask(&self, server: &str) -> bool {
        let now = self.now();
        let mut servers = self.servers();
        let Some(found) = servers.get_mut(server).filter(|found| found.ledger.is_assumed(now)) else { return false };
        let is_asked = found.asked.is_some_and(|asked| now.saturating_sub(asked) < ASSUMED_PAUSE);
        if !is_asked {
            found.asked = Some(now);
        }
        !is_asked
    }

    /// A server has answered without a limit, for tests.
    #[cfg(test)]
    pub(crate) fn has_answered(&self, server: &str) {
        self.with(server, |found, now| found.ledger.answered(now));
    }

    /// Sends requests with a new client: with a permit, and learns from the answers. `work` sends at least one.
    ///
    /// # Errors
    /// [`Unsent`].
    pub fn send<T>(
        &self,
        (server, purpose, uid): (&str, Purpose, Option<u32>),
        settings: &HttpSettings,
        work: impl FnOnce(&HttpClient) -> Result<T, Error>,
    ) -> Result<T, Unsent> {
        let http = HttpClient::new(settings).map_err(|error| Unsent::Failed(error.into()))?;
        self.admit(server, purpose, uid)?;
        let result = work(&http);
        let traffic = http.traffic();
        self.with(server, |found, now| {
            if traffic.sent == 0 {
                found.ledger.refund(purpose, uid, now);
            }
            for _ in 1..traffic.sent {
                found.ledger.count(purpose, uid, now);
            }
            if traffic.sent > 0 && matches!(result, Ok(_) | Err(Error::Server(_))) {
                found.ledger.answered(now);
            }
            if let Some(limit) = traffic.limit {
                found.ledger.learn(limit, now);
            }
            if let Err(Error::Server(ServerError::TooManyRequests { retry_after, .. })) = &result {
                found.ledger.refused(*retry_after, now);
            }
            // The agent tries a request again that the server rejected, because an administrator may have made the mistake.
            let refused = match &result {
                Err(Error::Server(ServerError::Rejected { status: 400..=499, .. })) => true,
                Err(error) => repeatable(error).is_none(),
                Ok(_) => false,
            };
            if refused && purpose == Purpose::FirstToken && traffic.sent > 0 {
                found.ledger.refused_token(uid);
            }
        });
        result.map_err(Unsent::Failed)
    }

    /// A permit for a submission, by the name of the server. Counts nothing for a server that is not configured.
    ///
    /// # Errors
    /// After which time the same submission would get a permit, and whose share is used up.
    pub fn submission(&self, name: &str, uid: u32) -> Result<(), (Duration, UsedUp)> {
        let Some(url) = self.url(name) else { return Ok(()) };
        match self.admit(&url, Purpose::Submission, Some(uid)) {
            Err(Unsent::NoPermit { wait, used_up }) => Err((wait, used_up)),
            _ => Ok(()),
        }
    }

    /// For how long a request of this purpose would get no permit, at a server with this name or URL. Counts nothing.
    #[must_use]
    pub fn wait(&self, server: &str, purpose: Purpose, uid: u32) -> Option<Duration> {
        let now = self.now();
        let servers = self.servers();
        let (_, found) = servers.iter().find(|(url, found)| *url == server || found.name == server)?;
        found.ledger.wait_for(purpose, Some(uid), now).map(Duration::from_millis)
    }

    /// A submission tells that it has sent more requests than it had permits for. The user may say anything, so this never takes more than
    /// his share.
    pub fn submission_sent(&self, name: &str, uid: u32, count: u32) {
        self.with_name(name, |found, now| {
            for _ in 0..count {
                if found.ledger.ask(Purpose::Submission, Some(uid), now).is_err() {
                    break;
                }
            }
        });
    }

    /// A login has sent requests.
    pub fn login(&self, name: &str, uid: u32) {
        let Some(url) = self.url(name) else { return };
        self.count(&url, Purpose::Login, uid);
        // The brokers count it, too. Their answer does not matter: it was sent.
        let _ = self.site.ask(&url, Purpose::Login, uid, || self.clock.elapsed());
    }

    fn url(&self, name: &str) -> Option<String> {
        self.servers().iter().find(|(_, server)| server.name == name).map(|(url, _)| url.clone())
    }

    /// The URL of a server that should tell what is left, because this host sends it many requests: perhaps it has a limit, perhaps other
    /// hosts at this address have used it up. The caller asks it.
    #[must_use]
    pub fn question(&self, name: &str) -> Option<String> {
        let now = self.now();
        let mut servers = self.servers();
        let (url, found) = servers.iter_mut().find(|(_, server)| server.name == name)?;
        let pause = found.ledger.limit(now).map_or(QUESTION_PAUSE, |limit| limit.period);
        let paused = found.asked.is_some_and(|asked| now.saturating_sub(asked) < pause);
        if paused || found.ledger.is_informed(now) || found.ledger.recent(now) < WORTH_A_QUESTION {
            return None;
        }
        found.asked = Some(now);
        Some(url.clone())
    }

    /// What is left at each server with a limit. `only`: for this user.
    #[must_use]
    pub fn status(&self, only: Option<u32>) -> Vec<BudgetStatus> {
        let now = self.now();
        let servers = self.servers();
        // What is assumed is no fact.
        let known = servers.iter().filter(|(_, server)| !server.ledger.is_assumed(now));
        let limited = known.filter_map(|(url, server)| Some((url, &server.ledger, server.ledger.limit(now)?)));
        limited
            .map(|(url, ledger, limit)| {
                let mut uses: Vec<BudgetUse> = ledger
                    .uses(only, now)
                    .into_iter()
                    .map(|(kind, uid, requests)| BudgetUse { kind: kind.to_owned(), uid, requests })
                    .collect();
                let omitted = uses.len().saturating_sub(SHOWN);
                uses.truncate(SHOWN);
                BudgetStatus {
                    server: url.clone(),
                    requests: limit.requests,
                    period: limit.period.div_ceil(1000),
                    own: only.is_some(),
                    left: only.map_or_else(|| ledger.left(now), |uid| ledger.left_for(uid, now)),
                    uses,
                    omitted,
                }
            })
            .collect()
    }

    fn with<T>(&self, url: &str, work: impl FnOnce(&mut ServerBudget, u64) -> T) -> Option<T> {
        let now = self.now();
        let result = self.servers().get_mut(url).map(|found| work(found, now));
        self.kept.changed();
        result
    }

    fn with_name<T>(&self, name: &str, work: impl FnOnce(&mut ServerBudget, u64) -> T) -> Option<T> {
        let now = self.now();
        let result = self.servers().values_mut().find(|server| server.name == name).map(|found| work(found, now));
        self.kept.changed();
        result
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, ServerBudget>> {
        // Each change is complete before anything that can fail.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
