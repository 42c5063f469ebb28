// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `login.toml` holds.

use std::path::{Path, PathBuf};

use mytoken::config::{ConfigError, Duration, FileTrust, Shared, invalid, peek_list, read};
use serde::Deserialize;

use super::Template;
use super::budget::BudgetSettings;
use crate::account_name::NameForm;

/// The whole of `login.toml`. Its default accepts nobody: there is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSettings {
    /// PAM services (`sshd`) for which the module works. For all others it is as if it were not there: the environment of `su` and
    /// `sudo` belongs to the caller.
    pub services: Vec<String>,
    /// Time for a whole login, exchange and verification included.
    pub deadline: Duration,
    /// A refusal is not answered earlier than this after the prompt was answered, so that its time tells nothing.
    pub fail_delay: Duration,
    /// What logins may ask of the mytoken server before anybody has vouched for them.
    pub budget: BudgetSettings,
    /// The question.
    pub prompt: PromptSettings,
    /// Accounts that can be logged in to at all.
    pub accounts: AccountSettings,
    /// How mytokens, short tokens and transfer codes become access tokens; absent: only access tokens are accepted.
    pub exchange: Option<ExchangeSettings>,
    /// What a login leaves for the session.
    pub session: SessionSettings,
    /// Which identity may use which account, in order.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            services: vec!["sshd".to_owned()],
            deadline: Duration::seconds(20),
            fail_delay: Duration::seconds(2),
            budget: BudgetSettings::default(),
            prompt: PromptSettings::default(),
            accounts: AccountSettings::default(),
            exchange: None,
            session: SessionSettings::default(),
            rules: Vec::new(),
        }
    }
}

impl LoginSettings {
    /// Reads `DIR/login.toml` and its drop-ins and checks that the names in it exist in `shared`. Map files are read by
    /// [`crate::Maps`]: one that cannot be used concerns only the rules that need it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(dir: &Path, trust: FileTrust, shared: &Shared) -> Result<Self, ConfigError> {
        let login: Self = read(dir, "login", trust)?;
        let wrong = |problem: String| Err(invalid(dir, "login", problem));
        if let Some(exchange) = login.exchange.as_ref().filter(|exchange| shared.server(&exchange.server).is_none()) {
            return wrong(format!(
                "exchange.server is \"{}\", which is no [[server]] of mytoken.toml",
                exchange.server
            ));
        }
        for rule in &login.rules {
            if !shared.issuers.iter().any(|issuer| issuer.name == rule.issuer) {
                return wrong(format!(
                    "rule \"{}\": issuer \"{}\" is no [[issuer]] of mytoken.toml",
                    rule.name, rule.issuer
                ));
            }
        }
        Ok(login)
    }

    /// `services` of `DIR/login.toml`, also when something is wrong in the configuration: a mistake must not concern the logins of
    /// services that are not listed. `sshd` when the list itself cannot be read.
    #[must_use]
    pub fn services_in(dir: &Path, trust: FileTrust) -> Vec<String> {
        peek_list(dir, "login", trust, "services").unwrap_or_else(|| Self::default().services)
    }
}

/// `[prompt]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSettings {
    /// The prompt; helpers recognise it, so it is the same for everybody.
    pub text: String,
    /// Whether an answer may come in pieces, `@i/n:...`: OpenSSH's client sends 1023 bytes at most.
    pub chunks: bool,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self { text: "Access Token:".to_owned(), chunks: true }
    }
}

/// `[accounts]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountSettings {
    /// Accounts with a lower uid are the system's.
    pub min_uid: u32,
    /// Accounts that no rule can open.
    pub deny: Vec<String>,
    /// System accounts (uid 0 included) that a rule may open. `deny` comes first.
    pub allow_system: Vec<String>,
    /// Which names a template may give. Map files may name any account that NSS knows: root wrote the name there.
    pub names: NameForm,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self { min_uid: 1_000, deny: vec!["root".to_owned()], allow_system: Vec::new(), names: NameForm::Posix }
    }
}

/// `[exchange]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeSettings {
    /// Name of a `[[server]]`. Nothing is ever sent to a server that a token names.
    pub server: String,
    /// What may be exchanged.
    #[serde(default = "everything")]
    pub accept: Vec<Exchangeable>,
    /// Scopes of the access token, separated by single blanks; empty: what the mytoken's clause says.
    #[serde(default)]
    pub scope: String,
    /// Audience of the access token; empty: none asked for.
    #[serde(default)]
    pub audience: String,
}

/// What can be exchanged for an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exchangeable {
    /// A mytoken as JWT.
    Mytoken,
    /// A short token.
    ShortToken,
    /// A transfer code.
    TransferCode,
}

fn everything() -> Vec<Exchangeable> {
    vec![Exchangeable::Mytoken, Exchangeable::ShortToken, Exchangeable::TransferCode]
}

/// `[session]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// Leave the access token in a file, `BEARER_TOKEN_FILE`.
    pub access_token: bool,
    /// Whether a mytoken is left as well, `MYTOKEN_FILE`.
    pub mytoken: SessionMytoken,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { access_token: true, mytoken: SessionMytoken::Delegated }
    }
}

