// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[account]` of `login.toml`: logins without a token.

use std::fmt;
use std::str::FromStr;

use mytoken::config::Duration;
use serde::Deserialize;

/// `[account]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountPhaseSettings {
    /// Which logins over ssh without a token (by key, password, Kerberos) are accepted.
    pub key_logins: KeyLogins,
    /// Accounts whose logins without a token are always accepted.
    pub exempt: Vec<String>,
}

/// What a login without a token needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum KeyLogins {
    /// Nothing: the module has no opinion about it.
    #[default]
    Ignore,
    /// A login to the same account with a token that is not older than this. motley_cue must not have refused the account since.
    RecentLogin(Duration),
    /// motley_cue must not have refused the account at its last login with a token.
    MotleyCue,
}

const RECENT_LOGIN: &str = "recent-login:";

impl FromStr for KeyLogins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ignore" => Ok(Self::Ignore),
            "motley_cue" => Ok(Self::MotleyCue),
            _ => {
                let age = text.strip_prefix(RECENT_LOGIN).ok_or_else(|| {
                    format!(
                        "key_logins = \"{}\" is none of \"ignore\", \"recent-login:24h\" (with any duration) and \
                         \"motley_cue\"",
                        text.escape_debug()
                    )
                })?;
                match age.parse::<Duration>()? {
                    age if age.as_secs() == 0 => Err("key_logins: a recent login needs more than no time".to_owned()),
                    age => Ok(Self::RecentLogin(age)),
                }
            }
        }
    }
}

impl TryFrom<String> for KeyLogins {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for KeyLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignore => f.write_str("ignore"),
            Self::RecentLogin(age) => write!(f, "{RECENT_LOGIN}{age}"),
            Self::MotleyCue => f.write_str("motley_cue"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_logins_has_three_forms() {
        assert_eq!(AccountPhaseSettings::default().key_logins, KeyLogins::Ignore);
        for (text, read) in [
            ("ignore", Some(KeyLogins::Ignore)),
            ("motley_cue", Some(KeyLogins::MotleyCue)),
            ("recent-login:24h", Some(KeyLogins::RecentLogin(Duration::seconds(86_400)))),
            ("recent-login:7d", Some(KeyLogins::RecentLogin(Duration::seconds(7 * 86_400)))),
            ("recent-login", None),
            ("recent-login:", None),
            ("recent-login:24", None),
            ("recent-login:0s", None),
            ("recent-login: 24h", None),
            ("Ignore", None),
            ("", None),
        ] {
            let settings = toml::from_str::<AccountPhaseSettings>(&format!("key_logins = '{text}'"));
            assert_eq!(settings.as_ref().ok().map(|settings| settings.key_logins), read, "{text}: {settings:?}");
        }
    }
}
