// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests that one login may still send to the mytoken server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use mytoken::server::ServerError;
use mytoken::{Deadline, Error, Secret};

use super::agent_notes::AgentNotes;
use super::backoff::{Backoff, BackoffReason, LONGEST_BACKOFF};
use super::connections::ConnectionEnd;
use super::file::LedgerFile;
use super::ledger::{BudgetExceeded, Ledger};
use super::settings::BudgetSettings;
use crate::refusal::{Limit, Refusal, RefusalClass};
use crate::remote::Remote;

/// Backoff after a server did not answer, in seconds. Every login that waits for it holds one of sshd's `MaxStartups` slots (SSH-11).
pub(super) const SILENCE_BACKOFF: u64 = 15;

/// Backoff after a 429 without `Retry-After`, in seconds.
const DEFAULT_BACKOFF: u64 = 30;

/// How long a change of the ledger waits for the lock at most. A failure makes later logins slower, and this one is waiting.
pub(super) const CHANGE_TIME: Duration = Duration::from_secs(2);

/// The provider that a request concerns: the one of the mytoken in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestProvider<'a> {
    /// Its issuer; `None` when it is unknown.
    pub issuer: Option<&'a str>,
    /// Whether the provider is certain, because the mytoken server has issued the mytoken to this login. Otherwise it is a claim of the
    /// sender, and a backoff that follows from the request applies to the sender's address only.
    pub verified: bool,
}

impl RequestProvider<'static> {
    /// A request that concerns no known provider.
    pub const UNKNOWN: Self = Self { issuer: None, verified: false };

    /// A request without any claim of the sender.
    pub const NO_CLAIM: Self = Self { issuer: None, verified: true };
}

/// The remaining requests of one login. It also records for later logins how the server answered. A deadline is the time until which a
/// change of the ledger waits for its lock; after it, the lock is tried once.
pub struct Allowance<'a> {
    /// `None`: requests are not counted.
    pub(super) ledger: Option<&'a LedgerFile>,
    pub(super) settings: &'a BudgetSettings,
    pub(super) remote: Remote,
    connection: Option<&'a str>,
    /// When this login's requests were counted, in seconds since boot.
    counted: RefCell<Vec<u64>>,
    /// Who hears of them. `None`: nobody.
    agent: Option<&'a AgentNotes>,
    /// How many requests it has heard of, by the server's URL.
    told: RefCell<BTreeMap<String, u32>>,
    /// The same of those that it has not heard of.
    untold: RefCell<BTreeMap<String, u32>>,
    /// The entered token, once it was sent.
    sent: RefCell<Option<Secret>>,
}

impl<'a> Allowance<'a> {
    /// For a login from `remote`. `connection` identifies the connection: all attempts in it have the same value.
    #[must_use]
    pub fn new(
        ledger: Option<&'a LedgerFile>,
        settings: &'a BudgetSettings,
        remote: Remote,
        connection: Option<&'a str>,
    ) -> Self {
        let (counted, told, untold) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { ledger, settings, remote, connection, counted, agent: None, told, untold, sent: RefCell::default() }
    }

    /// The same, and this agent hears of each request.
    #[must_use]
    pub fn telling(self, agent: Option<&'a AgentNotes>) -> Self {
        Self { agent, ..self }
    }

    /// Without a ledger: requests are not counted and there are no backoffs.
    #[must_use]
    pub fn uncounted(settings: &'a BudgetSettings) -> Self {
        Self::new(None, settings, Remote::of(None, None), None)
    }

    /// Why this connection gets no further prompt: an earlier attempt in it met an outage or a limit. Both last longer than an attempt,
    /// so a further prompt would only keep the user waiting. `None`: it gets a prompt.
    #[must_use]
    pub fn connection_end(&self) -> Option<ConnectionEnd> {
        let (file, connection) = self.ledger.zip(self.connection)?;
        let (ledger, now) = file.read(self.settings).ok()?;
        ledger.connections.end_of(connection, now)
    }

    /// Refuses a token that was sent in an earlier attempt of this connection and refused. The answer would be the same, and the exchange
    /// could consume a use of the mytoken.
    ///
    /// # Errors
    /// [`Refusal::Repeated`], or that the account must not be used if the token was refused with that; [`Refusal::System`] when the ledger
    /// cannot be read.
    pub fn refuse_repeated(&self, token: &Secret) -> Result<(), Refusal> {
        let Some((file, connection)) = self.ledger.zip(self.connection) else { return Ok(()) };
        let (ledger, now) = file.read(self.settings).map_err(|error| Refusal::System(error.to_string()))?;
        ledger.refused_tokens.refusal(connection, token, now).map_or(Ok(()), Err)
    }

    /// The entered token is sent now.
    pub fn record_sent(&self, token: &Secret) {
        self.sent.replace(Some(token.clone()));
    }

