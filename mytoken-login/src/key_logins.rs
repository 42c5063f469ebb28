// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logins over ssh without a token: `[account]` of `login.toml`.
//!
//! sshd checks the key itself and calls only the account phase (SSH-01). The module then knows the account and nothing else: no token, so
//! motley_cue cannot be asked, because it answers only to the holder of a token (MC-04). What is known is what the last login with a token
//! to the account has shown.

use std::path::Path;

use mytoken::config::{ConfigError, FileTrust, KeyError, read, read_key, read_key_leniently};
use mytoken::private_files::FileError;
use mytoken::time_format::utc_minute;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::accounts::LocalAccount;
use crate::last_logins::{LastLogin, LastLogins};
use crate::log_line::escape_field;
use crate::service_state::ServiceState;
use crate::settings::{AccountSettings, KeyLogins, LoginSettings};

/// How far a login may lie in the future, in seconds: after that one of the two times of the clock was wrong.
const CLOCK_TOLERANCE: u64 = 300;

/// The rules for logins without a token. They are read key by key: a mistake elsewhere in the files must not keep people out, nor let them
/// in.
#[derive(Debug, Clone)]
pub struct KeyLoginRules {
    /// What such a login needs. An error if that cannot be read or understood.
    pub key_logins: Result<KeyLogins, KeyError>,
    /// Whether a rule asks motley_cue, or may do that.
    asks_motley_cue: bool,
    exempt: Vec<String>,
    services: Vec<String>,
    accounts: AccountSettings,
}

/// What matters of the rules of `login.toml`.
#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    rule: Vec<Asks>,
}

#[derive(Deserialize)]
struct Asks {
    #[serde(default)]
    motley_cue: Option<IgnoredAny>,
}

/// The decision about a login without a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLogin {
    /// Others decide.
    Allowed,
    /// motley_cue has refused the account at the last login with a token.
    Refused {
        /// In this state.
        state: ServiceState,
        /// When it did that first, Unix seconds.
        since: u64,
    },
    /// There was no login with a token, or it is too long ago.
    NotRecent {
        /// When it was, Unix seconds.
        accepted: Option<u64>,
        /// What is needed.
        needed: KeyLogins,
    },
    /// The last login cannot be read.
    Unreadable(
        /// Why.
        String,
    ),
    /// `key_logins` cannot be read or understood.
    Misconfigured(
        /// Why.
        String,
    ),
}

impl KeyLoginRules {
    /// Reads them from `DIR/login.toml` and its drop-ins. `None`: `key_logins` is `ignore`, the default. Of a file that
    /// cannot be read nobody knows whether it has `key_logins`.
    #[must_use]
    pub fn read(dir: &Path, trust: FileTrust) -> Option<Self> {
        let key_logins = match read_key::<KeyLogins>(dir, "login", trust, &["account", "key_logins"]) {
            Ok(None | Some(KeyLogins::Ignore)) => return None,
            Ok(Some(key_logins)) => Ok(key_logins),
            Err(error) => Err(error),
        };
        let names = |path| read_key_leniently::<Vec<String>>(dir, "login", trust, path).and_then(Result::ok);
        let mut accounts = AccountSettings::default();
        if let Some(Ok(min_uid)) = read_key_leniently(dir, "login", trust, &["accounts", "min_uid"]) {
            accounts.min_uid = min_uid;
        }
        if let Some(deny) = names(&["accounts", "deny"]) {
            accounts.deny = deny;
        }
        // Of files with mistakes it is not known.
        let is_without = |rules: Rules| rules.rule.iter().all(|rule| rule.motley_cue.is_none());
        Some(Self {
            key_logins,
            asks_motley_cue: !read(dir, "login", trust).is_ok_and(is_without),
            exempt: names(&["account", "exempt"]).unwrap_or_default(),
            services: LoginSettings::listed_services(dir, trust),
            accounts,
        })
    }

    /// Whether the rules are for this service.
    #[must_use]
    pub fn is_for(&self, service: &str) -> bool {
        self.services.iter().any(|listed| listed == service)
    }

    /// Why a file cannot be read that may have `key_logins`, on a host that never had `key_logins`: its people must not be locked out.
    /// Such logins are not checked.
    #[must_use]
    pub fn unchecked(&self, logins: &LastLogins) -> Option<&ConfigError> {
        match &self.key_logins {
            Err(KeyError::File(error)) if !logins.may_exist() => Some(error),
            _ => None,
        }
    }

