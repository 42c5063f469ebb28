// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger: pure, with the time as a parameter. Times are seconds since boot, so that setting the clock changes nothing.

use serde::{Deserialize, Serialize};

use super::BudgetSettings;
use crate::Remote;

/// Version of the stored form.
const VERSION: u32 = 1;

/// Most holds that are kept; each costs a request at least, so the budget bounds them already.
const HOLDS: usize = 256;

/// Most connections that are remembered; older ones go first.
const CONNECTIONS: usize = 256;

/// Most addresses that are remembered because somebody was let in from there; older ones go first.
const KNOWN: usize = 256;

/// How long they are remembered, in seconds.
const KNOWN_AGE: u64 = 86_400;

/// How long a refused connection is remembered, in seconds; sshd's default `LoginGraceTime` is 120 (SSH-10).
const CONNECTION_AGE: u64 = 600;

/// What was spent, and who is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    v: u32,
    spent: Vec<Seen>,
    holds: Vec<Hold>,
    refused: Vec<Refused>,
    known: Vec<Seen>,
}

/// A connection in which nothing more is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    at: u64,
    connection: String,
    outage: bool,
}

/// A request of an address, or that somebody was let in from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    at: u64,
    remote: String,
}

/// A server that is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Why.
    pub why: Why,
    /// Which: the mytoken server's URL.
    pub server: String,
    /// Only for mytokens of this provider behind it.
    pub provider: Option<String>,
    /// Only for logins from here: what nobody verified counts for its own address.
    pub remote: Option<String>,
    /// Until when, in seconds since boot.
    pub until: u64,
}

/// Why a server is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It did not answer, or not as a mytoken server.
    Silent,
    /// It answered 429.
    TooManyRequests,
    /// The provider behind it did.
    ProviderLimit,
}

/// How long the next request must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// What one address may cause is spent.
    Address {
        /// Seconds until the next is possible.
        wait: u64,
    },
    /// What all together may cause is spent.
    Host {
        /// Seconds until the next is possible.
        wait: u64,
    },
}

impl Default for Ledger {
    fn default() -> Self {
        Self { v: VERSION, spent: Vec::new(), holds: Vec::new(), refused: Vec::new(), known: Vec::new() }
    }
}

impl Ledger {
    /// Reads the stored form. One that cannot be read counts as spent, from `now` on: whoever could damage it must gain nothing, and it
    /// is good again after one window. So it must be stored, which the flag says.
    #[must_use]
    pub fn parse(bytes: &[u8], now: u64, settings: &BudgetSettings) -> (Self, bool) {
        match serde_json::from_slice::<Self>(bytes).ok().filter(|ledger| ledger.v == VERSION) {
            Some(ledger) => (ledger, false),
            None => {
                let spent = vec![Seen { at: now, remote: "unreadable".to_owned() }; settings.per_host];
                (Self { spent, ..Self::default() }, true)
            }
        }
    }

    /// Counts one request of `remote`, if it is within the budget.
    ///
    /// # Errors
    /// `Exceeded`, with the time to wait; nothing was counted.
    pub fn spend(&mut self, remote: &Remote, now: u64, settings: &BudgetSettings) -> Result<(), Exceeded> {
        self.forget(now, settings);
        let window = settings.window.as_secs();
        // With `limit` requests in the window the next is possible when the oldest of the last `limit` has left it.
        let wait = |times: Vec<u64>, limit: usize| match limit.checked_sub(1) {
            None => Some(window),
            Some(before) => {
                let oldest = times.iter().rev().nth(before);
                oldest.map(|at| at.saturating_add(window).saturating_sub(now).max(1))
            }
        };
        let of = |mine: &dyn Fn(&Seen) -> bool| {
            let mut times: Vec<u64> = self.spent.iter().filter(|spent| mine(spent)).map(|spent| spent.at).collect();
            times.sort_unstable();
            times
        };
        if let Some(wait) = wait(of(&|spent| spent.remote == remote.as_str()), settings.per_address) {
            return Err(Exceeded::Address { wait });
        }
        // Strangers at many addresses leave a third to the addresses from which somebody was let in lately.
        let known = self.known.iter().any(|known| known.remote == remote.as_str());
        let limit = if known { settings.per_host } else { settings.per_host - settings.per_host / 3 };
        if let Some(wait) = wait(of(&|_| true), limit) {
            return Err(Exceeded::Host { wait });
        }
        self.count(remote, now);
        Ok(())
    }

