// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of `login.toml`.

mod account;
mod exchange;
mod link;
mod log;
mod mapper;
mod motley_cue;
mod replay;
mod rule;
mod session;

pub use account::{AccountPhaseSettings, KeyLogins};
pub use exchange::{ExchangeSettings, Exchangeable};
pub use link::{LinkQr, LinkSettings};
pub use log::LogSettings;
pub use mapper::{CommandSettings, MapperSettings, UserFileSettings};
pub use motley_cue::{MotleyCueSettings, OnOutage};
pub use replay::{Replay, ReplaySettings};
pub(crate) use rule::STRONG_KEYS;
pub use rule::{Mapping, Rule};
pub use session::{SessionDirectory, SessionSettings, SessionStore};

use std::path::Path;

use mytoken::config::{ConfigError, Duration, FileTrust, Mistake, Shared, read, read_list_leniently};
use serde::Deserialize;

use crate::account_name::NameForm;
use crate::budget::BudgetSettings;

/// `login.toml`. The default accepts no login: it has no rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSettings {
    /// PAM services that accept tokens (`sshd`). The module does nothing in all others: the caller of `su` and `sudo` controls their
    /// environment.
    pub services: Vec<String>,
    /// Time for a login after the answer: exchange, verification and decision.
    pub deadline: Duration,
    /// A refusal is not sent earlier than this after the answer to the prompt, so that its time does not show its reason.
    pub fail_delay: Duration,
    /// How many requests to the mytoken server unverified logins may cause.
    pub budget: BudgetSettings,
    /// How often an access token can log in.
    pub login: ReplaySettings,
    /// The prompt.
    pub prompt: PromptSettings,
    /// Accounts that accept tokens.
    pub accounts: AccountSettings,
    /// Logins without a token.
    pub account: AccountPhaseSettings,
    /// The servers that exchange mytokens, short tokens and transfer codes for access tokens. Without one, only access tokens are
    /// accepted.
    #[serde(rename = "exchange", deserialize_with = "exchange::list_or_table")]
    pub exchanges: Vec<ExchangeSettings>,
    /// Logins with a link.
    pub link: LinkSettings,
    /// The session credential.
    pub session: SessionSettings,
    /// The log.
    pub log: LogSettings,
    /// Which identity may use which account; tried in order.
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
            login: ReplaySettings::default(),
            prompt: PromptSettings::default(),
            accounts: AccountSettings::default(),
            account: AccountPhaseSettings::default(),
            exchanges: Vec::new(),
            link: LinkSettings::default(),
            session: SessionSettings::default(),
            log: LogSettings::default(),
            rules: Vec::new(),
        }
    }
}

impl LoginSettings {
    /// Reads `DIR/login.toml` and its drop-ins, and checks that the names in it exist in `shared`. [`crate::Maps`] reads the map files:
    /// an unusable one affects only the rules that need it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(dir: &Path, trust: FileTrust, shared: &Shared) -> Result<Self, ConfigError> {
        let login: Self = read(dir, "login", trust)?;
        login.check(shared).map_err(|mistake| mistake.into_error(dir, "login", trust))?;
        Ok(login)
    }

    /// Checks what the types cannot express.
    fn check(&self, shared: &Shared) -> Result<(), Mistake> {
        if let Some(mistake) = exchange::problem(&self.exchanges, shared) {
            return Err(mistake);
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if !shared.issuers.iter().any(|issuer| issuer.name == rule.issuer) {
                let problem =
                    format!("rule \"{}\": issuer \"{}\" is not an [[issuer]] of mytoken.toml", rule.name, rule.issuer);
                return Err(Mistake::of_entry("rule", index, &["issuer"], problem));
            }
        }
        if self.account.key_logins == KeyLogins::MotleyCue && self.motley_cues().next().is_none() {
            return Err(Mistake::key_that(
                "account.key_logins",
                "= \"motley_cue\" needs a rule with motley_cue: without one nobody asks it",
            ));
        }
        if let Some(mistake) = self.motley_cue_problem(shared.http.allow_loopback_http) {
            return Err(mistake);
        }
        if let Some(mistake) = self.link.problem(&shared.issuers).filter(|_| self.accepts_links()) {
            return Err(mistake);
        }
        if let Some(mistake) = self.session.problem() {
            return Err(mistake);
        }
        let accounts = &self.accounts;
        let by_file = self.rules.iter().any(|rule| matches!(rule.mapping, Mapping::File(_)));
        if let Some(account) = accounts.allow_system.iter().find(|name| !accounts.deny.contains(name)) {
            if by_file && !self.rules.iter().any(Rule::opens_system_accounts) {
                let problem = format!(
                    "[accounts] allow_system names \"{account}\", but no rule with a map_file asks for enough to open a \
                     system account: add {STRONG_KEYS} to that rule, or take the name out of allow_system"
                );
                return Err(Mistake::of_key("accounts.allow_system", problem));
            }
        }
        Ok(())
    }

    /// Whether a person without a token can log in with a link.
    #[must_use]
    pub fn accepts_links(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.accept.contains(&Exchangeable::Link))
    }

    /// `services` of `DIR/login.toml`, even when the rest of the configuration is wrong: a mistake must not affect services that are not
    /// listed. `sshd` when the list itself cannot be read.
    #[must_use]
    pub fn listed_services(dir: &Path, trust: FileTrust) -> Vec<String> {
        Self::readable_services(dir, trust).unwrap_or_else(|| Self::default().services)
    }

    /// The same; `None` when the list cannot be read.
    #[must_use]
    pub fn readable_services(dir: &Path, trust: FileTrust) -> Option<Vec<String>> {
        read_list_leniently(dir, "login", trust, "services")
    }
}

