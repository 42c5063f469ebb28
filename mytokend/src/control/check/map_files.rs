// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the map files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use mytoken::Error;
use mytoken::config::{FileTrust, IssuerSettings};
use mytoken_login::{AccountDatabase, AccountSettings, LocalAccount, LoginSettings, MapFile, Mapping, Maps, Rule};

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
                Ok(file) => self.map_file(login, path, file, issuers, accounts),
                Err(error) => {
                    let text = format!("{error}; until then its rules give no account");
                    match &error.cause {
                        Some(cause) => self.add_file_error(kinds::MAP_UNUSABLE, &Error::Config(cause.clone()), &text),
                        None => self.add_kind(kinds::MAP_UNUSABLE, text),
                    }
                }
            }
        }
    }

    fn map_file(
        &mut self,
        login: &LoginSettings,
        path: &Path,
        file: &MapFile,
        issuers: &[IssuerSettings],
        accounts: &dyn AccountDatabase,
    ) {
        let opened = Opened::by(login, path);
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
        let LookedUp { missing, closed, stopped } = looked_up(file, &opened, accounts);
        if let Some((_, first)) = missing.first() {
            let numbers: Vec<String> = missing.iter().map(|(line, _)| line.to_string()).collect();
            let text = format!("{path}: this host has no account with exactly the name in {}", lines(&numbers));
            self.add_fixed(kinds::MAP_ACCOUNT, text, format!("getent passwd {}", word(first)));
        }
        if !closed.is_empty() {
            let numbers: Vec<String> = closed.iter().map(ToString::to_string).collect();
            let text = format!(
                "{path}: the account of {} is a system account, which login.toml does not open (allow_system, deny)",
                lines(&numbers)
            );
            self.add_kind(kinds::MAP_CLOSED, text);
        }
        if file.used_lines() == 0 && file.ignored_lines() == 0 {
            let text = format!("{path} has no line: its rules give no account");
            self.add_fixed(kinds::MAP_EMPTY, text, edit(&path.to_string()));
        }
        if let Some((account, reason)) = stopped {
            let text = format!("{path}: not all accounts were looked up: {reason}");
            let fix = format!("timeout 10 getent passwd {}   # does the directory server answer?", word(account));
            self.add_fixed(kinds::MAP_LOOKUP, text, fix);
        }
        if self.findings.len() == before {
            let used = file.used_lines();
            let are = if used == 1 { "line is" } else { "lines are" };
            self.ok(PART, format!("{path}: {used} {are} used"));
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

/// What looking up the accounts of a file shows.
#[derive(Default)]
struct LookedUp<'a> {
    /// The lines whose account NSS does not return under exactly this name.
    missing: Vec<Line<'a>>,
    /// The lines with a system account that no rule with this file opens.
    closed: Vec<usize>,
    /// The account at which NSS was asked no more, and why.
    stopped: Option<(&'a str, String)>,
}

/// Which system accounts the rules with a map file can open.
struct Opened<'a> {
    accounts: &'a AccountSettings,
    system: bool,
}

impl<'a> Opened<'a> {
    fn by(login: &'a LoginSettings, path: &Path) -> Self {
        let has_file = |rule: &&Rule| matches!(&rule.mapping, Mapping::File(file) if file == path);
        let system = login.rules.iter().filter(has_file).any(Rule::opens_system_accounts);
        Self { accounts: &login.accounts, system }
    }

    fn has(&self, name: &str, uid: u32, gid: u32) -> bool {
        let is_in = |names: &[String]| names.iter().any(|other| other == name);
        // An ordinary account in `deny` was put there although a line opens it, or because of that.
        let is_ordinary = !LocalAccount::new(name, uid, gid, self.accounts).system;
        is_ordinary || (self.system && is_in(&self.accounts.allow_system) && !is_in(&self.accounts.deny))
    }
}

/// Looks up each account once: one person can have many identities, and NSS may ask a directory server.
fn looked_up<'a>(file: &'a MapFile, opened: &Opened<'_>, accounts: &dyn AccountDatabase) -> LookedUp<'a> {
    let began = Instant::now();
    let mut known: BTreeMap<&str, Option<(u32, u32)>> = BTreeMap::new();
    let mut all = LookedUp::default();
    for (line, account) in file.named_accounts() {
        let account = account.as_str();
        let found = match known.get(account) {
            Some(found) => *found,
            None if began.elapsed() > LOOKUP_LIMIT => {
                let reason = format!("NSS needs more than {} s for them", LOOKUP_LIMIT.as_secs());
                return LookedUp { stopped: Some((account, reason)), ..all };
            }
            None => match accounts.find(account) {
                Ok(found) => found,
                Err(error) => return LookedUp { stopped: Some((account, error.reason)), ..all },
            },
        };
        known.insert(account, found);
        match found {
            None => all.missing.push((line, account)),
            Some((uid, gid)) if !opened.has(account, uid, gid) => all.closed.push(line),
            Some(_) => {}
        }
    }
    all
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
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Severity;
    use mytoken::config::Shared;
    use mytoken::private_files::Owner;
    use mytoken_login::AccountLookupFailed;

    use super::*;

    #[derive(Default)]
    struct Known(Cell<usize>);

    impl AccountDatabase for Known {
        fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
            self.0.set(self.0.get() + 1);
            if name == "root" {
                return Ok(Some((0, 0)));
            }
            if name == "unlucky" {
                return Err(AccountLookupFailed { reason: "the directory server does not answer".to_owned() });
            }
            Ok(["alice", "4dave"].contains(&name).then_some((2_001, 2_001)))
        }
    }

    fn checked(map: Option<&[u8]>) -> Findings {
        checked_with(map, 0o644, "", &Known::default())
    }

    fn checked_with(map: Option<&[u8]>, mode: u32, settings: &str, accounts: &Known) -> Findings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.map");
        let shared = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['https://a']\n";
        std::fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
        let login = format!(
            "{settings}\n[[rule]]\nname = 'r'\nissuer = 'op'\nmap_file = '{}'\nrequire_acr = ['2']\n",
            path.display()
        );
        std::fs::write(dir.path().join("login.toml"), login).unwrap();
        if let Some(map) = map {
            std::fs::write(&path, map).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let me = FileTrust::user(Owner::current().uid);
        let mut findings = Findings::default();
        let shared = Shared::load(dir.path(), me).unwrap();
        let login = LoginSettings::load(dir.path(), me, &shared).unwrap();
        findings.map_files(&login, &shared.issuers, me, accounts);
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
        let one = shown(&checked(Some(b"# one\nop s-1 alice\n")));
        assert_eq!(one, [(Severity::Ok, ": 1 line is used".to_owned())]);
    }

    #[test]
    fn a_file_that_opens_no_account_is_not_fine() {
        for map in [&b""[..], b"# nobody yet\n\n"] {
            let findings = checked(Some(map));
            let expected = " has no line: its rules give no account".to_owned();
            assert_eq!(shown(&findings), [(Severity::Warning, expected)]);
            assert_eq!(findings.findings[0].id.as_deref(), Some("map-file-empty"));
        }
        for (settings, line) in [("", "line 2"), ("[accounts]\nallow_system = ['root']", "line 2")] {
            let findings = checked_with(Some(b"op s-1 alice\nop s-2 root\n"), 0o644, settings, &Known::default());
            let [found] = &findings.findings[..] else { panic!("{findings:?}") };
            assert!(found.id.as_deref() == Some("map-file-account-closed") && found.text.contains(line), "{found:?}");
        }
        for (map, settings) in [
            (&b"op s-2 root\n"[..], "[accounts]\ndeny = []\nallow_system = ['root']"),
            // Somebody keeps this account out.
            (b"op s-1 alice\n", "[accounts]\ndeny = ['alice']"),
        ] {
            let findings = checked_with(Some(map), 0o644, settings, &Known::default());
            assert_eq!(shown(&findings), [(Severity::Ok, ": 1 line is used".to_owned())], "{settings}");
        }
    }

    #[test]
    fn each_name_is_looked_up_once() {
        let known = Known::default();
        let map =
            (0..60_000).map(|number| format!("op s-{number} {}\n", if number % 2 == 0 { "alice" } else { "bob" }));
        let findings = checked_with(Some(map.collect::<String>().as_bytes()), 0o644, "", &known);
        assert_eq!(known.0.get(), 2);
        assert_eq!(findings.findings.len(), 1, "{findings:?}");
        assert!(findings.findings[0].text.contains("lines 2, 4, 6, 8, 10 and 29995 more"), "{findings:?}");
    }

    #[test]
    fn the_command_for_a_file_that_others_can_write_closes_it() {
        let findings = checked_with(Some(b"op s-1 alice\n"), 0o666, "", &Known::default());
        let [found] = &findings.findings[..] else { panic!("{findings:?}") };
        assert_eq!(found.id.as_deref(), Some("map-file-unusable"));
        let (fix, text) = (found.fix.as_deref().unwrap(), &found.text);
        assert!(fix.starts_with("chmod go-w ") && fix.ends_with("users.map"), "{fix}");
        assert!(
            !text.contains("run:") && text.ends_with("(mode 0666); until then its rules give no account"),
            "{text}"
        );
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
