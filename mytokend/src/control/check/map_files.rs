// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the map files.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mytoken::config::{FileTrust, IssuerSettings};
use mytoken_login::{AccountDatabase, LoginSettings, MapFile, Maps};

use super::configuration::{edit, word};
use super::{Findings, kinds};

const PART: &str = "map file";

/// Maximum number of wrong lines of a file that are shown, and of line numbers in a sentence.
const MOST_SHOWN: usize = 5;

/// Time limit for looking up accounts: NSS may ask a directory server, and a file may have thousands of lines.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);

impl Findings {
    /// Checks the map files that the rules name.
    pub(super) fn map_files(
        &mut self,
        login: &LoginSettings,
        issuers: &[IssuerSettings],
        trust: FileTrust,
        accounts: &dyn AccountDatabase,
    ) {
        for (path, file) in Maps::load(&login.rules, trust).files() {
            match file {
                Ok(file) => self.map_file(path, file, issuers, accounts),
                Err(error) => {
                    let text = format!("{error}; until then its rules give no account");
                    self.add_fixed(kinds::MAP_UNUSABLE, text, format!("namei -l {}", word(&path.to_string_lossy())));
                }
            }
        }
    }

    fn map_file(&mut self, path: &Path, file: &MapFile, issuers: &[IssuerSettings], accounts: &dyn AccountDatabase) {
        let path = path.display();
        let before = self.findings.len();
        for error in file.errors().iter().take(MOST_SHOWN) {
            self.add_fixed(kinds::MAP_LINE, format!("{path}:{error}"), edit(&format!("{path}:{}", error.line)));
        }
        let shown = file.errors().len().min(MOST_SHOWN);
        if file.ignored_lines() > shown {
            let text = format!("{path}: {} more wrong lines", file.ignored_lines() - shown);
            self.add_fixed(kinds::MAP_LINE, text, edit(&path.to_string()));
        }
        let foreign: Vec<String> = file.unknown_issuer_lines(issuers).map(|line| line.to_string()).collect();
        if !foreign.is_empty() {
            let text =
                format!("{path}: no [[issuer]] has the issuer of {}, so they match no identity", lines(&foreign));
            self.add_kind(kinds::MAP_ISSUER, text);
        }
        let (missing, stopped) = missing(file, accounts);
        if let Some((_, first)) = missing.first() {
            let numbers: Vec<String> = missing.iter().map(|(line, _)| line.to_string()).collect();
            let text = format!("{path}: this host has no account with exactly the name in {}", lines(&numbers));
            self.add_fixed(kinds::MAP_ACCOUNT, text, format!("getent passwd {}", word(first)));
        }
        if let Some((account, reason)) = stopped {
            let text = format!("{path}: not all accounts were looked up: {reason}");
            let fix = format!("timeout 10 getent passwd {}   # does the directory server answer?", word(account));
            self.add_fixed(kinds::MAP_LOOKUP, text, fix);
        }
        if self.findings.len() == before {
            self.ok(PART, format!("{path}: {} lines are used", file.used_lines()));
        }
    }
}

/// The accounts that the map files name, each once.
pub(super) fn named(login: &LoginSettings, trust: FileTrust) -> Vec<String> {
    let maps = Maps::load(&login.rules, trust);
    let files = maps.files().filter_map(|(_, file)| file.as_ref().ok());
    let names = files.flat_map(MapFile::named_accounts).map(|(_, account)| account.as_str().to_owned());
    names.collect::<BTreeSet<String>>().into_iter().collect()
}

/// A line with its account.
type Line<'a> = (usize, &'a str);

/// The lines whose account NSS does not return under exactly this name. Also the account at which it was asked no more, and why.
fn missing<'a>(file: &'a MapFile, accounts: &dyn AccountDatabase) -> (Vec<Line<'a>>, Option<(&'a str, String)>) {
    let began = Instant::now();
    let mut missing = Vec::new();
    for (line, account) in file.named_accounts() {
        let account = account.as_str();
        if began.elapsed() > LOOKUP_LIMIT {
            let reason = format!("NSS needs more than {} s for them", LOOKUP_LIMIT.as_secs());
            return (missing, Some((account, reason)));
        }
        match accounts.find(account) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push((line, account)),
            Err(error) => return (missing, Some((account, error.reason))),
        }
    }
    (missing, None)
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
    use super::super::Severity;
    use mytoken::config::Shared;
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
        let shared = Shared::load(dir.path(), me).unwrap();
        let login = LoginSettings::load(dir.path(), me, &shared).unwrap();
        findings.map_files(&login, &shared.issuers, me, &Known);
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
        let reason = ": not all accounts were looked up: the directory server does not answer";
        assert!(shown[0].1 == reason && shown.len() == 1, "{shown:?}");
    }

    #[test]
    fn the_number_of_shown_mistakes_is_limited() {
        let findings = checked(Some("op\n".repeat(3_000).as_bytes()));
        assert_eq!(shown(&findings).last().unwrap().1, ": 2995 more wrong lines");
        assert_eq!(shown(&findings).len(), 6);
    }

    #[test]
    fn a_missing_map_file_is_an_error() {
        let findings = checked(None);
        assert!((findings.exit_status() == 2) && findings.findings[0].text.contains("cannot read"), "{findings:?}");
        assert_eq!(findings.findings[0].id.as_deref(), Some("map-file-unusable"));
    }
}