/// `[prompt]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSettings {
    /// The prompt. It is the same for every user, so that helpers recognise it.
    pub text: String,
    /// Whether an answer may come in chunks, `@i/n:...`: OpenSSH's client sends at most 1023 bytes of an answer (SSH-15).
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
    /// Accounts with a lower uid are system accounts.
    pub min_uid: u32,
    /// Accounts that never accept tokens.
    pub deny: Vec<String>,
    /// System accounts (uid 0 included) that a rule may open, see [`Rule::opens_system_accounts`]. `deny` takes precedence.
    pub allow_system: Vec<String>,
    /// Which names a template may give. Map files may give any account that NSS knows, because root wrote the name there.
    pub names: NameForm,
}

impl Default for AccountSettings {
    fn default() -> Self {
        Self { min_uid: 1_000, deny: vec!["root".to_owned()], allow_system: Vec::new(), names: NameForm::Posix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_safe_default() {
        let settings: LoginSettings = toml::from_str("").unwrap();
        assert_eq!(settings, LoginSettings::default());
        assert!(settings.rules.is_empty() && settings.exchanges.is_empty());
    }

    #[test]
    fn a_file_with_every_key_is_read() {
        let text = r#"
            services = ["sshd"]
            deadline = "20s"
            fail_delay = "2s"
            [budget]
            per_address = 15
            per_host = 60
            window = "300s"
            [login]
            replay = "jti"
            [prompt]
            text = "Access Token:"
            chunks = true
            [accounts]
            min_uid = 1000
            deny = ["root"]
            allow_system = []
            names = "posix"
            [account]
            key_logins = "recent-login:24h"
            exempt = ["admin"]
            [[exchange]]
            server = "testbed"
            accept = ["mytoken", "short_token", "transfer_code"]
            scope = "openid profile storage.read"
            audience = "https://testbed"
            comment = "{service} {user}@{host}"
            [link]
            issuer = "op"
            hosts = ["this"]
            lifetime = "8h"
            create_mytoken = true
            time = "90s"
            qr = "always"
            [session]
            store = "mytoken"
            directory = "run"
            revoke_at_logout = false
            linger = false
            retain = false
            required = false
            [log]
            failure_line = false
            [[rule]]
            name = "hpc"
            issuer = "op"
            template = "{preferred_username}"
            require_groups = []
            group_claims = ["groups"]
            require_entitlements = []
            entitlement_form = "g069"
            require_scopes = []
            require_acr = []
            require_claims = {}
            require_assurance = "profile/cappuccino & IAP/medium"
            assurance_claims = ["eduperson_assurance"]
            [[rule]]
            name = "own"
            issuer = "op"
            user_file = ".config/mytoken/authorized_identities"
            [[rule]]
            name = "asked"
            issuer = "op"
            command = ["/usr/libexec/mapper", "arg"]
            run_as = "nobody"
            timeout = "5s"
            [[rule]]
            name = "motley_cue"
            issuer = "op"
            motley_cue = "https://login.example.org:8443"
            otp = true
            on_outage = "refuse"
        "#;
        let settings: LoginSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.rules.len(), 4);
        assert_eq!(settings.exchanges[0].accept.len(), 3);
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
    fn a_broken_jobs_file_has_no_effect_on_logins() {
        assert_eq!(load(LOGIN).unwrap().rules.len(), 1);
    }

    #[test]
    fn a_system_account_needs_a_rule_that_asks_for_more() {
        const FILE: &str = "[[rule]]\nname = 'f'\nissuer = 'op'\nmap_file = '/users.map'\n";
        let allow = |names: &str| format!("[accounts]\nallow_system = ['{names}']\n{LOGIN}");
        let error = load(&format!("{}{FILE}require_groups = ['admins']\n", allow("backup"))).unwrap_err().to_string();
        for part in ["allow_system names \"backup\"", "add require_acr, or require_claims with acr or amr"] {
            assert!(error.contains(part), "{error}");
        }
        for more in [
            "require_acr = ['https://refeds.org/profile/mfa']",
            "require_claims = { amr = 'mfa' }",
            "require_claims = { '/acr' = '2' }",
        ] {
            assert!(load(&format!("{}{FILE}{more}\n", allow("backup"))).is_ok(), "{more}");
        }
        for less in [
            "require_assurance = 'IAP/high'",
            "require_claims = { email_verified = true, org = 'x' }",
            "require_claims = { amr = 'pwd' }",
            "require_claims = { acr = 0 }",
            "require_acr = ['2', '0']",
        ] {
            assert!(load(&format!("{}{FILE}{less}\n", allow("backup"))).is_err(), "{less}");
        }
        // Denied by default, no map file, another rule that asks for enough.
        assert!(load(&format!("{}{FILE}", allow("root"))).is_ok());
        assert!(load(&allow("backup")).is_ok());
        assert!(load(&format!("{}{FILE}{FILE}require_acr = ['2']\n", allow("backup"))).is_ok());
    }

    #[test]
    fn key_logins_by_motley_cue_need_a_rule_that_asks_it() {
        let account = "[account]\nkey_logins = 'motley_cue'\n";
        assert!(load(&format!("{account}{LOGIN}")).unwrap_err().to_string().contains("needs a rule with motley_cue"));
        let rule = "[[rule]]\nname = 'm'\nissuer = 'op'\nmotley_cue = 'https://e.org'\n";
        assert!(load(&format!("{account}{LOGIN}{rule}")).is_ok());
    }

    #[test]
    fn keys_of_the_session_that_contradict_each_other_are_told() {
        let error = load(&format!("{LOGIN}[session]\nretain = true\nrevoke_at_logout = true\n")).unwrap_err();
        assert!(error.to_string().contains("choose one of them"), "{error}");
    }

    #[test]
    fn the_keys_that_store_has_replaced_are_errors_that_name_it() {
        for old in ["access_token = false", "mytoken = \"never\""] {
            let error = load(&format!("{LOGIN}[session]\n{old}\n")).unwrap_err().to_string();
            let (key, _) = old.split_once(' ').unwrap();
            assert!(error.contains(&format!("the key \"{key}\" was replaced by \"store\"")), "{error}");
            assert!(error.contains("login.toml:9"), "{error}");
        }
    }

    #[test]
    fn links_are_off_unless_accepted_and_checked_only_then() {
        assert!(!load(LOGIN).unwrap().accepts_links());
        let wrong = format!("{LOGIN}[link]\nissuer = 'egi'\n");
        assert!(load(&wrong).is_ok());
        let accept = |login: &str| load(&login.replace("server =", "accept = ['link']\nserver ="));
        assert!(accept(LOGIN).unwrap().accepts_links());
        assert!(accept(&wrong).unwrap_err().to_string().contains("link.issuer"));
    }

    #[test]
    fn a_mistake_in_a_drop_in_is_told_of_the_drop_in() {
        const RULE: &str = "[[rule]]\nname = 'm'\nissuer = 'op'\n";
        const LINK: &str = "[[exchange]]\nserver = 'testbed'\naccept = ['link']\n";
        for (main, text, line) in [
            (LOGIN, RULE.replace("'op'", "'opp'") + "template = '{sub}'\n", 4),
            (LOGIN, "exchange.server = 'nope'\n".to_owned(), 2),
            (LOGIN, "[[exchange]]\nserver = 'nope'\n".to_owned(), 3),
            (LOGIN, "[[exchange]]\nserver = 'testbed'\n".to_owned(), 3),
            (LOGIN, "[account]\nkey_logins = 'motley_cue'\n".to_owned(), 3),
            (LOGIN, format!("{RULE}motley_cue = 'http://127.0.0.1:8080'\n"), 5),
            (LOGIN, format!("session.required = true\n{RULE}motley_cue = 'https://e.org'\notp = true\n"), 7),
            (LOGIN, "[session]\nretain = true\nrevoke_at_logout = true\n".to_owned(), 3),
            (LOGIN, "[session]\nstore = 'none'\nrequired = true\n".to_owned(), 4),
            ("", format!("{LINK}[link]\nissuer = 'egi'\n"), 6),
            ("", format!("{LINK}[link]\nhosts = []\n"), 6),
            ("", format!("{LINK}[link]\ntime = '1s'\n"), 6),
            ("", format!("{LINK}[link]\nlifetime = '1s'\n"), 6),
            (LOGIN, format!("accounts.allow_system = ['backup']\n{RULE}map_file = '/users.map'\n"), 2),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("login.d")).unwrap();
            let drop_in = dir.path().join("login.d/z.toml");
            let text = format!("\n{text}");
            for (path, text) in [("mytoken.toml", SHARED), ("login.toml", main), ("login.d/z.toml", &text)] {
                std::fs::write(dir.path().join(path), text).unwrap();
            }
            let me = FileTrust::user(nix::unistd::geteuid().as_raw());
            let error = LoginSettings::load(dir.path(), me, &Shared::load(dir.path(), me).unwrap()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{}:{line}: ", drop_in.display())), "{text}: {error}");
        }
    }

    #[test]
    fn names_that_mytoken_toml_does_not_define_are_errors() {
        let error = |login: &str| load(login).unwrap_err().to_string();
        assert!(error(&LOGIN.replace("\"op\"", "\"egi\"")).contains("issuer \"egi\""));
        assert!(error(&LOGIN.replace("testbed", "elsewhere")).contains("\"elsewhere\""));
    }
}
