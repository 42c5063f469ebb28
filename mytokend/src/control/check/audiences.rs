// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about audiences and scopes that cannot fit together.

use mytoken::config::{AudienceClaim, IssuerSettings, Shared};
use mytoken_login::{ExchangeSettings, LoginSettings};

use super::kinds::{self, Kind};
use super::{Findings, Severity};
use crate::jobs::settings::JobsSettings;

impl Findings {
    /// Compares the audiences and scopes of issuers, exchange and profiles.
    pub(super) fn audiences(&mut self, shared: &Shared, login: Option<&LoginSettings>, jobs: Option<&JobsSettings>) {
        for (kind, text) in login.map(|login| of_exchange(shared, login)).unwrap_or_default() {
            self.add_kind(kind, text);
        }
        for (level, text) in login.map(|login| scopes_of_exchange(shared, login)).unwrap_or_default() {
            self.add_kind(Kind { level, ..kinds::EXCHANGE_SCOPE }, text);
        }
        for (profile, text) in jobs.map(|jobs| of_profiles(login, jobs)).unwrap_or_default() {
            // The command of a user who has a mytoken: the agent then says what the provider answered.
            let fix = format!(
                "sbatch -o /dev/null --mytoken={profile} --wrap 'sleep 20' && sleep 10 && mytokenctl status   # as a user: is there an access token?"
            );
            self.add_fixed(kinds::PROFILE_AUDIENCE, text, fix);
        }
    }
}

/// The exchanges whose tokens no issuer accepts, and the issuers that accept the tokens of no exchange.
fn of_exchange(shared: &Shared, login: &LoginSettings) -> Vec<(Kind, String)> {
    let in_use = |issuer: &&IssuerSettings| login.rules.iter().any(|rule| rule.issuer == issuer.name);
    let issuers: Vec<&IssuerSettings> = shared.issuers.iter().filter(in_use).collect();
    let mut found = Vec::new();
    for exchange in login.exchanges.iter().filter(|exchange| !exchange.audience.is_empty()) {
        let accepted = issuers.iter().any(|issuer| accepts(issuer, exchange));
        for issuer in issuers.iter().filter(|issuer| !accepts(issuer, exchange)) {
            let kind = if accepted { kinds::EXCHANGE_AUDIENCE_PARTLY } else { kinds::EXCHANGE_AUDIENCE };
            // Another server may be the one for its mytokens.
            if accepted && login.exchanges.iter().any(|other| accepts(issuer, other)) {
                continue;
            }
            let text = format!(
                "mytokens of \"{}\" from the server \"{}\" cannot log in: its [[exchange]] asks for tokens for {}, \
                 and the issuer's audiences are {}",
                issuer.name,
                exchange.server,
                exchange.audience,
                issuer.audiences.join(" ")
            );
            found.push((kind, text));
        }
    }
    found
}

/// The exchanges that ask for less than an issuer requires. No error: a provider may write other scopes into its tokens than it was asked
/// for. No fault at all if the exchange is right for another issuer: which provider a server is for is not written anywhere.
fn scopes_of_exchange(shared: &Shared, login: &LoginSettings) -> Vec<(Severity, String)> {
    let in_use = |issuer: &&IssuerSettings| login.rules.iter().any(|rule| rule.issuer == issuer.name);
    let missing = |issuer: &IssuerSettings, exchange: &ExchangeSettings| {
        let asked = exchange.scope.as_str();
        // Entra is asked for api://APPLICATION/SCOPE, and writes SCOPE.
        let gives = |asked: &str, scope: &str| {
            asked == scope || asked.strip_suffix(scope).is_some_and(|api| api.ends_with('/'))
        };
        let lacks = |scope: &&String| !asked.is_empty() && !asked.split_whitespace().any(|other| gives(other, scope));
        issuer.required_scopes.iter().find(lacks).cloned()
    };
    let issuers: Vec<&IssuerSettings> = shared.issuers.iter().filter(in_use).collect();
    let mut found = Vec::new();
    for exchange in &login.exchanges {
        let fits = issuers.iter().any(|issuer| missing(issuer, exchange).is_none());
        for (issuer, scope) in issuers.iter().filter_map(|issuer| Some((issuer, missing(issuer, exchange)?))) {
            let other = login.exchanges.iter().any(|other| missing(issuer, other).is_none());
            if fits && other {
                continue;
            }
            let text = format!(
                "mytokens of \"{}\" from the server \"{}\" cannot log in if its tokens have the scopes that they are asked for: its [[exchange]] asks for {}, and the issuer's required_scopes have {scope}",
                issuer.name,
                exchange.server,
                exchange.scope.as_str()
            );
            found.push((if fits { Severity::Ok } else { Severity::Warning }, text));
        }
    }
    found
}

