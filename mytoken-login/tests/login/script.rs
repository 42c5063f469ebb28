// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form of a login script.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub case: Vec<Case>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    pub about: String,
    pub options: Options,
    pub run: Vec<Run>,
    pub prompt: Vec<Prompt>,
    /// What the user sees.
    pub messages: Vec<String>,
    pub log: Vec<Log>,
    pub http: Http,
    pub server: Server,
    pub provider: Provider,
    pub link: Option<Link>,
    pub tokens: BTreeMap<String, Token>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    pub login: String,
    pub user: String,
    pub service: String,
    pub debug: bool,
    /// Whether the issuer's keys must be fetched.
    pub cold: bool,
    pub keys_unavailable: bool,
    /// Lines of `[[issuer]]`.
    pub issuer: String,
    /// What each mapper answers, see `mapper_answer`.
    pub mapper: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            login: "one-issuer.toml".into(),
            user: "alice".into(),
            service: "sshd".into(),
            debug: false,
            cold: false,
            keys_unavailable: false,
            issuer: String::new(),
            mapper: "account".into(),
        }
    }
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub phase: String,
    pub expect: String,
    /// Of an accepted login with a mytoken: whether the mytoken is delegated to the session.
    #[serde(default)]
    pub delegated: Option<bool>,
    /// Whether an accepted login has something for its session.
    #[serde(default = "yes")]
    pub record: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    pub text: String,
    pub answer: String,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub matches: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub requests: Vec<String>,
}

/// The access token of a server whose provider gives opaque ones.
pub const OPAQUE_TOKEN: &str = "opaque-access-token-0123456789";

/// How the mytoken server behaves.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The name of its answer, instead of an access token.
    pub answers: Option<String>,
    /// The name of its answer to a revocation.
    pub revokes: Option<String>,
    /// Changes to the claims of its access token.
    pub access_token: toml::Table,
    /// Whether its access token is opaque.
    pub opaque: bool,
    /// Changes to the claims of the mytoken of the transfer code.
    pub mytoken: toml::Table,
}

/// What the provider answers about a token.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    pub userinfo: Option<toml::Table>,
    pub introspection: Option<toml::Table>,
}

/// A login with a link. Its person takes 20 s for each answer.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Why no link is made: `the account`, `the address`, `no answer`.
    #[serde(default)]
    pub refused: Option<String>,
    /// Whether the person has thought for long before the first Enter.
    #[serde(default)]
    pub late: bool,
    /// The answers to polls: `pending`, `declined`, `over`, `confirmed`.
    #[serde(default)]
    pub polls: Vec<String>,
    /// The capabilities of the confirmed mytoken.
    #[serde(default = "at")]
    pub capabilities: Vec<String>,
    /// Its addresses.
    #[serde(default = "address")]
    pub hosts: Vec<String>,
    /// Whether something of the login is left for the agent to revoke.
    #[serde(default)]
    pub left: bool,
}

fn at() -> Vec<String> {
    vec!["AT".to_owned()]
}

fn address() -> Vec<String> {
    vec!["192.0.2.1".to_owned()]
}

/// A token of the script, by name.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Token {
    #[serde(default)]
    pub header: Option<String>,
    #[serde(default = "ec")]
    pub key: String,
    #[serde(default)]
    pub claims: toml::Table,
    #[serde(default)]
    pub without: Vec<String>,
    #[serde(default)]
    pub mytoken: bool,
    /// Number of bytes that are added, in its claim `name`.
    #[serde(default)]
    pub pad: usize,
}

fn ec() -> String {
    "ec".to_owned()
}
