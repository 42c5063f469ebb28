// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl status --login`: what logins have asked of the mytoken server, and which servers are left alone for now.

use std::fmt::Write as _;
use std::path::Path;

use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, Shared};
use mytoken::document::SharedDocument;
use mytoken::files::Owner;
use mytoken::{Error, SystemClock};
use mytoken_login::LoginSettings;
use mytoken_login::budget::{BudgetSettings, DIRECTORY, LOCAL_DIRECTORY, Ledger, LedgerFile, Why};
use serde::Serialize;

/// Most addresses that are shown on a screen; JSON has all.
const SHOWN: usize = 20;

/// What is known about the logins of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logins {
    /// Requests in the window for logins that were not let in.
    pub requests: usize,
    /// The same for programs of this host that are no logins over ssh (su); they have numbers of their own.
    pub local_requests: usize,
    /// How many there may be of each.
    pub per_host: usize,
    /// How many from one address.
    pub per_address: usize,
    /// The window in seconds.
    pub window: u64,
    /// The same by remote address, the busiest first.
    pub addresses: Vec<Address>,
    /// Servers that are left alone.
    pub holds: Vec<PausedServer>,
}

/// A remote address, or the /64 of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// As text.
    pub address: String,
    /// Requests in the window.
    pub requests: usize,
}

/// A server that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PausedServer {
    /// Its URL.
    pub server: String,
    /// Only for mytokens of this provider behind it.
    pub provider: Option<String>,
    /// Only for logins from there.
    pub address: Option<String>,
    /// `silent`, `too_many_requests` or `provider_limit`.
    pub why: Why,
    /// Seconds until it is asked again.
    pub seconds: u64,
}

impl Logins {
    /// Reads the ledger of the logins and the notes about the configured providers. Nothing is asked over the network.
    ///
    /// # Errors
    /// The configuration's mistake, or why the ledger cannot be read: only root may.
    pub fn look(config: &Path) -> Result<Self, Error> {
        let shared = Shared::load(config, FileTrust::ROOT)?;
        let settings = LoginSettings::load(config, FileTrust::ROOT, &shared)?.budget;
        let (ledger, now) = LedgerFile::new(Path::new(DIRECTORY), Owner::ROOT).look(&settings)?;
        let mut logins = Self::of(&ledger, now, &settings);
        // Programs that their caller can stop: what they met concerns them alone.
        let (ledger, now) = LedgerFile::new(Path::new(LOCAL_DIRECTORY), Owner::ROOT).look(&settings)?;
        let local = Self::of(&ledger, now, &settings);
        logins.local_requests = local.requests;
        logins.addresses.extend(local.addresses);
        let here =
            |hold: PausedServer| PausedServer { address: hold.address.or_else(|| Some("local".to_owned())), ..hold };
        logins.holds.extend(local.holds.into_iter().map(here));
        // What could not be fetched lately: providers' keys, mytoken servers' discovery documents.
        let cache = DiskCache::of_host();
        let issuers = shared.issuers.iter().map(|issuer| ("jwks", issuer.url.clone()));
        let servers = shared
            .servers
            .iter()
            .filter_map(|server| Some(("server", shared.server_url(&server.name).ok()?.to_string())));
        for (kind, server) in issuers.chain(servers) {
            if let Some(seconds) = SharedDocument::new(kind, &server, Some(&cache), &SystemClock).failing_for() {
                logins.holds.push(PausedServer { server, provider: None, address: None, why: Why::Silent, seconds });
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
        let holds = ledger.holds().iter().map(|hold| PausedServer {
            server: hold.server.clone(),
            provider: hold.provider.clone(),
            address: hold.remote.clone(),
            why: hold.why,
            seconds: hold.until.saturating_sub(now),
        });
        Self {
            requests: addresses.iter().map(|address| address.requests).sum(),
            local_requests: 0,
            per_host: settings.per_host,
            per_address: settings.per_address,
            window: settings.window.as_secs(),
            addresses,
            holds: holds.collect(),
        }
    }

    /// For a screen.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // As the ledger reckons: a third is kept.
        let spent = match self.requests {
            requests if requests >= self.per_host => "; spent",
            requests if requests >= self.per_host - self.per_host / 3 => {
                "; spent for addresses from which nobody was let in lately"
            }
            _ => "",
        };
        let _ = writeln!(
            text,
            "requests        {} of {} in the last {} s for logins that were not let in{spent}",
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
        if self.holds.is_empty() {
            let _ = writeln!(text, "servers         none is left alone");
        }
        for hold in &self.holds {
            let what = match hold.why {
                Why::Silent => "did not answer as it should",
                Why::TooManyRequests => "said 429, too many requests",
                Why::ProviderLimit => "its provider said 429, too many requests",
            };
            let provider =
                hold.provider.as_ref().map(|provider| format!(", for mytokens of {provider}")).unwrap_or_default();
            let address =
                hold.address.as_ref().map(|address| format!(", for logins from {address}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "left alone      {}{provider}{address}: {what}; asked again in {} s",
                hold.server, hold.seconds
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use mytoken_login::Remote;
    use mytoken_login::budget::Hold;

    use super::*;

    #[test]
    fn a_screen_for_root() {
        let settings = BudgetSettings { per_address: 3, ..BudgetSettings::default() };
        let mut ledger = Ledger::default();
        for from in ["192.0.2.1", "2001:db8::1", "192.0.2.1", "192.0.2.1"] {
            ledger.spend(&Remote::of(None, Some(from)), 100, &settings).unwrap();
        }
        let hold = |why, remote: Option<&str>, until| Hold {
            why,
            server: "https://mt.example.org".into(),
            provider: remote.map(|_| "https://op.example.org".into()),
            remote: remote.map(str::to_owned),
            until,
        };
        ledger.hold(hold(Why::TooManyRequests, None, 312));
        ledger.hold(hold(Why::Silent, Some("192.0.2.1"), 109));
        let logins = Logins::of(&ledger, 100, &settings);
        let expected = "\
requests        4 of 60 in the last 300 s for logins that were not let in
  192.0.2.1                                3 of 3  spent
  2001:db8::/64                            1 of 3
left alone      https://mt.example.org: said 429, too many requests; asked again in 212 s
left alone      https://mt.example.org, for mytokens of https://op.example.org, for logins from 192.0.2.1: did not answer as it should; asked again in 9 s
";
        assert_eq!(logins.render(), expected);
        let with = |requests, local_requests| Logins { requests, local_requests, ..logins.clone() }.render();
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        assert!(first(with(39, 0)).ends_with("not let in") && first(with(60, 0)).ends_with("let in; spent"));
        assert!(first(with(40, 0)).ends_with("spent for addresses from which nobody was let in lately"));
        assert!(with(0, 7).contains("not over ssh    7 of 60"));
        let nothing = Logins::of(&Ledger::default(), 100, &settings).render();
        assert_eq!(nothing.lines().collect::<Vec<_>>()[1], "servers         none is left alone");
    }
}
