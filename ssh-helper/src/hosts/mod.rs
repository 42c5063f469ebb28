// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which token each host gets: the rules of `config.toml`, which the user writes, and those of `hosts.toml`, which `mytoken-ssh add` fills.

pub mod add;
mod file;
mod list;
mod offer;

pub use file::HostsFile;
pub use list::run as list;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::other_programs::TokenSource;
use crate::printable::printable;
use crate::settings::read_own;

/// `[[host]]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// The host as the user wrote it, or as ssh resolved it. `*` and `?` as in `ssh_config`.
    pub pattern: String,
    /// Scopes of the login's token; default: the scopes of the stored mytoken.
    pub scope: Option<String>,
    /// Audience of the login's token; default: the audience of the stored mytoken.
    pub audience: Option<String>,
    /// What the host gets.
    pub send: Option<Sent>,
    /// The account of oidc-agent that gives its access tokens, by name or by the URL of its provider.
    pub oidc_agent: Option<String>,
    /// The program that prints its tokens, with arguments.
    pub command: Option<Vec<String>>,
}

/// `send` of `[[host]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Sent {
    /// An access token if the host's audience is known, and a transfer code otherwise or with `--delegate`
    AccessToken,
    /// A transfer code at each login
    TransferCode,
}

impl HostRule {
    /// Whether it stands for several hosts.
    fn is_pattern(&self) -> bool {
        self.pattern.contains(['*', '?'])
    }

    /// Where its tokens come from.
    pub fn source(&self) -> TokenSource {
        let wrong = match (&self.oidc_agent, &self.command, self.send) {
            (None, None, _) => return TokenSource::Mytoken,
            (Some(_), Some(_), _) => "oidc_agent and command: one of them makes the token",
            (Some(account), None, _) if account.is_empty() => "oidc_agent = \"\" names no account",
            (Some(_), None, Some(Sent::TransferCode)) => {
                "oidc_agent gives access tokens, and send wants a transfer code"
            }
            (Some(account), None, _) => return TokenSource::OidcAgent(account.clone()),
            (None, Some(command), _) if command.is_empty() => "command = [] names no program",
            (None, Some(command), _) => return TokenSource::Command(command.clone()),
        };
        TokenSource::Unclear(format!("the [[host]] {} of config.toml or hosts.toml: {wrong}", printable(&self.pattern)))
    }

    /// Whether hosts get the same by it.
    fn gives_as(&self, other: &Self) -> bool {
        let given = |rule: &Self| Self { pattern: String::new(), ..rule.clone() };
        given(self) == given(other)
    }
}

impl Sent {
    /// As it stands in the files.
    pub fn word(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::TransferCode => "transfer_code",
        }
    }
}

/// The rules of both files.
#[derive(Debug, Clone, Default)]
pub struct HostRules {
    /// Those of config.toml. They come first.
    pub configured: Vec<HostRule>,
    /// Those of hosts.toml.
    pub added: Vec<HostRule>,
}

/// `hosts.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Added {
    #[serde(rename = "host")]
    hosts: Vec<HostRule>,
}

impl HostRules {
    /// Those of config.toml, and those of the hosts.toml in `directory`, if there is one.
    pub fn load(configured: Vec<HostRule>, directory: &Path) -> Result<Self, Error> {
        let added: Added = read_own(directory, "hosts")?;
        Ok(Self { configured, added: added.hosts })
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.added.is_empty()
    }

    /// The rule for a destination with these names, the one that the user writes first: the first of config.toml that matches one of them; then
    /// of hosts.toml, for each name in turn, the one with the name itself, and the first that matches it.
    pub fn rule(&self, names: [&str; 2]) -> Option<&HostRule> {
        let matches = |rule: &&HostRule| {
            names.iter().any(|name| matches_pattern(&rule.pattern.to_lowercase(), &name.to_lowercase()))
        };
        let of_name = |name: &&str| {
            let is_name = |rule: &&HostRule| rule.pattern.eq_ignore_ascii_case(name);
            let matches = |rule: &&HostRule| matches_pattern(&rule.pattern.to_lowercase(), &name.to_lowercase());
            self.added.iter().find(is_name).or_else(|| self.added.iter().find(matches))
        };
        self.configured.iter().find(matches).or_else(|| names.iter().find_map(of_name))
    }

