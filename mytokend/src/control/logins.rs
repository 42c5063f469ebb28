// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl status --login`: the requests that logins sent to the mytoken server, and the servers that are paused.

use std::fmt::Write as _;
use std::path::Path;

use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, Shared};
use mytoken::document::SharedDocument;
use mytoken::{Error, SystemClock};
use mytoken_login::LoginSettings;
use mytoken_login::budget::{BackoffReason, BudgetSettings, Ledger, LedgerFile};
use mytoken_login::oidc::ProviderMetadata;
use serde::Serialize;

/// Maximum number of addresses on a screen. JSON has all.
const SHOWN: usize = 20;

/// Counts of this host's logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logins {
    /// Requests in the window for logins that were not accepted.
    pub requests: usize,
    /// The same for logins that do not come over ssh (su). They are counted separately.
    pub local_requests: usize,
    /// The limit of each of the two.
    pub per_host: usize,
    /// The limit for one address.
    pub per_address: usize,
    /// Length of the window in seconds.
    pub window: u64,
    /// Requests by remote address, the highest number first.
    pub addresses: Vec<Address>,
    /// Servers that get no request for now.
    #[serde(rename = "holds")]
    pub paused: Vec<PausedServer>,
}

/// A remote address; of IPv6 its /64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// As text.
    pub address: String,
    /// Requests in the window.
    pub requests: usize,
}

/// A server that gets no request for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PausedServer {
    /// Its URL.
    pub server: String,
    /// If set: only requests for mytokens of this provider.
    pub provider: Option<String>,
    /// If set: only requests for logins from this address.
    pub address: Option<String>,
    /// `silent`, `too_many_requests` or `provider_limit`.
    pub why: BackoffReason,
    /// Seconds until the next request.
    pub seconds: u64,
}

impl Logins {
    /// Reads the ledgers and the cache of this host. Sends no request.
    ///
    /// # Errors
    /// An error in the configuration, or the ledger cannot be read. Only root may read it.
    pub fn read(config: &Path) -> Result<Self, Error> {
        let shared = Shared::load(config, FileTrust::ROOT)?;
        let settings = LoginSettings::load(config, FileTrust::ROOT, &shared)?.budget;
        let (ledger, now) = LedgerFile::of_ssh().read(&settings)?;
        let mut logins = Self::of(&ledger, now, &settings);
        // Programs that their caller can stop (su) use a second ledger.
        let (ledger, now) = LedgerFile::of_others().read(&settings)?;
        let local = Self::of(&ledger, now, &settings);
        logins.local_requests = local.requests;
        logins.addresses.extend(local.addresses);
        let here =
            |hold: PausedServer| PausedServer { address: hold.address.or_else(|| Some("local".to_owned())), ..hold };
        logins.paused.extend(local.paused.into_iter().map(here));
        // Providers' keys and servers' discovery documents that could not be fetched.
        let cache = DiskCache::of_host();
        let issuers = shared.issuers.iter().flat_map(|issuer| {
            let endpoints = issuer.asks_provider().then_some(ProviderMetadata::KIND);
            std::iter::once("jwks").chain(endpoints).map(|kind| (kind, issuer.url.clone()))
        });
        let servers = shared
            .servers
            .iter()
            .filter_map(|server| Some(("server", shared.server_url(&server.name).ok()?.to_string())));
        for (kind, server) in issuers.chain(servers) {
            if let Some(seconds) = SharedDocument::new(kind, &server, Some(&cache), &SystemClock).failing_for() {
                logins.paused.push(PausedServer {
                    server,
                    provider: None,
                    address: None,
                    why: BackoffReason::Silent,
                    seconds,
                });
            }
        }
        Ok(logins)
    }

    fn of(ledger: &Ledger, now: u64, settings: &BudgetSettings) -> Self {
        let addresses: Vec<Address> = ledger
            .by_remote()
            .into_iter()
            .map(|(address, requests)| Address { address: address.to_owned(), requests })
            .collect();
        let paused = ledger.backoffs.as_slice().iter().map(|backoff| PausedServer {
            server: backoff.server.clone(),
            provider: backoff.provider.clone(),
            address: backoff.remote.clone(),
            why: backoff.reason,
            seconds: backoff.until.saturating_sub(now),
        });
        Self {
            requests: addresses.iter().map(|address| address.requests).sum(),
            local_requests: 0,
            per_host: settings.per_host,
            per_address: settings.per_address,
            window: settings.window.as_secs(),
            addresses,
            paused: paused.collect(),
        }
    }

