// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about logins without a token: `[account]` of `login.toml`. A mistake there keeps out whoever has only a key, the administrator too.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use mytoken::Error;
use mytoken::config::{FileTrust, KeyError};
use mytoken_login::{KeyLoginRules, LastLogins};

use super::{Findings, kinds};

const PART: &str = "key logins";

impl Findings {
    /// Reads the rules as the module does. With `root` also opens the directory of the last logins, which only root can.
    /// Returns this directory if logins without a token need it.
    pub(super) fn key_logins(
        &mut self,
        dir: &Path,
        trust: FileTrust,
        logins: &LastLogins,
        root: bool,
    ) -> Option<PathBuf> {
        let rules = KeyLoginRules::read(dir, trust).filter(|rules| rules.unchecked(logins).is_none())?;
        let refused = |why: &dyn Display| format!("logins without a token are refused: {why}");
        match &rules.key_logins {
            Err(KeyError::File(error) | KeyError::Value(error)) => {
                let (error, text) = (Error::Config(error.clone()), error.to_string());
                // login.toml cannot be used for the same reason, and this is told with the line.
                let is_told = self.problems().any(|finding| text.starts_with(&finding.text));
                let text = if is_told { refused(&"see above, key_logins cannot be read") } else { refused(&text) };
                self.add_file_error(kinds::KEY_LOGINS, &error, &text);
            }
            Ok(needed) => match if root { logins.check() } else { Ok(()) } {
                Ok(()) => self.ok(PART, format!("a login without a token needs key_logins = \"{needed}\"")),
                Err(error) => self.add_kind(kinds::KEY_LOGINS, refused(&error)),
            },
        }
        rules.key_logins.is_ok().then(|| logins.directory().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mytoken::private_files::Owner;

    use super::*;

    #[test]
    fn the_directory_is_needed_where_key_logins_asks_for_last_logins() {
        let dir = tempfile::tempdir().unwrap();
        let me = Owner::current();
        let logins = LastLogins::new(&dir.path().join("var/mytoken/logins"), me);
        let needed = |text: &str| {
            std::fs::write(dir.path().join("login.toml"), text).unwrap();
            Findings::default().key_logins(dir.path(), FileTrust::user(me.uid), &logins, true)
        };
        for of in ["motley_cue", "recent-login:24h"] {
            let directory = needed(&format!("[account]\nkey_logins = '{of}'\n"));
            assert_eq!(directory.as_deref(), Some(logins.directory()), "{of}");
        }
        for text in ["", "[account]\nkey_logins = 'ignore'\n", "[account]\nkey_logins = 'sometimes'\n"] {
            assert_eq!(needed(text), None, "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_once_and_with_its_line() {
        use mytoken::config::Shared;
        use mytoken_login::NssAccounts;
        let dir = tempfile::tempdir().unwrap();
        let me = Owner::current();
        let trust = FileTrust::user(me.uid);
        let logins = LastLogins::new(&dir.path().join("var/mytoken/logins"), me);
        std::fs::create_dir_all(dir.path().join("var/mytoken/logins")).unwrap();
        std::fs::create_dir(dir.path().join("login.d")).unwrap();
        let shared: Shared = toml::from_str("").unwrap();
        let file = dir.path().join("login.d/z.toml");
        let found = |text: &str, mode: u32| {
            std::fs::write(dir.path().join("login.toml"), "").unwrap();
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut findings = Findings::default();
            findings.login_settings(dir.path(), &shared, trust, &NssAccounts, None);
            findings.key_logins(dir.path(), trust, &logins, false);
            findings.findings
        };
        for (text, mode) in [
            ("\n[account]\nkey_logins = 'sometimes'\n", 0o644),
            ("\n\nkey_logins = 'ignore'\naccount = = 1", 0o644),
            ("[account]\nkey_logins = 'ignore'\n", 0o666),
        ] {
            let found = found(text, mode);
            let [invalid, refused] = &found[..] else { panic!("{text}: {found:?}") };
            assert_eq!(refused.id.as_deref(), Some("key-logins-refused"));
            if text.starts_with("\n[") {
                assert!(invalid.text.contains("z.toml:3: "), "{invalid:?}");
            }
            if !text.contains("= =") {
                assert_eq!(refused.text, "logins without a token are refused: see above, key_logins cannot be read");
                assert_eq!(invalid.fix, refused.fix);
            }
        }
    }

    #[test]
    fn whatever_refuses_all_of_them_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let me = Owner::current();
        let logins = LastLogins::new(&dir.path().join("var/mytoken/logins"), me);
        std::fs::create_dir_all(dir.path().join("var/mytoken/logins")).unwrap();
        let mode = |mode| {
            let path = dir.path().join("var/mytoken/logins");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let found = |text: &str, root: bool| {
            std::fs::write(dir.path().join("login.toml"), text).unwrap();
            let mut findings = Findings::default();
            findings.key_logins(dir.path(), FileTrust::user(me.uid), &logins, root);
            let of = findings.findings.into_iter().next()?;
            Some((of.id?, of.text, of.fix.unwrap_or_default()))
        };
        let set = "[account]\nkey_logins = 'recent-login:24h'\n";
        mode(0o750);
        assert_eq!(found("", true), None, "nobody reads the directory");
        let (id, text, fix) = found(set, true).unwrap();
        assert!(id == "key-logins-refused" && text.contains("mytoken/logins") && fix.starts_with("namei "), "{text}");
        let (id, text, _) = found(set, false).unwrap();
        assert!(id == "key-logins-ok" && text.contains("recent-login:1d"), "only root can look: {text}");
        mode(0o700);
        assert_eq!(found(set, true).unwrap().0, "key-logins-ok");
        let (id, text, fix) = found("[account]\nkey_logins = 'sometimes'\n", true).unwrap();
        assert!(id == "key-logins-refused" && text.contains("sometimes"), "{text}");
        assert!(fix.contains("EDITOR") && fix.contains("login.toml"), "{fix}");
        let file = dir.path().join("login.toml");
        let unreadable = || {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
            let found = found(set, true);
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
            found
        };
        let (id, text, fix) = unreadable().unwrap();
        assert!(id == "key-logins-refused" && text.contains("login.toml") && fix.starts_with("chmod "), "{text} {fix}");
        std::fs::remove_dir(dir.path().join("var/mytoken/logins")).unwrap();
        assert_eq!(unreadable(), None, "this host never had key_logins");
    }
}