    /// The login was refused. Ends the connection after an outage and after too many requests. After any other refusal the connection
    /// gets a prompt again, but not for a token that was sent.
    pub fn record_refusal(&self, refusal: &Refusal, deadline: Deadline) {
        let end = match refusal {
            Refusal::TooManyRequests { .. } => Some(ConnectionEnd::TooManyRequests),
            refusal if refusal.class() == RefusalClass::Unavailable => Some(ConnectionEnd::Outage),
            _ => None,
        };
        let state = match refusal {
            Refusal::NotActive(state) => Some(*state),
            _ => None,
        };
        let (Some(connection), sent) = (self.connection, self.sent.take()) else { return };
        if end.is_some() || sent.is_some() {
            self.change_ledger(deadline, &mut |ledger, now| match (end, &sent) {
                (Some(end), _) => ledger.connections.add(connection, end, now),
                (None, Some(token)) => ledger.refused_tokens.add(connection, token, state, now),
                (None, None) => {}
            });
        }
    }

    /// Counts a request that is about to be sent to `server`, or refuses it because of a backoff or a spent budget. A request with a
    /// mytoken that was redeemed in this login is counted in any case: otherwise requests of other people could make its owner lose it.
    /// It is refused only while its provider is silent.
    ///
    /// # Errors
    /// [`Refusal::TooManyRequests`], [`Refusal::Unavailable`]; [`Refusal::System`] when the ledger cannot be used: a request that
    /// cannot be counted is not sent.
    pub fn count_request(
        &self,
        server: &str,
        provider: RequestProvider<'_>,
        deadline: Deadline,
    ) -> Result<(), Refusal> {
        let is_counted = self.ledger.is_some();
        self.count_untold(server, provider, deadline).inspect(|()| {
            if is_counted {
                self.tell(server, deadline);
            }
        })
    }

    /// As [`Self::count_request`], for a server whose requests the agent does not count: a provider.
    ///
    /// # Errors
    /// As [`Self::count_request`].
    pub fn count_untold(&self, server: &str, provider: RequestProvider<'_>, deadline: Deadline) -> Result<(), Refusal> {
        let Some(file) = self.ledger else { return Ok(()) };
        let mut counted = Ok(());
        file.change(self.settings, deadline, &mut |ledger, now| {
            counted = self.count_or_refuse(ledger, now, server, provider);
        })
        .map_err(|error| Refusal::System(error.to_string()))?;
        counted
    }

    /// Tells the agent a request that is about to be sent.
    pub(super) fn tell(&self, server: &str, deadline: Deadline) {
        if let Some(agent) = self.agent {
            let heard = if agent.sent(server, 1, deadline) { &self.told } else { &self.untold };
            *heard.borrow_mut().entry(server.to_owned()).or_default() += 1;
        }
    }

    fn count_or_refuse(
        &self,
        ledger: &mut Ledger,
        now: u64,
        server: &str,
        provider: RequestProvider<'_>,
    ) -> Result<(), Refusal> {
        if provider.verified {
            // A request to a silent provider would end in the same refusal, only later.
            if let Some(backoff) = ledger.backoffs.find_silent_provider(server, provider.issuer, now) {
                return Err(refusal(backoff, now));
            }
            ledger.count(&self.remote, now);
        } else {
            if let Some(backoff) = ledger.backoffs.find(server, provider.issuer, &self.remote, now) {
                return Err(refusal(backoff, now));
            }
            ledger.spend(&self.remote, now, self.settings).map_err(|exceeded| match exceeded {
                BudgetExceeded::Address { wait } => Refusal::TooManyRequests { wait, limit: Limit::Address },
                BudgetExceeded::Host { wait } => Refusal::TooManyRequests { wait, limit: Limit::Host },
            })?;
        }
        self.counted.borrow_mut().push(now);
        Ok(())
    }

    /// Counts a revocation at `server`. It is sent even when the budget is spent.
    pub fn count_revocation(&self, server: &str, deadline: Deadline) {
        self.tell(server, deadline);
        self.change_ledger(deadline, &mut |ledger, now| {
            ledger.count(&self.remote, now);
            self.counted.borrow_mut().push(now);
        });
    }

    /// Refuses when there is a backoff for all requests to `server`. Counts nothing.
    ///
    /// # Errors
    /// [`Refusal::TooManyRequests`] or [`Refusal::Unavailable`]; [`Refusal::System`] when the ledger cannot be read.
    pub fn check_backoff(&self, server: &str) -> Result<(), Refusal> {
        let Some(file) = self.ledger else { return Ok(()) };
        let (ledger, now) = file.read(self.settings).map_err(|error| Refusal::System(error.to_string()))?;
        ledger.backoffs.find(server, None, &self.remote, now).map_or(Ok(()), |backoff| Err(refusal(backoff, now)))
    }

    /// Refuses when `server` is silent for everybody. Counts nothing.
    ///
    /// # Errors
    /// As [`Self::check_backoff`].
    pub fn check_silence(&self, server: &str) -> Result<(), Refusal> {
        let Some(file) = self.ledger else { return Ok(()) };
        let (ledger, now) = file.read(self.settings).map_err(|error| Refusal::System(error.to_string()))?;
        ledger.backoffs.find_silence(server, now).map_or(Ok(()), |backoff| Err(refusal(backoff, now)))
    }