/// When a session gets a mytoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMytoken {
    /// When a transfer code brought one that may create sub-tokens: then the person wanted it there.
    Delegated,
    /// Never.
    Never,
}

/// `[[rule]]`: which identities of an issuer may use which account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RuleTable")]
pub struct Rule {
    /// For logs and explanations.
    pub name: String,
    /// Name of an `[[issuer]]`.
    pub issuer: String,
    /// How an identity becomes an account.
    pub mapping: Mapping,
    /// Groups (claim `groups`) that the identity must have, all of them.
    pub require_groups: Vec<String>,
    /// Entitlements (`entitlements`, `eduperson_entitlement`) that it must have, all of them, byte for byte.
    pub require_entitlements: Vec<String>,
    /// Scopes that the access token must have, all of them.
    pub require_scopes: Vec<String>,
}

/// How an identity becomes an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// Claims filled into a text.
    Template(Template),
    /// A map file, see [`super::MapFile`].
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: String,
    issuer: String,
    template: Option<Template>,
    map_file: Option<PathBuf>,
    #[serde(default)]
    require_groups: Vec<String>,
    #[serde(default)]
    require_entitlements: Vec<String>,
    #[serde(default)]
    require_scopes: Vec<String>,
}

impl TryFrom<RuleTable> for Rule {
    type Error = String;

    fn try_from(table: RuleTable) -> Result<Self, String> {
        let mapping = match (table.template, table.map_file) {
            (Some(template), None) => Mapping::Template(template),
            (None, Some(path)) if path.is_absolute() => Mapping::File(path),
            (None, Some(path)) => return Err(format!("map_file \"{}\" is no absolute path", path.display())),
            _ => return Err(format!("rule \"{}\" needs either template or map_file", table.name)),
        };
        Ok(Self {
            name: table.name,
            issuer: table.issuer,
            mapping,
            require_groups: table.require_groups,
            require_entitlements: table.require_entitlements,
            require_scopes: table.require_scopes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_safe_default() {
        let settings: LoginSettings = toml::from_str("").unwrap();
        assert_eq!(settings, LoginSettings::default());
        assert!(settings.rules.is_empty() && settings.exchange.is_none());
    }

    #[test]
    fn a_rule_maps_in_one_way() {
        let rule = |lines: &str| toml::from_str::<Rule>(&format!("name = 'a'\nissuer = 'op'\n{lines}"));
        assert!(rule("template = '{sub}'").is_ok());
        assert!(rule("map_file = '/etc/mytoken/users.map'").is_ok());
        for lines in [
            "",
            "template = '{sub}'\nmap_file = '/x'",
            "map_file = 'x'",
            "template = 'alice'",
            "template = '{sub}'\nrequire_group = []",
        ] {
            assert!(rule(lines).is_err(), "{lines}");
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let text = r#"
            services = ["sshd"]
            deadline = "20s"
            fail_delay = "2s"
            [budget]
            per_address = 15
            per_host = 60
            window = "300s"
            [prompt]
            text = "Access Token:"
            chunks = true
            [accounts]
            min_uid = 1000
            deny = ["root"]
            allow_system = []
            names = "posix"
            [exchange]
            server = "testbed"
            accept = ["mytoken", "short_token", "transfer_code"]
            scope = "openid profile storage.read"
            audience = "https://testbed"
            [session]
            access_token = true
            mytoken = "delegated"
            [[rule]]
            name = "hpc"
            issuer = "op"
            template = "{preferred_username}"
            require_groups = []
            require_entitlements = []
            require_scopes = []
        "#;
        let settings: LoginSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.rules.len(), 1);
        assert_eq!(settings.exchange.unwrap().accept, everything());
    }

    const SHARED: &str = r#"
        [[server]]
        name = "testbed"
        url = "https://mytoken.testbed:8443"
        [[issuer]]
        name = "op"
        url = "https://op.testbed:8444"
        audiences = ["https://testbed"]
    "#;
    const LOGIN: &str = r#"
        [exchange]
        server = "testbed"
        [[rule]]
        name = "hpc"
        issuer = "op"
        template = "{preferred_username}"
    "#;

    fn load(login: &str) -> Result<LoginSettings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("mytoken.toml", SHARED), ("login.toml", login), ("jobs.toml", "this is not TOML")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        LoginSettings::load(dir.path(), me, &Shared::load(dir.path(), me).unwrap())
    }

    #[test]
    fn a_broken_jobs_file_locks_nobody_out() {
        assert_eq!(load(LOGIN).unwrap().rules.len(), 1);
    }

    #[test]
    fn a_name_that_mytoken_toml_does_not_have_is_refused() {
        let told = |login: &str| load(login).unwrap_err().to_string();
        assert!(told(&LOGIN.replace("\"op\"", "\"egi\"")).contains("issuer \"egi\""));
        assert!(told(&LOGIN.replace("testbed", "elsewhere")).contains("\"elsewhere\""));
    }
}
