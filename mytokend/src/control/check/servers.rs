// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about mytoken servers, and what they share with those about issuers: certificates, the proxy, clocks.

use std::time::{Duration, SystemTime};

use mytoken::config::{IssuerSettings, ServerSettings, Shared};
use mytoken::http::{AnswerHead, HttpClient, HttpError};
use mytoken::server::{Server, ServerError};
use mytoken::{Deadline, Error};
use mytoken_login::LoginSettings;

use super::configuration::word;
use super::kinds::{self, Kind};
use super::offers::Configured;
use super::request_limit::{ServerLimit, set_too_high};
use super::{Findings, Severity};
use crate::jobs::settings::JobsSettings;

const PART: &str = "mytoken server";

/// Time limit for the requests to one server.
pub(super) const NETWORK: Duration = Duration::from_secs(10);

/// Difference of two clocks in seconds above which tokens expire early or become valid late. MT-08: the server allows no leeway.
const SKEW: u64 = 10;

impl Findings {
    /// Asks each server and each issuer for its discovery document. Returns what servers say of their limits.
    pub(super) fn network(
        &mut self,
        shared: &Shared,
        login: Option<&LoginSettings>,
        jobs: Option<&JobsSettings>,
    ) -> Vec<ServerLimit> {
        let Some(http) = self.http(shared) else { return Vec::new() };
        if shared.servers.is_empty() {
            self.ok(PART, "none is configured; logins accept access tokens only");
        }
        for issuer in &shared.issuers {
            self.issuer(&http, shared, issuer, login);
        }
        // An issuer with a wrong URL is unknown to the server, too: that is one mistake.
        let issuers_answer = !self
            .problems()
            .any(|finding| finding.part == kinds::ISSUER_ADDRESS.part && finding.level == Severity::Error);
        let login_of = |server| login.filter(|login| uses(login, server));
        shared
            .servers
            .iter()
            .filter_map(|server| {
                let configured = Configured { server, shared, login: login_of(server), jobs };
                self.server(&http, configured, issuers_answer)
            })
            .collect()
    }

    /// The client for all requests of logins and jobs. Nothing is sent.
    pub(super) fn http(&mut self, shared: &Shared) -> Option<HttpClient> {
        match HttpClient::new(&shared.http_settings()) {
            Ok(http) => return Some(http),
            Err(error @ HttpError::Roots { .. }) => {
                let own = shared.http.ca_file.as_ref().map(|file| {
                    let name = word(&file.to_string_lossy());
                    match file.is_file() {
                        true => format!("openssl storeutl -noout -certs {name}   # it must hold certificates in PEM"),
                        false => format!("namei -l {name}"),
                    }
                });
                let fix = own.unwrap_or_else(|| self.package_tool.fix(kinds::CA_FILE).into_owned());
                self.add_fixed(kinds::CA_FILE, error.to_string(), fix);
            }
            Err(error) => self.add_kind(kinds::HTTP_SETTINGS, error.to_string()),
        }
        None
    }

