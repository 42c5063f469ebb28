// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about `login.toml` and the map files.

use std::path::Path;
use std::time::{Duration, Instant};

use mytoken::config::IssuerSettings;
use mytoken::config::{FileTrust, Shared};
use mytoken_login::{AccountDatabase, LoginSettings, MapFile, Maps};

use super::{Findings, Severity};

const PART: &str = "map file";

/// Maximum number of wrong lines of a file that are shown, and of line numbers in a sentence.
const MOST_SHOWN: usize = 20;

/// Time limit for looking up accounts: NSS may ask a directory server, and a file may have thousands of lines.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);

impl Findings {
    /// Checks `login.toml` in `dir`, and the map files that it names. Returns the settings, if they can be used.
    pub(super) fn login(
        &mut self,
        dir: &Path,
        shared: &Shared,
        trust: FileTrust,
        accounts: &dyn AccountDatabase,
    ) -> Option<LoginSettings> {
        let read = LoginSettings::load(dir, trust, shared);
        let login = self.result("configuration", read, |_| "login.toml".to_owned())?;
        for (path, file) in Maps::load(&login.rules, trust).files() {
            match file {
                Ok(file) => self.map_file(path, file, &shared.issuers, accounts),
                Err(error) => {
                    self.add(PART, Severity::Error, error.to_string(), Some("until then its rules give no account"));
                }
            }
        }
        self.id_tokens(shared, &login);
        Some(login)
    }

    /// Finds providers whose ID tokens a rule would accept as access tokens.
    fn id_tokens(&mut self, shared: &Shared, login: &LoginSettings) {
        let open = |name: &str| login.rules.iter().any(|rule| rule.issuer == name && rule.require_scopes.is_empty());
        for issuer in shared.issuers.iter().filter(|issuer| !issuer.refuses_id_tokens() && open(&issuer.name)) {
            let audience = if issuer.require_audience { "an accepted audience" } else { "any audience" };
            let text = format!(
                "{}: an ID token for {audience}, without nonce and at_hash, would be taken for an access token",
                issuer.name
            );
            let fix = "required_scopes = [\"openid\"] (ID tokens have no scopes), or accept_typ = [\"at+jwt\"] if its access tokens have this typ";
            self.add("issuer", Severity::Warning, text, Some(fix));
        }
    }

    fn map_file(&mut self, path: &Path, file: &MapFile, issuers: &[IssuerSettings], accounts: &dyn AccountDatabase) {
        let path = path.display();
        self.add(PART, Severity::Ok, format!("{path}: {} lines are used", file.used_lines()), None);
        for error in file.errors().iter().take(MOST_SHOWN) {
            self.add(PART, Severity::Error, format!("{path}:{error}"), None);
        }
        let shown = file.errors().len().min(MOST_SHOWN);
        if file.ignored_lines() > shown {
            self.add(PART, Severity::Error, format!("{path}: {} more wrong lines", file.ignored_lines() - shown), None);
        }
        let foreign: Vec<String> = file.unknown_issuer_lines(issuers).map(|line| line.to_string()).collect();
        if !foreign.is_empty() {
            let text =
                format!("{path}: no [[issuer]] has the issuer of {}, so they match no identity", lines(&foreign));
            self.add(PART, Severity::Warning, text, Some("write the name or url of an [[issuer]] in mytoken.toml"));
        }
        let (missing, all) = missing(file, accounts);
        if !missing.is_empty() {
            let text = format!("{path}: this host has no account with exactly the name in {}", lines(&missing));
            self.add(PART, Severity::Warning, text, Some("compare with: getent passwd NAME"));
        }
        if !all {
            let text = format!("{path}: not all accounts were looked up: NSS takes too long or fails");
            self.add(PART, Severity::Warning, text, None);
        }
    }
}

/// The lines whose account NSS does not return under exactly this name, and whether all accounts were looked up.
fn missing(file: &MapFile, accounts: &dyn AccountDatabase) -> (Vec<String>, bool) {
    let began = Instant::now();
    let mut missing = Vec::new();
    for (line, account) in file.named_accounts() {
        if began.elapsed() > LOOKUP_LIMIT {
            return (missing, false);
        }
        match accounts.find(account.as_str()) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(line.to_string()),
            Err(_) => return (missing, false),
        }
    }
    (missing, true)
}