    /// Counts one request of `remote`, whatever is left: it is about something that the server itself has handed out, and weighs on the
    /// next.
    pub fn count(&mut self, remote: &Remote, now: u64) {
        if self.spent.len() < BudgetSettings::LARGEST {
            self.spent.push(Seen { at: now, remote: remote.as_str().to_owned() });
        }
    }

    /// Somebody was let in from `remote`: gives back the requests that it made at these times.
    pub fn let_in(&mut self, remote: &Remote, times: &[u64], now: u64) {
        for time in times {
            let same = |spent: &Seen| spent.remote == remote.as_str() && spent.at == *time;
            if let Some(at) = self.spent.iter().position(same) {
                self.spent.remove(at);
            }
        }
        self.known.retain(|known| known.remote != remote.as_str());
        if self.known.len() >= KNOWN {
            self.known.remove(0);
        }
        self.known.push(Seen { remote: remote.as_str().to_owned(), at: now });
    }

    /// Notes that a server is to be left alone; a longer hold for the same reason stays.
    pub fn hold(&mut self, hold: Hold) {
        let same = |one: &Hold| {
            (&one.why, &one.server, &one.provider, &one.remote)
                == (&hold.why, &hold.server, &hold.provider, &hold.remote)
        };
        if let Some(one) = self.holds.iter_mut().find(|one| same(one)) {
            one.until = one.until.max(hold.until);
        } else if self.holds.len() < HOLDS {
            self.holds.push(hold);
        }
    }

    /// The hold that concerns a request to `server` for a mytoken of `provider` from `remote`.
    #[must_use]
    pub fn held(&self, server: &str, provider: Option<&str>, remote: &Remote, now: u64) -> Option<&Hold> {
        let concerns = |hold: &&Hold| {
            hold.server == server
                && hold.until > now
                && hold.provider.as_deref().is_none_or(|held| provider == Some(held))
                && hold.remote.as_deref().is_none_or(|held| held == remote.as_str())
        };
        // "Not before" counts more than silence: it is a refusal, silence is an outage.
        self.holds.iter().filter(concerns).max_by_key(|hold| (hold.why != Why::Silent, hold.until))
    }

    /// The hold of everybody because this provider behind `server` does not answer.
    #[must_use]
    pub fn hanging(&self, server: &str, provider: Option<&str>, now: u64) -> Option<&Hold> {
        self.holds.iter().find(|hold| {
            hold.why == Why::Silent
                && hold.server == server
                && hold.until > now
                && hold.remote.is_none()
                && hold.provider.is_some()
                && hold.provider.as_deref() == provider
        })
    }

    /// The server answered `remote`: its silence is over, also that of `provider` behind it. What others met by tokens of their own stays.
    pub fn answered(&mut self, server: &str, provider: Option<&str>, remote: &Remote) {
        let over = |held: Option<&str>, met: Option<&str>| held.is_none_or(|held| met == Some(held));
        self.holds.retain(|hold| {
            hold.why != Why::Silent
                || hold.server != server
                || !over(hold.provider.as_deref(), provider)
                || !over(hold.remote.as_deref(), Some(remote.as_str()))
        });
    }

    /// Whether something is remembered of this server's silence.
    #[must_use]
    pub fn is_silent(&self, server: &str) -> bool {
        self.holds.iter().any(|hold| hold.why == Why::Silent && hold.server == server)
    }