    /// Asks a server. Returns its limit, if it has one.
    fn server(&mut self, http: &HttpClient, configured: Configured<'_>, issuers_answer: bool) -> Option<ServerLimit> {
        let Configured { server: named, shared, login, .. } = configured;
        let found = shared
            .server_url(&named.name)
            .map_err(Error::from)
            .and_then(|url| Server::discover(http, &url, Deadline::after(NETWORK)));
        let curl = || curl(shared, &format!("{}/.well-known/mytoken-configuration", named.url.trim_end_matches('/')));
        let server = match found {
            Ok(server) => server,
            Err(Error::Http(error)) => {
                let kinds = (kinds::SERVER_UNAVAILABLE, kinds::SERVER_CERTIFICATE);
                self.no_answer(kinds, "", &error, &named.url, curl());
                return None;
            }
            Err(error) => {
                let kind = match &error {
                    Error::Server(ServerError::ForeignIssuer { .. }) => kinds::SERVER_FOREIGN,
                    Error::Server(ServerError::TooManyRequests { .. }) => {
                        self.add_kind(kinds::SERVER_BUSY, error.to_string());
                        return None;
                    }
                    Error::Server(ServerError::Failed { .. }) => kinds::SERVER_UNAVAILABLE,
                    _ => kinds::SERVER_ADDRESS,
                };
                self.add_fixed(kind, error.to_string(), curl());
                return None;
            }
        };
        let before = self.findings.len();
        self.clock(&named.url, server.head(), SKEW);
        if let Some(text) = server.head().request_limit.and_then(|limit| set_too_high(named, limit)) {
            self.add_kind(kinds::SERVER_LIMIT_SET, text);
        }
        if let Some(login) = login {
            let known = |issuer: &&IssuerSettings| {
                server.discovery().providers_supported.iter().any(|provider| issuer.is(&provider.issuer))
            };
            if let Some(text) = unknown_providers(shared, login, known).filter(|_| issuers_answer) {
                self.add_fixed(kinds::SERVER_PROVIDER, format!("{} {text}", named.url), curl());
            }
            let limit = server.head().request_limit.map(|limit| limit.requests);
            if let Some(limit) = limit.filter(|limit| login.budget.per_host as u64 >= *limit) {
                let text = format!(
                    "{} accepts {limit} requests from one address, and refused logins on this host may send {}",
                    named.url, login.budget.per_host
                );
                self.add_kind(kinds::SERVER_LIMIT, text);
            }
        }
        self.offers(&server, configured, &curl());
        if self.findings.len() == before {
            let release = server.discovery().version.as_ref().map(|version| format!(" {version}"));
            let limit = server.head().request_limit.map(|limit| {
                format!(
                    ", accepts {} requests from this address in its period, {} are left",
                    limit.requests, limit.left
                )
            });
            self.ok(PART, format!("{}{}{}", named.url, release.unwrap_or_default(), limit.unwrap_or_default()));
        }
        let requests = server.head().request_limit?.requests;
        Some(ServerLimit { name: named.name.clone(), url: named.url.clone(), requests })
    }

    /// Adds the finding about a host that gave no answer. `kinds`: for the network, and for its certificate.
    pub(super) fn no_answer(&mut self, kinds: (Kind, Kind), who: &str, error: &HttpError, url: &str, curl: String) {
        let text = format!("{who}{error}");
        match error {
            HttpError::Certificate { .. } => self.add_fixed(kinds.1, text, show_certificate(url)),
            // One proxy is one finding.
            HttpError::Proxy { .. } if self.has(kinds::PROXY) => {}
            HttpError::Proxy { .. } => self.add_kind(kinds::PROXY, error.to_string()),
            _ => self.add_fixed(kinds.0, text, curl),
        }
    }

    /// Compares the clock of a server with ours. `most`: the difference in seconds that does no harm.
    pub(super) fn clock(&mut self, url: &str, head: AnswerHead, most: u64) {
        let Some(date) = head.date else { return };
        let ahead = seconds_ahead(date, SystemTime::now());
        if ahead.unsigned_abs() > most {
            let (seconds, direction) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
            let text = format!("the clock of {url} is {seconds} s {direction} this host's; up to {most} s do no harm");
            self.add_kind(kinds::CLOCK, text);
        }
    }
}

/// By how many seconds `server` is ahead of `here`.
fn seconds_ahead(server: SystemTime, here: SystemTime) -> i64 {
    let seconds = |difference: Duration| i64::try_from(difference.as_secs()).unwrap_or(i64::MAX);
    match server.duration_since(here) {
        Ok(ahead) => seconds(ahead),
        Err(error) => -seconds(error.duration()),
    }
}

pub(super) fn uses(login: &LoginSettings, server: &ServerSettings) -> bool {
    login.exchanges.iter().any(|exchange| exchange.server == server.name)
}

/// The issuers whose tokens log in.
pub(super) fn issuers_of_rules<'s>(shared: &'s Shared, login: &LoginSettings) -> Vec<&'s IssuerSettings> {
    let in_use = |issuer: &&IssuerSettings| login.rules.iter().any(|rule| rule.issuer == issuer.name);
    shared.issuers.iter().filter(in_use).collect()
}