    /// For a screen.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // The ledger keeps a third of the requests for addresses with an accepted login.
        let spent = match self.requests {
            requests if requests >= self.per_host => "; spent",
            requests if requests >= self.per_host - self.per_host / 3 => {
                "; spent for addresses without a recent accepted login"
            }
            _ => "",
        };
        let _ = writeln!(
            text,
            "requests        {} of {} in the last {} s for logins that were not accepted{spent}",
            self.requests, self.per_host, self.window
        );
        if self.local_requests > 0 {
            let _ = writeln!(text, "not over ssh    {} of {}", self.local_requests, self.per_host);
        }
        for Address { address, requests } in self.addresses.iter().take(SHOWN) {
            let spent = if *requests >= self.per_address { "  spent" } else { "" };
            let _ = writeln!(text, "  {address:<40} {requests} of {}{spent}", self.per_address);
        }
        if let Some(more) = self.addresses.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let _ = writeln!(text, "  and {more} more addresses (--json shows all)");
        }
        if self.paused.is_empty() {
            let _ = writeln!(text, "servers         none is paused");
        }
        for paused in &self.paused {
            let what = match paused.why {
                BackoffReason::Silent => "gave no valid answer",
                BackoffReason::TooManyRequests => "answered 429, too many requests",
                BackoffReason::ProviderLimit => "its provider answered 429, too many requests",
            };
            let provider =
                paused.provider.as_ref().map(|provider| format!(", for mytokens of {provider}")).unwrap_or_default();
            let address =
                paused.address.as_ref().map(|address| format!(", for logins from {address}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "paused          {}{provider}{address}: {what}; next request in {} s",
                paused.server, paused.seconds
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use mytoken_login::Remote;
    use mytoken_login::budget::Backoff;

    use super::*;

    #[test]
    fn the_screen_shows_counts_and_paused_servers() {
        let settings = BudgetSettings { per_address: 3, ..BudgetSettings::default() };
        let mut ledger = Ledger::default();
        for from in ["192.0.2.1", "2001:db8::1", "192.0.2.1", "192.0.2.1"] {
            ledger.spend(&Remote::of(None, Some(from)), 100, &settings).unwrap();
        }
        let backoff = |reason, remote: Option<&str>, until| Backoff {
            reason,
            server: "https://mt.example.org".into(),
            provider: remote.map(|_| "https://op.example.org".into()),
            remote: remote.map(str::to_owned),
            until,
        };
        ledger.backoffs.add(backoff(BackoffReason::TooManyRequests, None, 312));
        ledger.backoffs.add(backoff(BackoffReason::Silent, Some("192.0.2.1"), 109));
        let logins = Logins::of(&ledger, 100, &settings);
        let expected = "\
requests        4 of 60 in the last 300 s for logins that were not accepted
  192.0.2.1                                3 of 3  spent
  2001:db8::/64                            1 of 3
paused          https://mt.example.org: answered 429, too many requests; next request in 212 s
paused          https://mt.example.org, for mytokens of https://op.example.org, for logins from 192.0.2.1: gave no valid answer; next request in 9 s
";
        assert_eq!(logins.render(), expected);
        let with = |requests, local_requests| Logins { requests, local_requests, ..logins.clone() }.render();
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        assert!(first(with(39, 0)).ends_with("not accepted") && first(with(60, 0)).ends_with("accepted; spent"));
        assert!(first(with(40, 0)).ends_with("spent for addresses without a recent accepted login"));
        assert!(with(0, 7).contains("not over ssh    7 of 60"));
        let nothing = Logins::of(&Ledger::default(), 100, &settings).render();
        assert_eq!(nothing.lines().collect::<Vec<_>>()[1], "servers         none is paused");
    }
}