    /// The account with these ids.
    #[must_use]
    pub fn account(&self, name: &str, uid: u32, gid: u32) -> LocalAccount {
        LocalAccount::new(name, uid, gid, &self.accounts)
    }

    /// Decides. `last` reads the last login with a token; it is called only if that matters. `now` is Unix seconds.
    pub fn decide(
        &self,
        account: &LocalAccount,
        last: impl FnOnce() -> Result<Option<LastLogin>, FileError>,
        now: u64,
    ) -> KeyLogin {
        let is_named = |names: &[String]| names.contains(&account.name);
        // Accounts that no token opens could never have a recent login.
        if account.system || is_named(&self.exempt) || is_named(&self.accounts.deny) {
            return KeyLogin::Allowed;
        }
        let needed = match &self.key_logins {
            Ok(KeyLogins::Ignore) => return KeyLogin::Allowed,
            Ok(needed) => *needed,
            Err(error) => return KeyLogin::Misconfigured(error.to_string()),
        };
        let last = match last() {
            Ok(last) => last.unwrap_or_default(),
            Err(error) => return KeyLogin::Unreadable(error.to_string()),
        };
        // Without such a rule motley_cue could never give the account again.
        if let Some((state, since)) = last.refused.filter(|_| self.asks_motley_cue) {
            return KeyLogin::Refused { state, since };
        }
        let KeyLogins::RecentLogin(age) = needed else { return KeyLogin::Allowed };
        let is_recent = |accepted: u64| {
            accepted <= now.saturating_add(CLOCK_TOLERANCE) && now.saturating_sub(accepted) <= age.as_secs()
        };
        match last.accepted {
            Some(accepted) if is_recent(accepted) => KeyLogin::Allowed,
            accepted => KeyLogin::NotRecent { accepted, needed },
        }
    }
}