/// Tells that a server knows no issuer of the rules: then no mytoken of it can log in.
fn unknown_providers(
    shared: &Shared,
    login: &LoginSettings,
    known: impl Fn(&&IssuerSettings) -> bool,
) -> Option<String> {
    let issuers = issuers_of_rules(shared, login);
    let urls: Vec<&str> = issuers.iter().map(|issuer| issuer.url.as_str()).collect();
    (!issuers.is_empty() && !issuers.iter().any(known))
        .then(|| format!("has no provider of the rules in login.toml: no mytoken logs in ({})", urls.join(" ")))
}

/// The command that shows a document as we get it.
pub(super) fn curl(shared: &Shared, url: &str) -> String {
    let ca = shared.http.ca_file.as_ref().map(|file| format!(" --cacert {}", word(&file.to_string_lossy())));
    // A proxy's password must not appear on the screen.
    let proxy = Some(shared.http.proxy.as_str()).filter(|proxy| !proxy.is_empty() && !proxy.contains('@'));
    let proxy = proxy.map(|proxy| format!(" --proxy {}", word(proxy)));
    format!("curl -v{}{} {}", ca.unwrap_or_default(), proxy.unwrap_or_default(), word(url))
}

/// The command that shows the certificate of the host in this URL.
fn show_certificate(url: &str) -> String {
    let host = url.split("//").nth(1).unwrap_or(url).split('/').next().unwrap_or_default();
    let port = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) { "" } else { ":443" };
    let target = word(&format!("{host}{port}"));
    format!("openssl s_client -connect {target} </dev/null | openssl x509 -noout -issuer -dates -ext subjectAltName")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_in_both_directions() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(seconds_ahead(now + Duration::from_secs(30), now), 30);
        assert_eq!(seconds_ahead(now, now + Duration::from_secs(30)), -30);
        for (ahead, found) in [(60_i64, true), (-60, true), (3, false), (-3, false)] {
            let mut findings = Findings::default();
            let here = SystemTime::now();
            let date = if ahead > 0 {
                here + Duration::from_secs(ahead.unsigned_abs())
            } else {
                here - Duration::from_secs(ahead.unsigned_abs())
            };
            findings.clock("https://mt", AnswerHead { date: Some(date), ..AnswerHead::default() }, SKEW);
            assert_eq!(findings.has(kinds::CLOCK), found, "{ahead}");
        }
    }

    #[test]
    fn the_commands_contain_what_they_need_and_no_password() {
        let read =
            |proxy: &str| toml::from_str(&format!("[http]\nca_file = '/etc/ca.pem'\nproxy = '{proxy}'")).unwrap();
        let url = "https://mt.example.org:8443/x";
        let shown = curl(&read("http://proxy:3128"), url);
        assert_eq!(shown, "curl -v --cacert /etc/ca.pem --proxy http://proxy:3128 https://mt.example.org:8443/x");
        assert!(!curl(&read("http://me:hush@proxy:3128"), url).contains("hush"));
        assert!(show_certificate(url).contains("-connect mt.example.org:8443 "));
        assert!(show_certificate("https://mt.example.org").contains("-connect mt.example.org:443 "));
    }

    #[test]
    fn a_server_must_know_a_provider_of_the_rules() {
        let issuer = |name: &str| {
            format!("[[issuer]]\nname = '{name}'\nurl = 'https://{name}.example.org'\nrequire_audience = false\n")
        };
        let shared: Shared = toml::from_str(&format!("{}{}", issuer("one"), issuer("two"))).unwrap();
        let rules = |names: &[&str]| -> LoginSettings {
            let rule = |name: &&str| format!("[[rule]]\nname = 'r'\nissuer = '{name}'\ntemplate = '{{sub}}'\n");
            toml::from_str(&names.iter().map(rule).collect::<String>()).unwrap()
        };
        let known = |issuer: &&IssuerSettings| issuer.name == "one";
        assert!(unknown_providers(&shared, &rules(&["two"]), known).is_some());
        assert_eq!(unknown_providers(&shared, &rules(&["one", "two"]), known), None);
        assert_eq!(unknown_providers(&shared, &rules(&[]), known), None);
    }
}
