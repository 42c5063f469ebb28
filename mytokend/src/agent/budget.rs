// SPDX-License-Identifier: MIT OR Apache-2.0
//! The budget of requests of this host: who may send how many to a mytoken server that has a limit. The agent's own requests and the
//! submissions on this host ask for permits; logins are only counted. A copy is in the runtime directory, for the next run.

pub mod kept_for_next_run;
pub mod ledger;
pub mod limit;
mod logins;
mod questions;
pub mod report;
mod server_budget;
mod shown;
pub mod site;
pub mod stored;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytoken::config::Shared;
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::server::ServerError;
use mytoken::{Error, ScheduleClock};
use mytoken_wire::agent::UsedUp;

use crate::broker::messages::PermitRequest;
use crate::jobs::repeatable;
use kept_for_next_run::{Keep, KeptForNextRun};
use ledger::Purpose;
use limit::Limit;
use report::ReportedRest;
use server_budget::ServerBudget;
use site::{SiteBudget, SitePermit, SitePermits};
use stored::Stored;

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
            // A URL can be there twice.
            let mut server = servers.remove(&url).or_else(|| before.remove(&url)).unwrap_or_default();
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
        let is_site = self.site.is_used();
        let refused = |(wait, used_up)| Unsent::NoPermit { wait: Duration::from_millis(wait), used_up };
        let by_server = self.with(server, |found, now| found.refused_by_server(purpose, uid, now)).flatten();
        if let Some(by_server) = by_server.filter(|_| is_site) {
            return Err(refused(by_server));
        }
        // Not while the counts are locked: brokers take their time.
        let site = uid.and_then(|uid| self.ask_site(server, purpose, uid));
        let admitted = self.with(server, |found, now| match site {
            Some(SitePermit::Wait { wait, only_his, this_host }) => Err((wait, site::used_up(only_his, this_host))),
            // The server has perhaps answered meanwhile.
            Some(SitePermit::Granted {}) => match found.refused_by_server(purpose, uid, now) {
                Some(by_server) => Err(by_server),
                None => {
                    found.ledger.count(purpose, uid, now);
                    Ok(())
                }
            },
            Some(SitePermit::Unlimited {}) | None => {
                found.permit(purpose, uid, now)?;
                if is_site {
                    found.sent_beyond(purpose, uid, now);
                }
                Ok(())
            }
        });
        admitted.unwrap_or(Ok(())).map_err(refused)
    }

    /// Asks the brokers for a permit, and tells them what they have not heard of this host's requests.
    fn ask_site(&self, server: &str, purpose: Purpose, uid: u32) -> Option<SitePermit> {
        self.ask_brokers(PermitRequest::new(server, purpose, uid))
    }

    fn ask_brokers(&self, mut request: PermitRequest) -> Option<SitePermit> {
        let server = request.server.clone();
        if !self.site.is_asked(&server, self.clock.elapsed()) {
            return None;
        }
        let untold = self.with(&server, |found, now| {
            let untold = found.take_untold(now);
            request.report = found.report(&untold, now);
            untold
        })?;
        let answer = self.site.ask(&request, || self.clock.elapsed());
        if answer.is_none() {
            self.with(&server, |found, _| found.give_back(untold));
        }
        answer
    }

    /// A permit of this host's own budget, for a request to a server by its URL.
    ///
    /// # Errors
    /// After how many milliseconds there may be one, and whose share is used up: the user's, or all that this host may send.
    pub fn permit(&self, server: &str, purpose: Purpose, uid: Option<u32>) -> Result<(), (u64, UsedUp)> {
        self.with(server, |found, now| found.permit(purpose, uid, now)).unwrap_or(Ok(()))
    }

    /// Counts a request that was sent without a permit, to a server by its URL.
    pub fn count(&self, server: &str, purpose: Purpose, uid: Option<u32>) {
        self.with(server, |found, now| found.ledger.count(purpose, uid, now));
    }

    /// A host was told by a server, by its URL, what is left there. Until then so many fewer requests are permitted here as are missing, and
    /// at most `most`. Returns how many that are: none if the server has told it itself.
    pub fn withhold(&self, server: &str, told: ReportedRest, most: u32) -> u32 {
        let withheld = self.with(server, |found, now| {
            let ledger = &mut found.ledger;
            let missing = ledger.left(now).saturating_sub(told.left).min(most);
            if missing == 0 || ledger.limit(now).is_none() || ledger.known().told(now).is_some() {
                return 0;
            }
            ledger.withhold(missing, now.saturating_add(told.ends), now);
            missing
        });
        withheld.unwrap_or(0)
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
        let (traffic, is_site) = (http.traffic(), self.site.is_used());
        self.with(server, |found, now| {
            if traffic.sent == 0 {
                found.not_sent(purpose, uid, now);
            }
            for _ in 1..traffic.sent {
                found.ledger.count(purpose, uid, now);
                if is_site {
                    found.sent_beyond(purpose, uid, now);
                }
            }
            if traffic.sent > 0 && matches!(result, Ok(_) | Err(Error::Server(_))) {
                found.ledger.answered(now);
            }
            if result.is_ok() && traffic.sent > 0 {
                found.ledger.granted(now);
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
            _ => {
                self.with(&url, |found, now| found.submission_permitted(uid, now));
                Ok(())
            }
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

    /// A submission tells that it has sent more requests than the one that it had a permit for. The user may say anything: he is heard once
    /// for each of his permits, and this never takes more than his share. The brokers see to the same, because this host perhaps knows no
    /// limit.
    pub fn submission_sent(&self, name: &str, uid: u32, count: u32) {
        let is_site = self.site.is_used();
        self.with_name(name, |found, now| {
            if !found.take_permitted(uid, now) {
                return;
            }
            for _ in 0..count {
                if found.ledger.ask(Purpose::Submission, Some(uid), now).is_err() {
                    break;
                }
                if is_site {
                    found.sent_beyond(Purpose::Submission, Some(uid), now);
                }
            }
        });
    }

    /// The URL of the server with this name or URL.
    fn url(&self, name: &str) -> Option<String> {
        self.servers().iter().find(|(url, server)| *url == name || server.name == name).map(|(url, _)| url.clone())
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
