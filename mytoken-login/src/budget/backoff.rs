// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers that get no request for a while. Pure: times are seconds since boot and come as parameters.

use serde::{Deserialize, Serialize};

use crate::remote::Remote;

/// Maximum number of backoffs that are kept. Each costs at least one request, so the budget bounds them already.
const BACKOFFS_LIMIT: usize = 256;

/// No backoff is longer, whatever a server asks for, in seconds.
pub(super) const LONGEST_BACKOFF: u64 = 900;

/// A server that gets no request for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// Why.
    #[serde(rename = "why")]
    pub reason: BackoffReason,
    /// The mytoken server's URL.
    pub server: String,
    /// `Some`: only requests for mytokens of this provider.
    pub provider: Option<String>,
    /// `Some`: only logins from this address. An unverified claim has no effect on other addresses.
    pub remote: Option<String>,
    /// Its end, in seconds since boot.
    pub until: u64,
}

/// Why a server gets no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffReason {
    /// It did not answer, or its answer was not that of a mytoken server.
    Silent,
    /// It answered 429.
    TooManyRequests,
    /// The provider behind it answered 429.
    ProviderLimit,
}

/// The current backoffs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Backoffs(Vec<Backoff>);

impl Backoff {
    /// Whether a request to `server` for a mytoken of `provider` from `remote` must not be sent.
    fn applies(&self, server: &str, provider: Option<&str>, remote: &Remote, now: u64) -> bool {
        self.server == server
            && self.until > now
            && self.provider.as_deref().is_none_or(|own| provider == Some(own))
            && self.remote.as_deref().is_none_or(|own| own == remote.as_str())
    }

    /// Whether both refuse the same requests for the same reason.
    fn covers_same_requests(&self, other: &Self) -> bool {
        (&self.reason, &self.server, &self.provider, &self.remote)
            == (&other.reason, &other.server, &other.provider, &other.remote)
    }
}

impl Backoffs {
    /// Adds a backoff. A longer one for the same requests stays.
    pub fn add(&mut self, backoff: Backoff) {
        if let Some(one) = self.0.iter_mut().find(|one| one.covers_same_requests(&backoff)) {
            one.until = one.until.max(backoff.until);
        } else if self.0.len() < BACKOFFS_LIMIT {
            self.0.push(backoff);
        }
    }

    /// The backoff that refuses a request to `server` for a mytoken of `provider` from `remote`.
    #[must_use]
    pub fn find(&self, server: &str, provider: Option<&str>, remote: &Remote, now: u64) -> Option<&Backoff> {
        let applying = self.0.iter().filter(|one| one.applies(server, provider, remote, now));
        // A 429 takes precedence over silence: it is a refusal, silence is an outage.
        applying.max_by_key(|one| (one.reason != BackoffReason::Silent, one.until))
    }

    /// The backoff that refuses every request to `server`, because it does not answer.
    #[must_use]
    pub fn find_silence(&self, server: &str, now: u64) -> Option<&Backoff> {
        let for_all = |one: &&Backoff| one.remote.is_none() && one.provider.is_none();
        self.0
            .iter()
            .filter(for_all)
            .find(|one| one.reason == BackoffReason::Silent && one.server == server && one.until > now)
    }

    /// The backoff that refuses requests of every address, because this provider behind `server` does not answer.
    #[must_use]
    pub fn find_silent_provider(&self, server: &str, provider: Option<&str>, now: u64) -> Option<&Backoff> {
        self.0.iter().find(|one| {
            one.reason == BackoffReason::Silent
                && one.server == server
                && one.until > now
                && one.remote.is_none()
                && one.provider.is_some()
                && one.provider.as_deref() == provider
        })
    }

    /// The server answered a request from `remote` for a mytoken of `provider`: ends the backoffs for silence that include this request.
    /// Backoffs of other addresses and providers stay.
    pub fn end_silence(&mut self, server: &str, provider: Option<&str>, remote: &Remote) {
        let includes = |own: Option<&str>, answered: Option<&str>| own.is_none_or(|own| answered == Some(own));
        self.0.retain(|one| {
            one.reason != BackoffReason::Silent
                || one.server != server
                || !includes(one.provider.as_deref(), provider)
                || !includes(one.remote.as_deref(), Some(remote.as_str()))
        });
    }

