// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one login may still ask of the mytoken server.

use std::cell::RefCell;
use std::time::Duration;

use mytoken::server::ServerError;
use mytoken::{Deadline, Error};

use super::ledger::Exceeded;
use super::{BudgetSettings, Hold, Ledger, LedgerFile, Why};
use crate::{Class, Refusal, Remote};

/// How long a server that did not answer is left alone, in seconds: every login that waits for it holds one of sshd's
/// `MaxStartups` slots (SSH-11).
pub const SILENCE: u64 = 15;

/// After a 429 without `Retry-After`, in seconds.
const UNTOLD: u64 = 30;

/// No hold is longer, whatever a server says, in seconds.
pub(super) const LONGEST_HOLD: u64 = 900;

/// How long the ledger may be waited for where no deadline is at hand.
const NOTE: Duration = Duration::from_secs(2);

/// The provider behind the mytoken server that a request is about, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind<'a> {
    /// Its issuer; `None` when it is not known.
    pub provider: Option<&'a str>,
    /// Whether the mytoken came from the server itself. What only its holder claims counts for the holder's address alone.
    pub vouched: bool,
}

/// The budget as one login meets it.
pub struct Allowance<'a> {
    /// `None`: nothing is counted. For programs that cannot keep a ledger that others trust, because they are not root.
    file: Option<&'a LedgerFile>,
    settings: &'a BudgetSettings,
    remote: Remote,
    connection: Option<String>,
    /// When the requests were counted that this login has made, in seconds since boot.
    spent: RefCell<Vec<u64>>,
}

impl<'a> Allowance<'a> {
    /// For a login from `remote`. `connection` names what several attempts of one client have in common, if there is such a thing.
    #[must_use]
    pub fn new(
        file: Option<&'a LedgerFile>,
        settings: &'a BudgetSettings,
        remote: Remote,
        connection: Option<String>,
    ) -> Self {
        Self { file, settings, remote, connection, spent: RefCell::default() }
    }

    /// What an earlier attempt of this connection came to, if that was the end of asking: a server that is out of order or of
    /// requests is so a second later too, and each further prompt would only keep the connection, and the person, waiting.
    #[must_use]
    pub fn refused_before(&self) -> Option<Class> {
        let (file, connection) = self.file.zip(self.connection.as_deref())?;
        let (ledger, now) = file.look(self.settings).ok()?;
        ledger.refused(connection, now).map(|outage| if outage { Class::Unavailable } else { Class::Rejected })
    }

    /// The login came to `refusal`: remembers the connection if nothing more is to be asked in it.
    pub fn refused(&self, refusal: &Refusal) {
        let ends = matches!(refusal, Refusal::Busy { .. }) || refusal.class() == Class::Unavailable;
        if let Some(connection) = self.connection.as_deref().filter(|_| ends) {
            let outage = refusal.class() == Class::Unavailable;
            self.note(&mut |ledger, now| ledger.refuse(connection, outage, now));
        }
    }

    /// Counts a request that is about to be sent to `server`, unless the server is left alone or the budget is spent. One about a mytoken
    /// that the server has just handed out is counted and not refused, unless its provider hangs: it would be lost, and strangers could
    /// see to that.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`]; [`Refusal::System`] when the ledger cannot be used: what cannot be counted is not
    /// sent.
    pub fn ask(&self, server: &str, behind: Behind<'_>, deadline: Deadline) -> Result<(), Refusal> {
        let Some(file) = self.file else { return Ok(()) };
        let mut answer = Ok(());
        file.change(self.settings, deadline, &mut |ledger, now| answer = self.counted(ledger, now, server, behind))
            .map_err(|error| Refusal::System(error.to_string()))?;
        answer
    }

    fn counted(&self, ledger: &mut Ledger, now: u64, server: &str, behind: Behind<'_>) -> Result<(), Refusal> {
        if behind.vouched {
            // Waiting for a provider that hangs would end in the same refusal, later.
            if let Some(hold) = ledger.hanging(server, behind.provider, now) {
                return Err(refusal(hold, now));
            }
            ledger.count(&self.remote, now);
        } else {
            if let Some(hold) = ledger.held(server, behind.provider, &self.remote, now) {
                return Err(refusal(hold, now));
            }
            ledger.spend(&self.remote, now, self.settings).map_err(|exceeded| match exceeded {
                Exceeded::Address { wait } => Refusal::Busy { wait, what: "budget_address" },
                Exceeded::Host { wait } => Refusal::Busy { wait, what: "budget_host" },
            })?;
        }
        self.spent.borrow_mut().push(now);
        Ok(())
    }

