// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the context of a login from the configuration and from what this host keeps between logins.

use std::path::Path;
use std::time::{Duration, Instant};

use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, Shared};
use mytoken::http::{HttpSettings, LazyClient};
use mytoken::private_files::Owner;
use mytoken::urls::ServerUrl;
use mytoken::{Error, ScheduleClock, SystemClock};

use crate::accounts::NssAccounts;
use crate::budget::{AgentNotes, Allowance, BudgetSettings, LedgerFile};
use crate::context::{ConfiguredServer, LoginContext};
use crate::handover::{DIRECTORY, Handover};
use crate::link::{LinkRecords, LinkServer, LinkService, exchange_for_links};
use crate::mapper::{HostMappers, MotleyCueRequests};
use crate::maps::Maps;
use crate::oidc::ProviderKeys;
use crate::remote::Remote;
use crate::replay::{Unknown, UsedTokenMemory, UsedTokensFiles};
use crate::server_tokens::ServerTokens;
use crate::service::TokenService;
use crate::settings::LoginSettings;
use crate::validation::{Introspection, ProviderRequests, Userinfo};
use mytoken::Process;

/// The state that this host keeps between logins, and the origin of one login.
pub struct LoginResources {
    /// Who may own the configuration files and map files.
    trust: FileTrust,
    /// Issuers' keys and discovery documents. `None`: nothing is kept.
    cache: Option<DiskCache>,
    /// The ledger of requests. `None`: requests are not counted.
    ledger: Option<LedgerFile>,
    /// The memory of used access tokens. `None`: there is none.
    used_tokens: Option<Box<dyn UsedTokenMemory>>,
    /// The agent that hears of requests. `None`: nobody does.
    agent: Option<AgentNotes>,
    /// Where the login comes from.
    remote: Remote,
    /// Id of the connection. All attempts in it have the same id.
    connection: Option<String>,
    /// How old the connection is. sshd ends it at a certain age, `LoginGraceTime`, whatever happens in it (SSH-10).
    connection_age: Duration,
    /// The address that the login comes from, for the person. `None`: there is nobody to show a link to.
    origin: Option<String>,
    /// The records of logins with a link. `None`: nothing is kept.
    records: Option<Handover>,
}

impl LoginResources {
    /// For a login through PAM: `ssh_connection` is sshd's variable of the PAM environment, `rhost` is PAM's item.
    ///
    /// Logins that do not come over ssh have a cache and a ledger of their own, because their caller can stop the process at any
    /// moment. A process that is not root keeps nothing: root must not trust its files.
    #[must_use]
    pub fn of_pam(ssh_connection: Option<&str>, rhost: Option<&str>) -> Self {
        let root = Owner::current().uid == 0;
        let over_ssh = ssh_connection.is_some();
        let server = Process::parent();
        let cache = if over_ssh { DiskCache::of_host } else { DiskCache::of_callers };
        let ledger = if over_ssh { LedgerFile::of_ssh } else { LedgerFile::of_others };
        Self {
            trust: FileTrust::ROOT,
            cache: root.then(cache),
            ledger: root.then(ledger),
            used_tokens: root.then(|| {
                let files = if over_ssh { UsedTokensFiles::of_ssh() } else { UsedTokensFiles::of_others() };
                Box::new(files) as Box<dyn UsedTokenMemory>
            }),
            // It believes root only.
            agent: root.then(AgentNotes::of_host),
            remote: Remote::of(ssh_connection, rhost),
            connection: ssh_connection.map(|connection| connection_id(connection, server)),
            connection_age: connection_age(server.filter(|_| over_ssh), SystemClock.elapsed()),
            origin: Some(origin(ssh_connection, rhost)),
            records: root.then(|| Handover::new(Path::new(DIRECTORY), Owner::ROOT)),
        }
    }

