// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger of requests. Pure: times are seconds since boot and come as parameters, so setting the clock changes nothing.

use serde::{Deserialize, Serialize};

use super::backoff::Backoffs;
use super::connections::EndedConnections;
use super::links::WaitingLinks;
use super::refused_tokens::RefusedTokens;
use super::settings::BudgetSettings;
use super::waiting::WaitingLogins;
use crate::remote::Remote;

/// Version of the stored form.
const VERSION: u32 = 1;

/// Maximum number of known addresses; the oldest is dropped first.
const KNOWN_LIMIT: usize = 256;

/// How long an address is known after an accepted login, in seconds.
const KNOWN_AGE: u64 = 86_400;

/// The requests of this host's logins to the mytoken server, and which requests must wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    v: u32,
    /// Requests of logins that were not accepted (yet).
    #[serde(rename = "spent")]
    requests: Vec<RemoteTime>,
    /// Servers that get no request for a while.
    #[serde(rename = "holds")]
    pub backoffs: Backoffs,
    /// Connections that get no further prompt.
    #[serde(rename = "refused")]
    pub connections: EndedConnections,
    /// Addresses of accepted logins.
    known: Vec<RemoteTime>,
    /// Logins that wait long for a server. Usually there are none, and then earlier releases can read the file.
    #[serde(default, skip_serializing_if = "WaitingLogins::is_empty")]
    pub waiting: WaitingLogins,
    /// Tokens that were refused.
    #[serde(default, skip_serializing_if = "RefusedTokens::is_empty")]
    pub refused_tokens: RefusedTokens,
    /// Logins with a link that wait for their person.
    #[serde(default, skip_serializing_if = "WaitingLinks::is_empty")]
    pub links: WaitingLinks,
}

/// An address, and when it sent a request or had a login accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoteTime {
    at: u64,
    remote: String,
}

/// A budget that is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetExceeded {
    /// `per_address`.
    Address {
        /// Seconds until the next request is possible.
        wait: u64,
    },
    /// `per_host`.
    Host {
        /// Seconds until the next request is possible.
        wait: u64,
    },
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            v: VERSION,
            requests: Vec::new(),
            backoffs: Backoffs::default(),
            connections: EndedConnections::default(),
            known: Vec::new(),
            waiting: WaitingLogins::default(),
            refused_tokens: RefusedTokens::default(),
            links: WaitingLinks::default(),
        }
    }
}