    /// Whether there is a backoff for a silence of this server.
    #[must_use]
    pub fn has_silence(&self, server: &str) -> bool {
        self.0.iter().any(|one| one.reason == BackoffReason::Silent && one.server == server)
    }

    /// All backoffs.
    #[must_use]
    pub fn as_slice(&self) -> &[Backoff] {
        &self.0
    }

    /// Drops backoffs that have ended. One that ends more than [`LONGEST_BACKOFF`] seconds from now comes from an earlier boot.
    pub(super) fn drop_expired(&mut self, now: u64) {
        self.0.retain(|one| one.until > now && one.until - now <= LONGEST_BACKOFF);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> Remote {
        Remote::of(None, Some(text))
    }

    fn silent(provider: Option<&str>, remote: Option<&str>, until: u64) -> Backoff {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Backoff {
            reason: BackoffReason::Silent,
            server: "https://mt".into(),
            provider: owned(provider),
            remote: owned(remote),
            until,
        }
    }

    #[test]
    fn a_shorter_backoff_does_not_end_a_longer_one() {
        let mut backoffs = Backoffs::default();
        for until in [200, 150] {
            backoffs.add(silent(None, None, until));
        }
        assert_eq!(backoffs.as_slice(), [silent(None, None, 200)]);
    }

    #[test]
    fn a_backoff_applies_to_the_provider_and_the_address_that_it_names() {
        let here = remote("192.0.2.1");
        let table = [
            // provider and address of the backoff; provider and address of the request; whether it applies
            (None, None, None, "192.0.2.1", true),
            (None, None, Some("https://op"), "192.0.2.9", true),
            (None, Some("192.0.2.1"), None, "192.0.2.1", true),
            (None, Some("192.0.2.1"), None, "192.0.2.2", false),
            (Some("https://op"), None, Some("https://op"), "192.0.2.9", true),
            (Some("https://op"), None, Some("https://other"), "192.0.2.9", false),
            (Some("https://op"), None, None, "192.0.2.9", false),
            (Some("https://op"), Some("192.0.2.1"), Some("https://op"), "192.0.2.2", false),
        ];
        for (provider, of, asked, from, applies) in table {
            let mut backoffs = Backoffs::default();
            backoffs.add(silent(provider, of, 115));
            let applying = |server, now| backoffs.find(server, asked, &remote(from), now);
            assert_eq!(applying("https://mt", 114).is_some(), applies, "{provider:?} {of:?}");
            assert_eq!(applying("https://mt", 115), None);
            assert_eq!(applying("https://else", 100), None);
        }
        let mut backoffs = Backoffs::default();
        backoffs.add(silent(None, None, 200));
        backoffs.add(Backoff { reason: BackoffReason::TooManyRequests, until: 150, ..silent(None, None, 0) });
        let reason = |backoffs: &Backoffs| backoffs.find("https://mt", None, &here, 100).unwrap().reason;
        assert_eq!(reason(&backoffs), BackoffReason::TooManyRequests);
        backoffs.end_silence("https://mt", None, &here);
        assert_eq!(reason(&backoffs), BackoffReason::TooManyRequests, "an answer ends silence only");
        assert_eq!(backoffs.as_slice().len(), 1);
    }

    #[test]
    fn an_answer_for_one_provider_does_not_end_the_silence_of_another() {
        let mut backoffs = Backoffs::default();
        for provider in [None, Some("https://op"), Some("https://other")] {
            backoffs.add(silent(provider, None, 200));
        }
        backoffs.add(silent(None, Some("192.0.2.9"), 200));
        backoffs.add(silent(None, Some("192.0.2.1"), 200));
        backoffs.end_silence("https://mt", Some("https://op"), &remote("192.0.2.1"));
        let left = [silent(Some("https://other"), None, 200), silent(None, Some("192.0.2.9"), 200)];
        assert_eq!(backoffs.as_slice(), left);
    }

    #[test]
    fn a_backoff_of_an_earlier_boot_is_dropped() {
        let mut backoffs = Backoffs::default();
        backoffs.add(silent(None, None, 50_015));
        backoffs.drop_expired(20);
        assert_eq!(backoffs.as_slice(), []);
    }
}