fn lines(numbers: &[String]) -> String {
    let word = if numbers.len() == 1 { "line" } else { "lines" };
    let shown: Vec<&str> = numbers.iter().take(MOST_SHOWN).map(String::as_str).collect();
    let more =
        if numbers.len() > MOST_SHOWN { format!(" and {} more", numbers.len() - MOST_SHOWN) } else { String::new() };
    format!("{word} {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use mytoken::private_files::Owner;
    use mytoken_login::AccountLookupFailed;

    use super::*;

    struct Known;

    impl AccountDatabase for Known {
        fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
            if name == "unlucky" {
                return Err(AccountLookupFailed { reason: "the directory server does not answer".to_owned() });
            }
            Ok(["alice", "4dave"].contains(&name).then_some((2_001, 2_001)))
        }
    }

    fn checked(map: Option<&[u8]>) -> Findings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.map");
        let shared = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://a']\n";
        std::fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
        let login = format!("[[rule]]\nname = 'r'\nissuer = 'op'\nmap_file = '{}'\n", path.display());
        std::fs::write(dir.path().join("login.toml"), login).unwrap();
        if let Some(map) = map {
            std::fs::write(&path, map).unwrap();
        }
        let me = FileTrust::user(Owner::current().uid);
        let mut findings = Findings::default();
        findings.login(dir.path(), &Shared::load(dir.path(), me).unwrap(), me, &Known);
        findings
    }

    fn shown(findings: &Findings) -> Vec<(Severity, String)> {
        let of_map = findings.findings.iter().filter(|finding| finding.part == PART);
        of_map.map(|finding| (finding.level, finding.text.rsplit("users.map").next().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_valid_map_file_has_only_the_finding_of_its_size() {
        let findings = checked(Some(b"op s-1 alice # the boss\nhttps://op.example.org s-2 4dave\n"));
        assert_eq!(shown(&findings), [(Severity::Ok, ": 2 lines are used".to_owned())]);
        assert_ne!(findings.exit_status(), 2);
    }

    #[test]
    fn lines_that_match_no_identity_are_found() {
        let findings = checked(Some(b"op s-1 alice\nop s-1 alice the boss\negi s-3 alice\nop s-4 Alice\nop s\n"));
        let shown = shown(&findings);
        let expected = [
            (Severity::Ok, ": 3 lines are used"),
            (Severity::Error, ":2:14: a fourth field"),
            (Severity::Error, ":5:5: the account is missing"),
            (Severity::Warning, ": no [[issuer]] has the issuer of line 3"),
            (Severity::Warning, ": this host has no account with exactly the name in line 4"),
        ];
        assert_eq!(shown.len(), expected.len(), "{shown:?}");
        for ((level, text), (wanted, start)) in shown.iter().zip(expected) {
            assert!(*level == wanted && text.starts_with(start), "{text} for {start}");
        }
        assert_eq!(findings.exit_status(), 2);
    }

    #[test]
    fn an_account_that_cannot_be_looked_up_is_not_called_missing() {
        let shown = shown(&checked(Some(b"op s-1 alice\nop s-2 unlucky\nop s-3 bob\n")));
        assert!(shown[1].1.contains("not all accounts were looked up") && shown.len() == 2, "{shown:?}");
    }

    #[test]
    fn the_number_of_shown_mistakes_is_limited() {
        let findings = checked(Some("op\n".repeat(3_000).as_bytes()));
        assert_eq!(shown(&findings).last().unwrap().1, ": 2980 more wrong lines");
        assert_eq!(shown(&findings).len(), 22);
    }

    #[test]
    fn a_missing_map_file_is_an_error() {
        let findings = checked(None);
        assert_eq!(findings.findings[0].level, Severity::Ok, "login.toml itself is good");
        assert!((findings.exit_status() == 2) && findings.findings[1].text.contains("cannot read"), "{findings:?}");
    }
}