/// Whether the issuer's tokens from this exchange can have an audience that is accepted.
fn accepts(issuer: &IssuerSettings, exchange: &ExchangeSettings) -> bool {
    // What else than `aud` the tokens will have is not known here.
    let only_aud = issuer.audience_claims == [AudienceClaim::Aud];
    let named = exchange.audience.is_empty() || issuer.audiences.contains(&exchange.audience);
    named || !issuer.require_audience || !only_aud
}

/// The profiles of which a file wants another audience than the login, or than the first profile of their server, each with a sentence. No
/// document of a provider or mytoken server says whether one login gives tokens for several audiences (RFC 8707 has no metadata), so this
/// is no mistake before a token is refused.
fn of_profiles<'a>(login: Option<&LoginSettings>, jobs: &'a JobsSettings) -> Vec<(&'a str, String)> {
    let exchange_at = |server: &str| {
        let mut exchanges = login?.exchanges.iter();
        exchanges.find(|exchange| exchange.server == server && !exchange.audience.is_empty())
    };
    let differing = jobs.profile.iter().flat_map(|profile| {
        let name = profile.name.as_str();
        let (expected, whose) = match exchange_at(&profile.server) {
            Some(exchange) => (&exchange.audience, "logins".to_owned()),
            None => {
                let first = jobs.profile.iter().find(|first| first.server == profile.server).unwrap_or(profile);
                (&first.audience, format!("the profile \"{}\"", first.name))
            }
        };
        let further = profile.files.iter().map(|file| (format!(" in the file \"{}\"", file.name), &file.audience));
        let audiences = std::iter::once((String::new(), &profile.audience)).chain(further);
        audiences.filter(move |(_, audience)| *audience != expected).map(move |(place, audience)| {
            let text = format!(
                "jobs with the profile \"{name}\" want tokens for {audience}{place}, {whose} for {expected}: this works if the provider gives one login tokens for both, which none of its documents tells"
            );
            (name, text)
        })
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile for each audience. `A+B` is one with a further file for B.
    fn ids(shared: &str, login: &str, jobs: &str) -> Vec<String> {
        let issuer = |name: &str| format!("[[issuer]]\nname = '{name}'\nurl = 'https://{name}.example.org'\n");
        let shared = shared.replace("ONE", &issuer("one")).replace("TWO", &issuer("two"));
        let rule = |name: &str| format!("[[rule]]\nname = '{name}'\nissuer = '{name}'\ntemplate = '{{sub}}'\n");
        let login = login.replace("ONE", &rule("one")).replace("TWO", &rule("two"));
        let profiles: String = jobs
            .split_whitespace()
            .map(|audiences| {
                let (main, file) = audiences.split_once('+').unwrap_or((audiences, ""));
                let file = format!("files = [{{ name = 'ce', scope = 's', audience = '{file}' }}]\n");
                let files = if audiences == main { "" } else { &file };
                format!("[[profile]]\nname = '{main}'\nserver = 't'\nscope = 's'\naudience = '{main}'\n{files}")
            })
            .collect();
        let jobs = format!("[cluster]\nname = 'c'\n{profiles}");
        let mut findings = Findings::default();
        let login: LoginSettings = toml::from_str(&login).unwrap();
        findings.audiences(&toml::from_str(&shared).unwrap(), Some(&login), Some(&toml::from_str(&jobs).unwrap()));
        // What cannot be known is no problem.
        assert!(findings.problems().all(|finding| finding.id.as_deref() != Some(kinds::PROFILE_AUDIENCE.id)));
        findings.findings.iter().map(|finding| finding.id.clone().unwrap()).collect()
    }

    #[test]
    fn an_exchange_that_fits_another_issuer_is_no_fault() {
        let exchange = "[exchange]\nserver = 't'\nscope = 's'\n";
        let levels = |shared: &str, rules: &str| {
            let issuer = |name: &str| format!("[[issuer]]\nname = '{name}'\nurl = 'https://{name}.example.org'\n");
            let rule = |name: &str| format!("[[rule]]\nname = '{name}'\nissuer = '{name}'\ntemplate = '{{sub}}'\n");
            let shared = shared.replace("ONE", &issuer("one")).replace("TWO", &issuer("two"));
            let rules = rules.replace("ONE", &rule("one")).replace("TWO", &rule("two"));
            let login = toml::from_str(&format!("{exchange}{rules}")).unwrap();
            let found = scopes_of_exchange(&toml::from_str(&shared).unwrap(), &login);
            found.into_iter().map(|(level, _)| level).collect::<Vec<_>>()
        };
        let issuers = "ONErequired_scopes = ['login']\nTWOaudiences = ['A']\n";
        assert_eq!(levels(issuers, "ONETWO"), [Severity::Ok]);
        assert_eq!(levels(issuers, "ONE"), [Severity::Warning]);
    }

    #[test]
    fn scopes_that_cannot_fit_are_found() {
        let exchange = |scope: &str| format!("[exchange]\nserver = 't'\nscope = '{scope}'\n");
        let both = "ONErequired_scopes = ['s', 'login']\nTWOaudiences = ['A']\n";
        for (shared, scope, rules, expected) in [
            ("ONErequired_scopes = ['s', 'login']", "login s more", "ONE", &[][..]),
            ("ONErequired_scopes = ['s', 'login']", "", "ONE", &[]),
            ("ONErequired_scopes = ['s', 'login']", "s", "ONE", &["exchange-scope"]),
            ("ONErequired_scopes = ['s', 'login']", "s log", "ONE", &["exchange-scope"]),
            ("ONErequired_scopes = ['login']", "api://5e6f/login openid", "ONE", &[]),
            ("ONErequired_scopes = ['login']", "api://5e6f/slogin", "ONE", &["exchange-scope"]),
            ("ONE", "s", "ONE", &[]),
            (both, "s", "ONETWO", &["exchange-scope"]),
            (both, "s", "TWO", &[]),
        ] {
            assert_eq!(ids(shared, &format!("{}{rules}", exchange(scope)), ""), expected, "{shared} {scope} {rules}");
        }
        // The mytokens of each issuer have a server whose exchange fits.
        let second = "[[exchange]]\nserver = 'u'\naccept = ['mytoken']\nscope = 'login s'\n";
        let exchanges = format!("{}{second}", exchange("s").replace("[exchange]", "[[exchange]]"));
        assert_eq!(ids(both, &format!("{exchanges}ONETWO"), ""), [""; 0]);
        assert_eq!(ids(both, &format!("{exchanges}ONE"), ""), ["exchange-scope"], "none fits the first server");
    }

    #[test]
    fn audiences_that_cannot_fit_are_found() {
        let exchange = "[exchange]\nserver = 't'\naudience = 'A'\n";
        let both = "ONEaudiences = ['A']\nTWOaudiences = ['B']";
        for (shared, rules, jobs, expected) in [
            ("ONEaudiences = ['B', 'A']", "ONE", "A", &[][..]),
            ("ONEaudiences = ['B']", "ONE", "A", &["exchange-audience"]),
            ("ONErequire_audience = false", "ONE", "A", &[]),
            ("ONEaudiences = ['B']\naudience_claims = ['aud', 'azp']", "ONE", "A", &[]),
            (both, "ONE", "A", &[]),
            (both, "ONE TWO", "A", &["exchange-audience-issuer"]),
            ("ONEaudiences = ['A']", "ONE", "A B", &["profile-audience"]),
            ("ONEaudiences = ['A']", "ONE", "A+A", &[]),
            ("ONEaudiences = ['A']", "ONE", "A+B", &["profile-audience"]),
            ("ONEaudiences = ['A']", "ONE", "B+A", &["profile-audience"]),
        ] {
            let rules = rules.replace(' ', "");
            assert_eq!(ids(shared, &format!("{exchange}{rules}"), jobs), expected, "{shared} {rules} {jobs}");
        }
        // With two servers.
        let second = "[[exchange]]\nserver = 'u'\naccept = ['mytoken']\naudience = 'B'\n";
        let exchanges = format!("[{}{second}", exchange.replace("]\n", "]]\n"));
        for (shared, rules, jobs, expected) in [
            (both, "ONETWO", "A", &[][..]),
            ("ONEaudiences = ['A']", "ONE", "A", &["exchange-audience"]),
            (
                "ONEaudiences = ['A']\nTWOaudiences = ['C']",
                "ONETWO",
                "A",
                &["exchange-audience-issuer", "exchange-audience", "exchange-audience"],
            ),
            (both, "ONETWO", "A B", &["profile-audience"]),
        ] {
            assert_eq!(ids(shared, &format!("{exchanges}{rules}"), jobs), expected, "{shared} {rules} {jobs}");
        }
        assert_eq!(ids("ONEaudiences = ['B']", "ONE", "A A2 B"), ["profile-audience", "profile-audience"]);
        assert_eq!(ids("ONEaudiences = ['B']", "ONE", "A+A A2+A"), ["profile-audience"]);
        assert_eq!(ids("ONEaudiences = ['B']", "ONE", "A+B A2"), ["profile-audience", "profile-audience"]);
        assert_eq!(ids("ONEaudiences = ['B']", "[exchange]\nserver = 't'\nONE", "A"), Vec::<String>::new());
    }
}