impl Ledger {
    /// Reads the stored form. `None`: it is damaged or of another version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|ledger| ledger.v == VERSION)
    }

    /// The replacement for a damaged ledger: the host's budget is spent at `now`. Damaging the file must not help an
    /// attacker, and logins work again after one window.
    #[must_use]
    pub fn exhausted(now: u64, settings: &BudgetSettings) -> Self {
        let requests = vec![RemoteTime { at: now, remote: "unreadable".to_owned() }; settings.per_host];
        Self { requests, ..Self::default() }
    }

    /// Counts one request of `remote`, if it is within the budget.
    ///
    /// # Errors
    /// `BudgetExceeded`, with the time to wait. The request is not counted.
    pub fn spend(&mut self, remote: &Remote, now: u64, settings: &BudgetSettings) -> Result<(), BudgetExceeded> {
        self.drop_expired(now, settings);
        let window = settings.window.as_secs();
        // With `limit` requests in the window, the next one is possible when the oldest of the last `limit` has left it.
        let wait = |times: Vec<u64>, limit: usize| match limit.checked_sub(1) {
            None => Some(window),
            Some(before) => {
                let oldest = times.iter().rev().nth(before);
                oldest.map(|at| at.saturating_add(window).saturating_sub(now).max(1))
            }
        };
        let times = |counts: &dyn Fn(&RemoteTime) -> bool| {
            let mut times: Vec<u64> =
                self.requests.iter().filter(|request| counts(request)).map(|request| request.at).collect();
            times.sort_unstable();
            times
        };
        if let Some(wait) = wait(times(&|request| request.remote == remote.as_str()), settings.per_address) {
            return Err(BudgetExceeded::Address { wait });
        }
        let limit = if self.is_known(remote) { settings.per_host } else { settings.for_unknown_addresses() };
        if let Some(wait) = wait(times(&|_| true), limit) {
            return Err(BudgetExceeded::Host { wait });
        }
        self.count(remote, now);
        Ok(())
    }

    /// Counts one request of `remote` even when the budget is spent: it holds a mytoken that was redeemed in this login.
    pub fn count(&mut self, remote: &Remote, now: u64) {
        if self.requests.len() < BudgetSettings::REQUESTS_LIMIT {
            self.requests.push(RemoteTime { at: now, remote: remote.as_str().to_owned() });
        }
    }

    /// A login from `remote` was accepted: removes the requests that it made at `times`, and makes the address a known one.
    pub fn refund(&mut self, remote: &Remote, times: &[u64], now: u64) {
        for time in times {
            let is_own = |request: &RemoteTime| request.remote == remote.as_str() && request.at == *time;
            if let Some(index) = self.requests.iter().position(is_own) {
                self.requests.remove(index);
            }
        }
        self.known.retain(|known| known.remote != remote.as_str());
        if self.known.len() >= KNOWN_LIMIT {
            self.known.remove(0);
        }
        self.known.push(RemoteTime { remote: remote.as_str().to_owned(), at: now });
    }

    /// Requests in the window by remote address, the busiest first.
    #[must_use]
    pub fn by_remote(&self) -> Vec<(&str, usize)> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for request in &self.requests {
            match counts.iter_mut().find(|(remote, _)| *remote == request.remote) {
                Some((_, count)) => *count += 1,
                None => counts.push((&request.remote, 1)),
            }
        }
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        counts
    }

    /// Drops entries that have no effect any more. A time in the future comes from an earlier boot.
    pub fn drop_expired(&mut self, now: u64, settings: &BudgetSettings) {
        let window = settings.window.as_secs();
        self.requests.retain(|request| request.at <= now && now - request.at < window);
        self.backoffs.drop_expired(now);
        self.waiting.drop_expired(now);
        self.refused_tokens.drop_expired(now);
        self.links.drop_expired(now);
        self.known.retain(|known| known.at <= now && now - known.at < KNOWN_AGE);
    }

    fn is_known(&self, remote: &Remote) -> bool {
        self.known.iter().any(|known| known.remote == remote.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(per_address: usize, per_host: usize) -> BudgetSettings {
        BudgetSettings { per_address, per_host, ..BudgetSettings::default() }
    }

    fn remote(text: &str) -> Remote {
        Remote::of(None, Some(text))
    }

    #[test]
    fn an_address_spends_its_own_budget_only() {
        let (settings, mut ledger) = (settings(3, 10), Ledger::default());
        for now in [100, 110, 120] {
            assert_eq!(ledger.spend(&remote("192.0.2.1"), now, &settings), Ok(()));
        }
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 130, &settings), Err(BudgetExceeded::Address { wait: 270 }));
        assert_eq!(ledger.spend(&remote("192.0.2.2"), 130, &settings), Ok(()));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 399, &settings), Err(BudgetExceeded::Address { wait: 1 }));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 400, &settings), Ok(()), "the first request has left the window");
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 401, &settings), Err(BudgetExceeded::Address { wait: 9 }));
    }

    #[test]
    fn all_addresses_together_stay_within_the_budget_of_the_host() {
        let (settings, mut ledger) = (settings(3, 7), Ledger::default());
        for number in 0..5 {
            assert_eq!(ledger.spend(&remote(&format!("192.0.2.{number}")), 100 + number, &settings), Ok(()));
        }
        assert_eq!(ledger.spend(&remote("192.0.2.77"), 200, &settings), Err(BudgetExceeded::Host { wait: 200 }));
        assert_eq!(ledger.spend(&remote("192.0.2.77"), 400, &settings), Ok(()));
    }

    #[test]
    fn sixty_accepted_logins_from_one_address_cost_nothing() {
        let (settings, mut ledger) = (BudgetSettings::default(), Ledger::default());
        for number in 0..60 {
            let now = 100 + number / 10;
            ledger.spend(&remote("192.0.2.1"), now, &settings).unwrap();
            ledger.count(&remote("192.0.2.1"), now);
            ledger.refund(&remote("192.0.2.1"), &[now, now], now);
        }
        assert_eq!(ledger.by_remote(), []);
    }

    #[test]
    fn a_refund_covers_the_requests_of_its_own_login_only() {
        let (settings, mut ledger) = (settings(3, 9), Ledger::default());
        ledger.spend(&remote("192.0.2.1"), 100, &settings).unwrap();
        ledger.spend(&remote("192.0.2.2"), 100, &settings).unwrap();
        // A guess from the same address during a slow good login stays, with its own time.
        ledger.spend(&remote("192.0.2.1"), 119, &settings).unwrap();
        ledger.refund(&remote("192.0.2.1"), &[100, 100, 7], 119);
        assert_eq!(
            ledger.requests,
            [("192.0.2.2", 100), ("192.0.2.1", 119)].map(|(remote, at)| RemoteTime { at, remote: remote.into() })
        );
    }

    #[test]
    fn unknown_addresses_leave_a_third_of_the_budget_to_known_ones() {
        let (settings, mut ledger) = (settings(3, 9), Ledger::default());
        ledger.refund(&remote("192.0.2.1"), &[], 100);
        for number in 10..16 {
            ledger.spend(&remote(&format!("192.0.2.{number}")), 200, &settings).unwrap();
        }
        assert_eq!(ledger.spend(&remote("192.0.2.16"), 200, &settings), Err(BudgetExceeded::Host { wait: 300 }));
        for _ in 0..3 {
            assert_eq!(ledger.spend(&remote("192.0.2.1"), 200, &settings), Ok(()));
        }
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 86_500, &settings), Ok(()));
        assert_eq!(ledger.known, [], "known for a day only");
        for number in 0..600 {
            ledger.refund(&remote(&format!("10.0.{}.{}", number / 250, number % 250)), &[], 86_501);
        }
        assert_eq!(ledger.known.len(), KNOWN_LIMIT);
    }

    #[test]
    fn a_request_with_a_redeemed_mytoken_is_counted_and_never_refused() {
        let (settings, mut ledger) = (settings(2, 9), Ledger::default());
        ledger.spend(&remote("192.0.2.1"), 100, &settings).unwrap();
        for _ in 0..3 {
            ledger.count(&remote("192.0.2.1"), 100);
        }
        assert_eq!(ledger.by_remote(), [("192.0.2.1", 4)]);
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 101, &settings), Err(BudgetExceeded::Address { wait: 299 }));
    }

    #[test]
    fn a_budget_of_zero_refuses_everything() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 9, &settings(0, 5)), Err(BudgetExceeded::Address { wait: 300 }));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 9, &settings(5, 0)), Err(BudgetExceeded::Host { wait: 300 }));
    }

    #[test]
    fn a_damaged_ledger_is_spent_for_one_window() {
        let settings = settings(3, 5);
        for damaged in
            ["", "{", r#"{"v":2,"spent":[],"holds":[],"refused":[],"known":[]}"#, r#"{"v":1,"spent":[],"holds":[]}"#]
        {
            assert_eq!(Ledger::parse(damaged.as_bytes()), None, "{damaged}");
        }
        let mut ledger = Ledger::exhausted(100, &settings);
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 101, &settings), Err(BudgetExceeded::Host { wait: 299 }));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 400, &settings), Ok(()));
    }

    /// The file outlives an upgrade of the module.
    #[test]
    fn the_form_of_earlier_releases_is_read() {
        let text = r#"{"v":1,"spent":[{"at":100,"remote":"192.0.2.1"}],"holds":[{"why":"silent","server":"https://mt","provider":null,"remote":null,"until":115}],"refused":[{"at":100,"connection":"a 1","outage":true}],"known":[{"at":99,"remote":"192.0.2.2"}]}"#;
        let ledger = Ledger::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&ledger).unwrap(), text);
    }

    #[test]
    fn requests_of_an_earlier_boot_are_forgotten() {
        let (settings, mut ledger) = (settings(1, 1), Ledger::default());
        ledger.spend(&remote("192.0.2.1"), 120, &settings).unwrap();
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 20, &settings), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn no_order_of_events_exceeds_the_budget_of_any_window(
            events in proptest::collection::vec((0_u8..6, 0_u64..40, proptest::bool::ANY), 1..200),
        ) {
            let (settings, mut ledger, mut now) = (settings(4, 9), Ledger::default(), 1_000);
            let mut sent: Vec<(u64, String)> = Vec::new();
            for (who, pause, good) in events {
                now += pause;
                let remote = remote(&format!("192.0.2.{who}"));
                if ledger.spend(&remote, now, &settings).is_ok() {
                    if good { ledger.refund(&remote, &[now], now); } else { sent.push((now, remote.to_string())); }
                }
                let recent = sent.iter().filter(|(at, _)| now - at < 300);
                proptest::prop_assert!(recent.clone().count() <= 9);
                proptest::prop_assert!(recent.filter(|(_, from)| *from == remote.to_string()).count() <= 4);
            }
        }
    }
}
