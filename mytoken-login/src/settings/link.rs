// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[link]` of `login.toml`.

use mytoken::config::{Duration, IssuerSettings, Mistake};
use mytoken::restrictions::hosts::{HostEntry, read};
use serde::Deserialize;

/// `[link]`: logins with a link, for people without a token. Off unless `accept` of one `[[exchange]]` names `link`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSettings {
    /// Name of the `[[issuer]]` at which the person logs in. Empty: the only one.
    pub issuer: String,
    /// Addresses and networks from which the mytoken can be used. `this` is the address that the server sees.
    pub hosts: Vec<String>,
    /// How long the mytoken is valid.
    pub lifetime: Duration,
    /// Whether the mytoken may create sub-tokens, for jobs.
    pub create_mytoken: bool,
    /// How long the person has to confirm, from the begin of the login on; over ssh, of the connection.
    pub time: Duration,
    /// When the QR code is shown.
    pub qr: LinkQr,
}

/// When the QR code of a link is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkQr {
    /// With the link.
    Always,
    /// When the person asks for it.
    OnRequest,
    /// Never.
    Never,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            hosts: vec!["this".to_owned()],
            lifetime: Duration::seconds(8 * 3_600),
            create_mytoken: false,
            // With one request and the default of `deadline` as long as sshd's default `LoginGraceTime` (SSH-10).
            time: Duration::seconds(90),
            qr: LinkQr::Always,
        }
    }
}

impl LinkSettings {
    /// The issuer at which the person logs in.
    pub(crate) fn issuer<'a>(&self, issuers: &'a [IssuerSettings]) -> Option<&'a IssuerSettings> {
        match issuers {
            [only] if self.issuer.is_empty() => Some(only),
            _ => issuers.iter().find(|issuer| issuer.name == self.issuer),
        }
    }

    /// What is wrong with the keys, if logins with a link are accepted.
    pub(super) fn problem(&self, issuers: &[IssuerSettings]) -> Option<Mistake> {
        if self.issuer(issuers).is_none() {
            let predicate = if self.issuer.is_empty() {
                "is missing: there is not exactly one [[issuer]], so name the one at which people log in".to_owned()
            } else {
                format!("\"{}\" is not an [[issuer]] of mytoken.toml", self.issuer)
            };
            return Some(Mistake::key_that("link.issuer", &predicate));
        }
        // The server looks names up backwards, so whoever has the zone of an address would pass. Without an entry the mytoken works
        // everywhere.
        let is_address = |entry: &String| entry == "this" || !matches!(read(entry), HostEntry::Name);
        if self.hosts.is_empty() || !self.hosts.iter().all(is_address) {
            return Some(Mistake::key_that("link.hosts", "must name addresses, networks or \"this\", at least one"));
        }
        if !(10..=300).contains(&self.time.as_secs()) {
            let predicate = "must be between \"10s\" and \"300s\", the time for which a link is valid";
            return Some(Mistake::key_that("link.time", predicate));
        }
        (!(60..=30 * 86_400).contains(&self.lifetime.as_secs()))
            .then(|| Mistake::key_that("link.lifetime", "must be between \"1m\" and \"30d\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuers(names: &[&str]) -> Vec<IssuerSettings> {
        let table = |name: &&str| format!("name = '{name}'\nurl = 'https://{name}.example.org'\naudiences = ['a']");
        names.iter().map(|name| toml::from_str(&table(name)).unwrap()).collect()
    }

    #[test]
    fn keys_that_cannot_work_are_told() {
        let one = issuers(&["op"]);
        for (text, part) in [
            ("", None),
            ("issuer = 'op'\nhosts = ['this', '192.0.2.0/24', '2001:db8::1']\ntime = '300s'\nqr = 'on_request'", None),
            ("issuer = 'egi'", Some("link.issuer \"egi\" is not")),
            ("hosts = []", Some("link.hosts")),
            ("hosts = ['login.example.org']", Some("link.hosts")),
            ("hosts = ['0.0.0.0/0']", Some("link.hosts")),
            ("time = '9s'", Some("link.time")),
            ("time = '301s'", Some("link.time")),
            ("lifetime = '59s'", Some("link.lifetime")),
            ("lifetime = '31d'", Some("link.lifetime")),
        ] {
            let problem = toml::from_str::<LinkSettings>(text).unwrap().problem(&one);
            assert_eq!(problem.is_some(), part.is_some(), "{text}: {problem:?}");
            assert!(part.is_none_or(|part| problem.is_some_and(|mistake| mistake.problem.contains(part))), "{text}");
        }
    }

    #[test]
    fn several_issuers_need_a_choice() {
        let two = issuers(&["op", "egi"]);
        let problem = LinkSettings::default().problem(&two).unwrap().problem;
        assert!(problem.contains("not exactly one [[issuer]]"), "{problem}");
        let chosen = LinkSettings { issuer: "egi".into(), ..LinkSettings::default() };
        assert_eq!((chosen.problem(&two), chosen.issuer(&two)), (None, two.last()));
    }
}