    /// Counts a request that is sent whatever is left.
    pub fn count(&self) {
        self.note(&mut |ledger, now| {
            ledger.count(&self.remote, now);
            self.spent.borrow_mut().push(now);
        });
    }

    /// Whether `server` is left alone for now. Nothing is counted.
    ///
    /// # Errors
    /// [`Refusal::Busy`] or [`Refusal::Unavailable`]; [`Refusal::System`] when the ledger cannot be read.
    pub fn check(&self, server: &str) -> Result<(), Refusal> {
        let Some(file) = self.file else { return Ok(()) };
        let (ledger, now) = file.look(self.settings).map_err(|error| Refusal::System(error.to_string()))?;
        ledger.held(server, None, &self.remote, now).map_or(Ok(()), |hold| Err(refusal(hold, now)))
    }

    /// The server answered.
    pub fn answered(&self, server: &str, provider: Option<&str>) {
        // Mostly there is nothing to note; looking needs no lock.
        let silent = |file: &LedgerFile| file.look(self.settings).is_ok_and(|(ledger, _)| ledger.is_silent(server));
        if self.file.is_some_and(silent) {
            self.note(&mut |ledger, _| ledger.answered(server, provider, &self.remote));
        }
    }

    /// No answer came to a request: what the server waited for is left alone by those whom it concerns.
    pub fn silence(&self, server: &str, behind: Behind<'_>) {
        self.put(Hold {
            why: Why::Silent,
            server: server.to_owned(),
            provider: behind.provider.map(str::to_owned),
            remote: (!behind.vouched).then(|| self.remote.to_string()),
            until: SILENCE,
        });
    }

    /// What an error says about further requests is remembered: the server's own limit for everybody, the provider's for those whom it
    /// concerns as far as somebody vouches for that.
    pub fn told(&self, server: &str, behind: Behind<'_>, error: &Error) {
        let (retry_after, provider) = match error {
            Error::Server(ServerError::TooManyRequests { retry_after, .. }) => (retry_after, None),
            Error::Server(ServerError::ProviderTooManyRequests { retry_after, .. }) => (retry_after, behind.provider),
            _ => return,
        };
        let of_server = matches!(error, Error::Server(ServerError::TooManyRequests { .. }));
        self.put(Hold {
            why: if of_server { Why::TooManyRequests } else { Why::ProviderLimit },
            server: server.to_owned(),
            provider: provider.map(str::to_owned),
            // Nobody knows which provider it was: it concerns this address.
            remote: (!of_server && (provider.is_none() || !behind.vouched)).then(|| self.remote.to_string()),
            until: retry_after.map_or(UNTOLD, |wait| wait.as_secs().max(1)),
        });
    }

    /// The login is let in: what it cost is given back, and its address is known for a while.
    pub fn let_in(&self) {
        let times = self.spent.take();
        if !times.is_empty() {
            self.note(&mut |ledger, now| ledger.let_in(&self.remote, &times, now));
        }
    }

    /// `hold.until` is a number of seconds here.
    #[expect(clippy::needless_pass_by_value, reason = "made for this call")]
    fn put(&self, hold: Hold) {
        self.note(&mut |ledger, now| {
            ledger.hold(Hold { until: now.saturating_add(hold.until.min(LONGEST_HOLD)), ..hold.clone() });
        });
    }

    fn note(&self, change: &mut dyn FnMut(&mut Ledger, u64)) {
        if let Some(file) = self.file {
            // Without it the next login is slower or dearer; this one is decided already.
            let _ = file.change(self.settings, Deadline::after(NOTE), change);
        }
    }
}

fn refusal(hold: &Hold, now: u64) -> Refusal {
    let wait = hold.until.saturating_sub(now).max(1);
    match hold.why {
        Why::TooManyRequests => Refusal::Busy { wait, what: "server_limit" },
        Why::ProviderLimit => Refusal::Busy { wait, what: "provider_limit" },
        Why::Silent => {
            let who = hold.provider.as_ref().map(|provider| format!("{provider} behind ")).unwrap_or_default();
            Refusal::Unavailable(format!("{who}{} did not answer a moment ago", hold.server))
        }
    }
}