    /// Whether it is known that `server` is silent for everybody. `None`: it cannot be known, because nothing is counted.
    pub(crate) fn is_silent(&self, server: &str) -> Option<bool> {
        let (ledger, now) = self.ledger?.read(self.settings).ok()?;
        Some(ledger.backoffs.find_silence(server, now).is_some())
    }

    /// The server answered: ends the backoffs for its silence.
    pub fn record_answer(&self, server: &str, provider: RequestProvider<'_>, deadline: Deadline) {
        // Usually there is none. Reading needs no lock.
        let silent =
            |file: &LedgerFile| file.read(self.settings).is_ok_and(|(ledger, _)| ledger.backoffs.has_silence(server));
        if self.ledger.is_some_and(silent) {
            self.change_ledger(deadline, &mut |ledger, _| {
                ledger.backoffs.end_silence(server, provider.issuer, &self.remote);
            });
        }
    }

    /// A request got no answer: starts a backoff for the requests that would wait for the same thing.
    pub fn record_silence(&self, server: &str, provider: RequestProvider<'_>, deadline: Deadline) {
        let backoff = Backoff {
            reason: BackoffReason::Silent,
            server: server.to_owned(),
            provider: provider.issuer.map(str::to_owned),
            remote: (!provider.verified).then(|| self.remote.to_string()),
            until: 0,
        };
        self.start_backoff(backoff, SILENCE_BACKOFF, deadline);
    }

    /// The server answered with `error`: a 429 starts a backoff. The server's own limit applies to every address; a provider's limit
    /// applies to every address only if the provider is verified.
    pub fn record_error(&self, server: &str, provider: RequestProvider<'_>, error: &Error, deadline: Deadline) {
        let (reason, issuer, every_address, retry_after) = match error {
            Error::Server(ServerError::TooManyRequests { retry_after, .. }) => {
                (BackoffReason::TooManyRequests, None, true, retry_after)
            }
            Error::Server(ServerError::ProviderTooManyRequests { retry_after, .. }) => {
                let certain = provider.issuer.is_some() && provider.verified;
                (BackoffReason::ProviderLimit, provider.issuer, certain, retry_after)
            }
            _ => return,
        };
        let backoff = Backoff {
            reason,
            server: server.to_owned(),
            provider: issuer.map(str::to_owned),
            remote: (!every_address).then(|| self.remote.to_string()),
            until: 0,
        };
        self.start_backoff(backoff, retry_after.map_or(DEFAULT_BACKOFF, |wait| wait.as_secs().max(1)), deadline);
    }

    /// The login of this user was accepted: its requests cost nothing here, and the agent counts them for the user. It hears again of those
    /// that it has missed: a restart takes a moment. Returns whether it has heard of all.
    #[must_use]
    pub fn accept(&self, uid: u32, deadline: Deadline) -> bool {
        self.refund(deadline);
        let Some(agent) = self.agent else { return true };
        let (mut told, mut is_complete) = (self.told.take(), true);
        for (server, missed) in self.untold.take() {
            if agent.sent(&server, missed, deadline) {
                *told.entry(server).or_default() += missed;
            } else {
                is_complete = false;
            }
        }
        told.into_iter().for_each(|(server, sent)| agent.accepted(&server, sent, uid, deadline));
        is_complete
    }

    /// The login was accepted: removes its requests from the ledger, and makes its address a known one for a while.
    pub fn refund(&self, deadline: Deadline) {
        let times = self.counted.take();
        if !times.is_empty() {
            self.change_ledger(deadline, &mut |ledger, now| ledger.refund(&self.remote, &times, now));
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "made for this call")]
    fn start_backoff(&self, backoff: Backoff, seconds: u64, deadline: Deadline) {
        self.change_ledger(deadline, &mut |ledger, now| {
            let until = now.saturating_add(seconds.min(LONGEST_BACKOFF));
            ledger.backoffs.add(Backoff { until, ..backoff.clone() });
        });
    }

    pub(super) fn change_ledger(&self, deadline: Deadline, change: &mut dyn FnMut(&mut Ledger, u64)) {
        if let Some(file) = self.ledger {
            // A failure makes later logins slower or refuses them earlier. This login is already decided.
            let _ = file.change(self.settings, deadline.at_most(CHANGE_TIME), change);
        }
    }
}

fn refusal(backoff: &Backoff, now: u64) -> Refusal {
    let wait = backoff.until.saturating_sub(now).max(1);
    match backoff.reason {
        BackoffReason::TooManyRequests => Refusal::TooManyRequests { wait, limit: Limit::Server },
        BackoffReason::ProviderLimit => Refusal::TooManyRequests { wait, limit: Limit::Provider },
        BackoffReason::Silent => {
            let provider = backoff.provider.as_ref().map(|issuer| format!("{issuer} behind ")).unwrap_or_default();
            Refusal::Unavailable(format!("{provider}{} did not answer a moment ago", backoff.server))
        }
    }
}