    /// For an administrator who tests a token. Nothing is counted or recorded: it is not a login.
    #[must_use]
    pub fn of_administrator() -> Self {
        let root = Owner::current().uid == 0;
        Self {
            trust: FileTrust::current(),
            cache: root.then(DiskCache::of_host),
            ledger: None,
            used_tokens: Some(if root {
                Box::new(UsedTokensFiles::of_ssh().looking_only())
            } else {
                Box::new(Unknown)
            }),
            agent: None,
            remote: Remote::of(None, None),
            connection: None,
            connection_age: Duration::ZERO,
            origin: None,
            records: None,
        }
    }

    /// The allowance of this login for requests to the mytoken server.
    #[must_use]
    pub fn allowance<'a>(&'a self, budget: &'a BudgetSettings) -> Allowance<'a> {
        Allowance::new(self.ledger.as_ref(), budget, self.remote.clone(), self.connection.as_deref())
            .telling(self.agent.as_ref())
    }

    /// Runs `login` with the context of a login under this configuration. The map files are read for it.
    ///
    /// # Errors
    /// [`Error::Config`] when a server of `[[exchange]]` has no usable URL.
    pub fn with_context<T>(
        &self,
        shared: &Shared,
        settings: &LoginSettings,
        allowance: &Allowance<'_>,
        login: impl FnOnce(&LoginContext<'_>) -> T,
    ) -> Result<T, Error> {
        let began = Instant::now();
        // Of several attempts in one connection of ssh the last one has no more time than the first one has left.
        let time_for_links = began.checked_sub(self.connection_age).unwrap_or(began);
        let names = || settings.exchanges.iter().map(|exchange| exchange.server.as_str());
        let urls = names().map(|name| shared.server_url(name)).collect::<Result<Vec<_>, _>>()?;
        let http_settings = shared.http_settings();
        let http = LazyClient::new(&http_settings);
        let tokens: Vec<ServerTokens<'_>> = urls.iter().map(|url| self.tokens(url, &http, allowance)).collect();
        let servers: Vec<ConfiguredServer<'_>> = names()
            .zip(&urls)
            .zip(&tokens)
            .map(|((name, url), tokens)| ConfiguredServer { name, url: url.as_str(), tokens })
            .collect();
        let for_links = exchange_for_links(settings);
        let for_links =
            names().zip(&tokens).find(|(name, _)| for_links.is_some_and(|exchange| exchange.server == *name));
        let records = LinkRecords { records: self.records.as_ref(), clock: &SystemClock };
        let link = for_links
            .zip(self.origin.clone())
            .map(|((_, tokens), origin)| LinkServer::new(tokens, allowance, records, origin, time_for_links));
        let requests = ProviderRequests::new(&http, self.cache.as_ref(), &SystemClock, allowance);
        // A port that only root can have needs no `allow_loopback_http`: `LoginSettings::load` refuses all other plain http.
        let motley_cue_settings = HttpSettings { loopback_http: true, ..http_settings.clone() };
        let motley_cue_http = LazyClient::new(&motley_cue_settings);
        let motley_cue = MotleyCueRequests::new(&motley_cue_http, allowance);
        Ok(login(&LoginContext {
            settings,
            issuers: &shared.issuers,
            servers: &servers,
            accounts: &NssAccounts,
            maps: &Maps::load(&settings.rules, self.trust),
            mappers: &HostMappers::new(self.trust, &motley_cue),
            keys: &ProviderKeys::new(&http, self.cache.as_ref(), &SystemClock),
            userinfo: &Userinfo(&requests),
            introspection: &Introspection::new(&requests, self.trust),
            used_tokens: self.used_tokens.as_deref(),
            link: link.as_ref().map(|link| -> &dyn LinkService { link }),
            clock: &SystemClock,
            began,
        }))
    }

    /// Runs `request` with the configured mytoken server called `name`.
    ///
    /// # Errors
    /// When no server has this name, or its URL is not usable.
    pub fn with_server<T>(
        &self,
        shared: &Shared,
        name: &str,
        allowance: &Allowance<'_>,
        request: impl FnOnce(&dyn TokenService) -> T,
    ) -> Result<T, Error> {
        let url = shared.server_url(name)?;
        let http_settings = shared.http_settings();
        let http = LazyClient::new(&http_settings);
        Ok(request(&self.tokens(&url, &http, allowance)))
    }

    fn tokens<'a>(
        &'a self,
        url: &ServerUrl,
        http: &'a LazyClient<'a>,
        allowance: &'a Allowance<'a>,
    ) -> ServerTokens<'a> {
        ServerTokens::new(url.clone(), http, self.cache.as_ref(), &SystemClock, allowance)
    }
}