impl KeyLogin {
    /// The sentence for the person. `None`: the login is allowed.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        Some(match self {
            Self::Allowed => return None,
            Self::Refused { state, .. } => state.to_string(),
            Self::NotRecent { needed: KeyLogins::RecentLogin(age), .. } => {
                format!("without a token you can log in here only within {age} after a login with one")
            }
            Self::NotRecent { .. } => "without a token you can log in here only after a login with one".to_owned(),
            Self::Unreadable(_) => "this host has a problem; tell its administrator".to_owned(),
            Self::Misconfigured(_) => {
                "login with tokens is misconfigured on this host; tell its administrator".to_owned()
            }
        })
    }

    /// The word behind `reason=` in the log. `None`: it is allowed.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::Allowed => return None,
            Self::Refused { state, .. } => state.as_str(),
            Self::NotRecent { .. } => "no_recent_login",
            Self::Unreadable(_) => "logins_unreadable",
            Self::Misconfigured(_) => "key_logins_invalid",
        })
    }

    /// The log line of a refusal, in the form of a login with a token, so that one search finds both. `user` is what
    /// the person has typed. `None`: it is allowed.
    #[must_use]
    pub fn log_line(&self, user: &str, uid: Option<u32>, rhost: Option<&str>) -> Option<String> {
        let reason = self.reason()?;
        let (user, rhost) = (escape_field(user), escape_field(rhost.unwrap_or("-")));
        let uid = uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
        Some(format!("refuse user={user} uid={uid} rhost={rhost} reason={reason} issuer=- sub=- rule=- token=-"))
    }

    /// What is behind the refusal, for the log. `None`: it is allowed.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Allowed => return None,
            Self::Refused { state, since } => {
                format!("motley_cue said at {} that the account is {}", utc_minute(*since), state.as_str())
            }
            Self::NotRecent { accepted: None, .. } => "there was no login with a token".to_owned(),
            Self::NotRecent { accepted: Some(at), needed } => {
                format!("the last login with a token was at {}, and {needed} is configured", utc_minute(*at))
            }
            Self::Unreadable(reason) | Self::Misconfigured(reason) => reason.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_logins::GivenBy;
    use mytoken::Deadline;
    use mytoken::private_files::Owner;
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;

    const ASKS: &str = "[[rule]]\nname = 'mc'\nissuer = 'op'\nmotley_cue = 'https://mc.example.org'\n";

    fn rules(text: &str) -> Option<KeyLoginRules> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("login.toml"), text).unwrap();
        KeyLoginRules::read(dir.path(), FileTrust::user(nix::unistd::geteuid().as_raw()))
    }

    fn no_logins() -> LastLogins {
        LastLogins::new(Path::new("/nonexistent/mytoken/logins"), Owner::current())
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    /// Decides for alice, after these events.
    fn decide(key_logins: &str, uid: u32, events: &dyn Fn(&LastLogins, &LocalAccount)) -> KeyLogin {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(&format!("[account]\nkey_logins = '{key_logins}'\nexempt = ['admin']\n{ASKS}")).unwrap();
        let account = rules.account("alice", uid, uid);
        let logins = LastLogins::new(&dir.path().join("mytoken/logins"), Owner::current());
        events(&logins, &account);
        rules.decide(&account, || logins.read(&account), NOW)
    }

    #[test]
    fn a_recent_login_is_needed_if_configured() {
        let at = |seconds: u64| {
            move |logins: &LastLogins, account: &LocalAccount| {
                logins.accepted(account, GivenBy::OtherRule, seconds, soon()).unwrap();
            }
        };
        let allowed = |seconds: u64| decide("recent-login:24h", 2_001, &at(seconds)) == KeyLogin::Allowed;
        assert!(allowed(NOW) && allowed(NOW - 86_400) && !allowed(NOW - 86_401));
        assert!(allowed(NOW + 300) && !allowed(NOW + 301), "a clock was wrong");
        let never = decide("recent-login:24h", 2_001, &|_, _| {});
        assert!(never.sentence().unwrap().contains("only within 1d after a login with one"), "{never:?}");
        assert_eq!(never.detail().unwrap(), "there was no login with a token");
        assert_eq!(decide("motley_cue", 2_001, &|_, _| {}), KeyLogin::Allowed);
    }

    #[test]
    fn a_suspended_account_is_refused_until_motley_cue_gives_it_again() {
        for policy in ["motley_cue", "recent-login:24h"] {
            let suspend = |logins: &LastLogins, account: &LocalAccount| {
                logins.accepted(account, GivenBy::MotleyCue, NOW - 20, soon()).unwrap();
                logins.refused(account, ServiceState::Suspended, NOW - 10, soon()).unwrap();
            };
            let refused = decide(policy, 2_001, &suspend);
            assert_eq!(refused, KeyLogin::Refused { state: ServiceState::Suspended, since: NOW - 10 }, "{policy}");
            assert!(refused.sentence().unwrap().contains("suspended"));
            let resumed = decide(policy, 2_001, &|logins, account| {
                suspend(logins, account);
                logins.accepted(account, GivenBy::MotleyCue, NOW - 5, soon()).unwrap();
            });
            assert_eq!(resumed, KeyLogin::Allowed, "{policy}");
        }
    }

    #[test]
    fn a_suspension_counts_only_while_a_rule_asks_motley_cue() {
        let suspended = LastLogin { accepted: Some(NOW), refused: Some((ServiceState::Suspended, NOW)) };
        let account = "[account]\nkey_logins = 'recent-login:1h'\n";
        let template = "[[rule]]\nname = 'all'\nissuer = 'op'\ntemplate = '{sub}'\n";
        for (text, is_refused) in [
            (account.to_owned(), false),
            (format!("{account}{template}"), false),
            (format!("{account}{template}{ASKS}"), true),
            (format!("{account}{template}???"), true),
            (format!("rule = 5\n{account}"), true),
        ] {
            let rules = rules(&text).unwrap();
            let decided = rules.decide(&rules.account("alice", 2_001, 2_001), || Ok(Some(suspended.clone())), NOW);
            assert_eq!(matches!(decided, KeyLogin::Refused { .. }), is_refused, "{text}: {decided:?}");
            assert_eq!(decided == KeyLogin::Allowed, !is_refused, "{text}: {decided:?}");
        }
    }

    #[test]
    fn the_line_has_the_form_of_a_decision() {
        let text = || "x".to_owned();
        let needed = KeyLogins::MotleyCue;
        for (decided, reason) in [
            (KeyLogin::NotRecent { accepted: Some(1), needed }, "no_recent_login"),
            (KeyLogin::Refused { state: ServiceState::Suspended, since: 1 }, "suspended"),
            (KeyLogin::Refused { state: ServiceState::Limited, since: 1 }, "limited"),
            (KeyLogin::Unreadable(text()), "logins_unreadable"),
            (KeyLogin::Misconfigured(text()), "key_logins_invalid"),
        ] {
            let line = decided.log_line("alice", Some(2_001), Some("192.0.2.7")).unwrap();
            let expected =
                format!("refuse user=alice uid=2001 rhost=192.0.2.7 reason={reason} issuer=- sub=- rule=- token=-");
            assert_eq!(line, expected);
        }
        let hostile = KeyLogin::Unreadable(text()).log_line("x uid=0\nrefuse", None, None).unwrap();
        assert!(hostile.starts_with("refuse user=x\\x20uid\\x3d0\\x0arefuse uid=- rhost=- reason="), "{hostile}");
        let allowed = KeyLogin::Allowed;
        assert_eq!((allowed.log_line("alice", None, None), allowed.detail(), allowed.sentence()), (None, None, None));
    }

    #[test]
    fn accounts_that_no_token_opens_are_exempt() {
        for uid in [0, 999, 65_534] {
            assert_eq!(decide("recent-login:24h", uid, &|_, _| {}), KeyLogin::Allowed, "{uid}");
        }
        let text = "[account]\nkey_logins = 'recent-login:1h'\nexempt = ['admin']\n[accounts]\ndeny = ['other']\nmin_uid = 3000\n";
        let rules = rules(text).unwrap();
        let decide = |name: &str, uid| rules.decide(&rules.account(name, uid, uid), || Ok(None), NOW);
        for (name, uid) in [("admin", 4_000), ("other", 4_000), ("alice", 2_999)] {
            assert_eq!(decide(name, uid), KeyLogin::Allowed, "{name}");
        }
        assert_ne!(decide("alice", 3_000), KeyLogin::Allowed);
        assert!(rules.is_for("sshd") && !rules.is_for("sudo"));
    }

    #[test]
    fn a_broken_file_matters_only_if_key_logins_is_set() {
        for text in
            ["", "???", "[account]\nkey_logins = 'ignore'\n???", "[account]\nkey_login = 'motley_cue'", "[[rule]]\nx"]
        {
            assert!(rules(text).is_none(), "{text}");
        }
        for text in
            ["[account]\nkey_logins = 'motley_cue'\n???", "nonsense = \n[account]\nkey_logins = 'motley_cue'\n[[rule]]"]
        {
            assert_eq!(rules(text).unwrap().key_logins, Ok(KeyLogins::MotleyCue), "{text}");
        }
        for text in [
            "[account]\nkey_logins = 'recent'",
            "[account]\nkey_logins = 7",
            "[account]\nkey_logins = = 'ignore'",
            "[account]\nkey_logins = ignore",
            "[account\nkey_logins = 'motley_cue'",
        ] {
            let rules = rules(text).unwrap();
            assert!(rules.unchecked(&no_logins()).is_none(), "{text}");
            let decided = rules.decide(&rules.account("alice", 2_001, 2_001), || Ok(None), NOW);
            assert!(matches!(decided, KeyLogin::Misconfigured(_)), "{text}: {decided:?}");
            assert_eq!(rules.decide(&rules.account("root", 0, 0), || Ok(None), NOW), KeyLogin::Allowed);
        }
    }

    #[test]
    fn a_file_that_others_can_write_may_have_key_logins() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("login.toml");
        std::fs::write(&file, "[account]\nkey_logins = 'motley_cue'\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
        let rules = KeyLoginRules::read(dir.path(), FileTrust::user(nix::unistd::geteuid().as_raw())).unwrap();
        assert!(rules.unchecked(&no_logins()).unwrap().to_string().contains("0664"), "{rules:?}");
        let logins = LastLogins::new(&dir.path().join("mytoken/logins"), Owner::current());
        logins.accepted(&rules.account("bob", 2_002, 2_002), GivenBy::OtherRule, NOW, soon()).unwrap();
        assert!(rules.unchecked(&logins).is_none(), "key_logins was set on this host");
        assert!(rules.is_for("sshd"));
        let decide = |uid| rules.decide(&rules.account("alice", uid, uid), || Ok(None), NOW);
        assert!(matches!(decide(2_001), KeyLogin::Misconfigured(_)));
        assert_eq!(decide(0), KeyLogin::Allowed);
    }

    #[test]
    fn what_cannot_be_read_is_not_allowed() {
        let rules = rules("[account]\nkey_logins = 'motley_cue'").unwrap();
        let broken = || Err(FileError::Unusable { path: "/x".into(), reason: "no".into() });
        let decided = rules.decide(&rules.account("alice", 2_001, 2_001), broken, NOW);
        assert!(matches!(decided, KeyLogin::Unreadable(_)), "{decided:?}");
    }
}