    /// The rules with their files, in the order in which they count for a host.
    fn in_order(&self) -> impl Iterator<Item = (&HostRule, &'static str)> {
        let added = |patterns: bool| self.added.iter().filter(move |rule| rule.is_pattern() == patterns);
        let configured = self.configured.iter().map(|rule| (rule, "config.toml"));
        configured.chain(added(false).chain(added(true)).map(|rule| (rule, file::NAME)))
    }

    /// The other rules by which a host gets tokens for this audience.
    fn with_audience<'a>(&'a self, audience: &'a str, pattern: &'a str) -> impl Iterator<Item = &'a HostRule> {
        self.configured.iter().chain(&self.added).filter(move |rule| {
            let audiences = rule.audience.as_deref().unwrap_or_default();
            audiences.split_ascii_whitespace().any(|one| one == audience) && !rule.pattern.eq_ignore_ascii_case(pattern)
        })
    }
}

/// Whether `name` matches `pattern`: `*` matches any text, `?` any character.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = pattern.get(first.len_utf8()..).unwrap_or_default();
    match first {
        '*' => name
            .char_indices()
            .map(|(index, _)| index)
            .chain([name.len()])
            .any(|index| matches_pattern(rest, name.get(index..).unwrap_or_default())),
        _ => match name.chars().next() {
            Some(next) if first == '?' || first == next => {
                matches_pattern(rest, name.get(next.len_utf8()..).unwrap_or_default())
            }
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rule(pattern: &str, audience: &str) -> HostRule {
        let audience = Some(audience.to_owned()).filter(|audience| !audience.is_empty());
        HostRule { pattern: pattern.into(), audience, ..HostRule::default() }
    }

    #[test]
    fn patterns_have_stars_and_question_marks() {
        let table = [
            ("*", "anything", true),
            ("*.cluster.example.org", "login.cluster.example.org", true),
            ("*.cluster.example.org", "cluster.example.org", false),
            ("login?", "login1", true),
            ("login?", "login12", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("", "x", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn one_source_makes_the_token_and_it_can_make_what_is_sent() {
        let account = || Some("cluster".to_owned());
        let command = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
        for (oidc_agent, command, send, expected) in [
            (None, None, Some(Sent::TransferCode), Ok(TokenSource::Mytoken)),
            (account(), None, Some(Sent::AccessToken), Ok(TokenSource::OidcAgent("cluster".into()))),
            (None, command(&["p", "a"]), None, Ok(TokenSource::Command(vec!["p".into(), "a".into()]))),
            (account(), command(&["p"]), None, Err("one of them makes the token")),
            (account(), None, Some(Sent::TransferCode), Err("send wants a transfer code")),
            (None, command(&[]), None, Err("names no program")),
            (Some(String::new()), None, None, Err("names no account")),
        ] {
            let rule = HostRule { oidc_agent, command, send, ..rule("tb", "https://a") };
            let found = rule.source();
            match expected {
                Ok(source) => assert_eq!(found, source),
                Err(told) => {
                    let TokenSource::Unclear(why) = &found else { panic!("{found:?}") };
                    assert!(
                        why.starts_with("the [[host]] tb of config.toml or hosts.toml: ") && why.contains(told),
                        "{why}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_users_rules_come_first_then_the_hosts_own_one_then_patterns() {
        let rules = HostRules {
            configured: vec![rule("tb", "mine"), rule("*.example.org", "second")],
            added: vec![rule("*.example.net", "wide"), rule("Login.Example.NET", "own"), rule("tb", "added")],
        };
        let audience = |names| rules.rule(names).and_then(|rule| rule.audience.clone());
        assert_eq!(audience(["TB", "x.example.org"]).as_deref(), Some("mine"));
        assert_eq!(audience(["y", "x.example.org"]).as_deref(), Some("second"));
        assert_eq!(audience(["l", "login.example.net"]).as_deref(), Some("own"));
        assert_eq!(audience(["l", "other.example.net"]).as_deref(), Some("wide"));
        // What the user writes counts before what ssh makes of it.
        assert_eq!(audience(["a.example.net", "login.example.net"]).as_deref(), Some("wide"));
        assert_eq!(audience(["y", "z"]), None);
        let order: Vec<_> = rules.in_order().map(|(rule, _)| rule.audience.as_deref().unwrap_or_default()).collect();
        assert_eq!(order, ["mine", "second", "own", "added", "wide"]);
        let shared: Vec<_> = rules.with_audience("mine", "TB").chain(rules.with_audience("own", "x")).collect();
        assert_eq!(shared, [&rules.added[1]]);
    }
}