    /// Notes that nothing more is to be asked in this connection; `outage` tells why.
    pub fn refuse(&mut self, connection: &str, outage: bool, now: u64) {
        self.refused.retain(|one| one.connection != connection && one.at <= now && now - one.at < CONNECTION_AGE);
        if self.refused.len() >= CONNECTIONS {
            self.refused.remove(0);
        }
        self.refused.push(Refused { at: now, connection: connection.to_owned(), outage });
    }

    /// Whether nothing more is to be asked in this connection: `Some(true)` because of an outage.
    #[must_use]
    pub fn refused(&self, connection: &str, now: u64) -> Option<bool> {
        let fresh = |one: &&Refused| one.connection == connection && one.at <= now && now - one.at < CONNECTION_AGE;
        self.refused.iter().find(fresh).map(|one| one.outage)
    }

    /// Requests in the window, by remote address, the busiest first.
    #[must_use]
    pub fn by_remote(&self) -> Vec<(&str, usize)> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for spent in &self.spent {
            match counts.iter_mut().find(|(remote, _)| *remote == spent.remote) {
                Some((_, count)) => *count += 1,
                None => counts.push((&spent.remote, 1)),
            }
        }
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        counts
    }

    /// Who is left alone.
    #[must_use]
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// Drops what has no effect any more. A time in the future is of another boot.
    pub fn forget(&mut self, now: u64, settings: &BudgetSettings) {
        let window = settings.window.as_secs();
        self.spent.retain(|spent| spent.at <= now && now - spent.at < window);
        self.holds.retain(|hold| hold.until > now && hold.until - now <= super::allowance::LONGEST_HOLD);
        self.known.retain(|known| known.at <= now && now - known.at < KNOWN_AGE);
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
    fn an_address_spends_its_own_and_no_more() {
        let (settings, mut ledger) = (settings(3, 10), Ledger::default());
        for now in [100, 110, 120] {
            assert_eq!(ledger.spend(&remote("192.0.2.1"), now, &settings), Ok(()));
        }
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 130, &settings), Err(Exceeded::Address { wait: 270 }));
        assert_eq!(ledger.spend(&remote("192.0.2.2"), 130, &settings), Ok(()));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 399, &settings), Err(Exceeded::Address { wait: 1 }));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 400, &settings), Ok(()), "the first has left the window");
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 401, &settings), Err(Exceeded::Address { wait: 9 }));
    }

    #[test]
    fn all_together_spend_no_more_than_the_host_may() {
        let (settings, mut ledger) = (settings(3, 7), Ledger::default());
        for number in 0..5 {
            assert_eq!(ledger.spend(&remote(&format!("192.0.2.{number}")), 100 + number, &settings), Ok(()));
        }
        assert_eq!(ledger.spend(&remote("192.0.2.77"), 200, &settings), Err(Exceeded::Host { wait: 200 }));
        assert_eq!(ledger.spend(&remote("192.0.2.77"), 400, &settings), Ok(()));
    }

    #[test]
    fn a_course_of_sixty_behind_one_address_gets_in() {
        let (settings, mut ledger) = (BudgetSettings::default(), Ledger::default());
        for number in 0..60 {
            let now = 100 + number / 10;
            ledger.spend(&remote("192.0.2.1"), now, &settings).unwrap();
            ledger.count(&remote("192.0.2.1"), now);
            ledger.let_in(&remote("192.0.2.1"), &[now, now], now);
        }
        assert_eq!(ledger.by_remote(), []);
    }

    #[test]
    fn giving_back_takes_nothing_from_others_and_nothing_that_was_not_spent() {
        let (settings, mut ledger) = (settings(3, 9), Ledger::default());
        ledger.spend(&remote("192.0.2.1"), 100, &settings).unwrap();
        ledger.spend(&remote("192.0.2.2"), 100, &settings).unwrap();
        // A guess from the same address, while the slow good login was under way, stays and does not get older.
        ledger.spend(&remote("192.0.2.1"), 119, &settings).unwrap();
        ledger.let_in(&remote("192.0.2.1"), &[100, 100, 7], 119);
        assert_eq!(
            ledger.spent,
            [("192.0.2.2", 100), ("192.0.2.1", 119)].map(|(remote, at)| Seen { at, remote: remote.into() })
        );
    }

    #[test]
    fn strangers_at_many_addresses_leave_a_third_to_known_ones() {
        let (settings, mut ledger) = (settings(3, 9), Ledger::default());
        ledger.let_in(&remote("192.0.2.1"), &[], 100);
        for number in 10..16 {
            ledger.spend(&remote(&format!("192.0.2.{number}")), 200, &settings).unwrap();
        }
        assert_eq!(ledger.spend(&remote("192.0.2.16"), 200, &settings), Err(Exceeded::Host { wait: 300 }));
        for _ in 0..3 {
            assert_eq!(ledger.spend(&remote("192.0.2.1"), 200, &settings), Ok(()));
        }
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 86_500, &settings), Ok(()));
        assert_eq!(ledger.known, [], "not for ever");
        for number in 0..600 {
            ledger.let_in(&remote(&format!("10.0.{}.{}", number / 250, number % 250)), &[], 86_501);
        }
        assert_eq!(ledger.known.len(), KNOWN);
    }

    #[test]
    fn what_the_server_handed_out_is_counted_and_never_refused() {
        let (settings, mut ledger) = (settings(2, 9), Ledger::default());
        ledger.spend(&remote("192.0.2.1"), 100, &settings).unwrap();
        for _ in 0..3 {
            ledger.count(&remote("192.0.2.1"), 100);
        }
        assert_eq!(ledger.by_remote(), [("192.0.2.1", 4)]);
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 101, &settings), Err(Exceeded::Address { wait: 299 }));
    }

    #[test]
    fn a_shorter_hold_does_not_end_a_longer_one() {
        let mut ledger = Ledger::default();
        for until in [200, 150] {
            ledger.hold(silent(None, None, until));
        }
        assert_eq!(ledger.holds(), [silent(None, None, 200)]);
    }

    #[test]
    fn nothing_at_all_is_a_budget_too() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 9, &settings(0, 5)), Err(Exceeded::Address { wait: 300 }));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 9, &settings(5, 0)), Err(Exceeded::Host { wait: 300 }));
    }

    #[test]
    fn what_cannot_be_read_is_spent_for_one_window() {
        let settings = settings(3, 5);
        for damaged in
            ["", "{", r#"{"v":2,"spent":[],"holds":[],"refused":[],"known":[]}"#, r#"{"v":1,"spent":[],"holds":[]}"#]
        {
            let (mut ledger, store) = Ledger::parse(damaged.as_bytes(), 100, &settings);
            assert!(store, "{damaged}");
            assert_eq!(
                ledger.spend(&remote("192.0.2.1"), 101, &settings),
                Err(Exceeded::Host { wait: 299 }),
                "{damaged}"
            );
            assert_eq!(ledger.spend(&remote("192.0.2.1"), 400, &settings), Ok(()), "{damaged}");
        }
    }

    #[test]
    fn what_was_written_before_a_boot_is_forgotten() {
        let (settings, mut ledger) = (settings(1, 1), Ledger::default());
        ledger.spend(&remote("192.0.2.1"), 120, &settings).unwrap();
        ledger.hold(silent(None, None, 50_015));
        assert_eq!(ledger.spend(&remote("192.0.2.1"), 20, &settings), Ok(()));
        assert_eq!(ledger.holds(), []);
    }

    fn silent(provider: Option<&str>, remote: Option<&str>, until: u64) -> Hold {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Hold { why: Why::Silent, server: "https://mt".into(), provider: owned(provider), remote: owned(remote), until }
    }

    #[test]
    fn a_hold_concerns_whom_it_names() {
        let here = remote("192.0.2.1");
        let table = [
            // provider and remote of the hold; provider and remote of the request; concerned
            (None, None, None, "192.0.2.1", true),
            (None, None, Some("https://op"), "192.0.2.9", true),
            (None, Some("192.0.2.1"), None, "192.0.2.1", true),
            (None, Some("192.0.2.1"), None, "192.0.2.2", false),
            (Some("https://op"), None, Some("https://op"), "192.0.2.9", true),
            (Some("https://op"), None, Some("https://other"), "192.0.2.9", false),
            (Some("https://op"), None, None, "192.0.2.9", false),
            (Some("https://op"), Some("192.0.2.1"), Some("https://op"), "192.0.2.2", false),
        ];
        for (provider, of, asked, from, concerned) in table {
            let mut ledger = Ledger::default();
            ledger.hold(silent(provider, of, 115));
            assert_eq!(
                ledger.held("https://mt", asked, &remote(from), 114).is_some(),
                concerned,
                "{provider:?} {of:?}"
            );
            assert_eq!(ledger.held("https://mt", asked, &remote(from), 115), None);
            assert_eq!(ledger.held("https://else", asked, &remote(from), 100), None);
        }
        let mut ledger = Ledger::default();
        ledger.hold(silent(None, None, 200));
        ledger.hold(Hold { why: Why::TooManyRequests, until: 150, ..silent(None, None, 0) });
        assert_eq!(ledger.held("https://mt", None, &here, 100).unwrap().why, Why::TooManyRequests);
        ledger.answered("https://mt", None, &here);
        assert_eq!(ledger.held("https://mt", None, &here, 100).unwrap().until, 150, "an answer ends silence only");
    }

    #[test]
    fn a_refused_connection_is_remembered_and_the_memory_does_not_grow() {
        let mut ledger = Ledger::default();
        ledger.refuse("a 1", true, 100);
        ledger.refuse("b 2", false, 100);
        assert_eq!((ledger.refused("a 1", 101), ledger.refused("b 2", 101)), (Some(true), Some(false)));
        assert_eq!((ledger.refused("a 1", 700), ledger.refused("c 3", 101)), (None, None));
        assert_eq!(ledger.refused("a 1", 50), None, "another boot");
        for number in 0..1_000 {
            ledger.refuse(&format!("d {number}"), true, 102);
        }
        assert_eq!((ledger.refused.len(), ledger.refused("d 999", 102)), (CONNECTIONS, Some(true)));
    }

    #[test]
    fn an_answer_for_one_provider_says_nothing_of_another() {
        let mut ledger = Ledger::default();
        for provider in [None, Some("https://op"), Some("https://other")] {
            ledger.hold(silent(provider, None, 200));
        }
        ledger.hold(silent(None, Some("192.0.2.9"), 200));
        ledger.hold(silent(None, Some("192.0.2.1"), 200));
        ledger.answered("https://mt", Some("https://op"), &remote("192.0.2.1"));
        let left = [silent(Some("https://other"), None, 200), silent(None, Some("192.0.2.9"), 200)];
        assert_eq!(ledger.holds(), left);
    }

    proptest::proptest! {
        #[test]
        fn no_order_of_events_spends_more_than_the_budget_in_any_window(
            events in proptest::collection::vec((0_u8..6, 0_u64..40, proptest::bool::ANY), 1..200),
        ) {
            let (settings, mut ledger, mut now) = (settings(4, 9), Ledger::default(), 1_000);
            let mut sent: Vec<(u64, String)> = Vec::new();
            for (who, pause, good) in events {
                now += pause;
                let remote = remote(&format!("192.0.2.{who}"));
                if ledger.spend(&remote, now, &settings).is_ok() {
                    if good { ledger.let_in(&remote, &[now], now); } else { sent.push((now, remote.to_string())); }
                }
                let recent = sent.iter().filter(|(at, _)| now - at < 300);
                proptest::prop_assert!(recent.clone().count() <= 9);
                proptest::prop_assert!(recent.filter(|(_, from)| *from == remote.to_string()).count() <= 4);
            }
        }
    }
}
