// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[session]` of `login.toml`.

use mytoken::config::Mistake;
use serde::Deserialize;

/// `[session]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// What a session gets.
    pub store: SessionStore,
    /// Where its files are.
    pub directory: SessionDirectory,
    /// Whether a delegated mytoken that was made for the session alone is revoked at its end.
    pub revoke_at_logout: bool,
    /// Whether it lasts while processes of its login run.
    pub linger: bool,
    /// Whether its files stay after its end, until the access token expires.
    pub retain: bool,
    /// Whether a session that cannot get its files does not begin.
    pub required: bool,
}

impl SessionSettings {
    /// What is wrong with the keys together.
    pub(super) fn problem(&self) -> Option<Mistake> {
        if self.retain && self.revoke_at_logout {
            let predicate = "keeps the mytoken that session.revoke_at_logout revokes: choose one of them";
            return Some(Mistake::key_that("session.retain", predicate));
        }
        let predicate = "asks for files, and session.store = \"none\" for none: choose one of them";
        (self.required && self.store == SessionStore::None).then(|| Mistake::key_that("session.required", predicate))
    }
}

/// What a session gets. A mytoken that the user entered stays with the user in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStore {
    /// Nothing: the login only opens the account.
    None,
    /// The access token, in `BEARER_TOKEN_FILE`.
    AccessToken,
    /// The access token, and in `MYTOKEN_FILE` a mytoken that was delegated: a transfer code brought it, and it may create sub-tokens.
    #[default]
    Mytoken,
}

/// Where the files of a session are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionDirectory {
    /// In `/run/user/<uid>/mytoken`, if `/run/user/<uid>` is the user's, on a tmpfs and closed to others; else as [`Self::Run`].
    Auto,
    /// In `/run/mytoken/sessions/<uid>`.
    #[default]
    Run,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_contradict_each_other_are_errors() {
        for (text, part) in [
            ("", None),
            ("retain = true\nrequired = true", None),
            ("retain = true\nrevoke_at_logout = true", Some("choose one")),
            ("required = true\nstore = 'none'", Some("choose one")),
            ("required = true\nstore = 'access_token'", None),
        ] {
            let problem = toml::from_str::<SessionSettings>(text).unwrap().problem();
            assert_eq!(problem.is_some_and(|mistake| mistake.problem.contains("choose one")), part.is_some(), "{text}");
        }
    }

    #[test]
    fn each_choice_is_read_and_the_default_gives_both_files() {
        let read = |text: &str| toml::from_str::<SessionSettings>(text).map(|settings| settings.store);
        assert_eq!(read("").unwrap(), SessionStore::Mytoken);
        for (word, store) in [
            ("none", SessionStore::None),
            ("access_token", SessionStore::AccessToken),
            ("mytoken", SessionStore::Mytoken),
        ] {
            assert_eq!(read(&format!("store = '{word}'")).unwrap(), store);
        }
        for wrong in ["store = true", "store = 'delegated'", "mytoken = 'never'", "access_token = true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