/// The address that a login comes from, as a person knows it. A name, which PAM may have instead, can be chosen by whoever has the zone of
/// the address.
fn origin(ssh_connection: Option<&str>, rhost: Option<&str>) -> String {
    let peer = ssh_connection.and_then(|text| text.split_ascii_whitespace().next());
    let address = peer.filter(|peer| peer.parse::<std::net::IpAddr>().is_ok());
    address.or(rhost).unwrap_or("this-host").to_owned()
}

/// Identifies a connection by `SSH_CONNECTION` and the process of sshd that serves it. With keyboard-interactive each attempt runs in
/// a child of that process (SSH-01). Without the process, a later connection from the same address and port would count as the same.
fn connection_id(ssh_connection: &str, server: Option<Process>) -> String {
    let process = server.map_or_else(String::new, |server| format!(" {}:{}", server.pid, server.start));
    format!("{ssh_connection}{process}")
}

/// How old a connection is that this process of sshd serves, at `uptime` since boot. sshd starts the process for the connection and counts
/// from then on. `None`: it is not known, or there is no connection, so the time of an attempt counts.
fn connection_age(server: Option<Process>, uptime: Duration) -> Duration {
    server.map_or(Duration::ZERO, |server| server.age(uptime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_has_the_time_that_the_first_one_has_left() {
        // The attempt begins 40 s after the connection.
        let server = Process { pid: 7, start: 6_000 };
        assert_eq!(connection_age(Some(server), Duration::from_secs(100)), Duration::from_secs(40));
        assert_eq!(connection_age(None, Duration::from_secs(100)), Duration::ZERO, "no connection");
        let age = |connection| LoginResources::of_pam(connection, None).connection_age;
        assert!(
            age(Some("192.0.2.7 51234 198.51.100.1 22")) > Duration::ZERO,
            "the process that began this test is older"
        );
        assert_eq!(age(None), Duration::ZERO);
    }

    #[test]
    fn the_time_of_a_link_counts_from_the_begin_of_the_connection() {
        let shared: Shared = toml::from_str("[[server]]\nname = 'mt'\nurl = 'https://mt.example.org'\n").unwrap();
        let settings = "[exchange]\nserver = 'mt'\naccept = ['link']\nscope = 'openid'\naudience = 'x'\n";
        let settings: LoginSettings = toml::from_str(settings).unwrap();
        let mut resources = LoginResources::of_pam(None, None);
        let elapsed = |resources: &LoginResources| {
            let allowance = resources.allowance(&settings.budget);
            let elapsed = |context: &LoginContext<'_>| context.link.map(|link| link.elapsed());
            resources.with_context(&shared, &settings, &allowance, elapsed).unwrap().unwrap()
        };
        assert!(elapsed(&resources) < Duration::from_secs(20), "no connection");
        resources.connection_age = Duration::from_secs(40);
        assert!(elapsed(&resources) >= Duration::from_secs(40));
    }

    #[test]
    fn the_person_sees_the_address_and_no_name_of_its_zone() {
        for (connection, rhost, expected) in [
            (Some("192.0.2.7 51234 198.51.100.1 22"), Some("your-laptop.example.org"), "192.0.2.7"),
            (Some("2001:db8::7 51234 2001:db8::1 22"), None, "2001:db8::7"),
            (Some("UNKNOWN 65535 UNKNOWN 65535"), Some("192.0.2.7"), "192.0.2.7"),
            (None, None, "this-host"),
        ] {
            assert_eq!(origin(connection, rhost), expected, "{connection:?} {rhost:?}");
        }
    }
}
