// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check`: findings about this host, each with its fix, on one screen.

mod agent;
mod confinement;
mod host;
pub mod kinds;
pub mod kinds_slurm;
mod login;
mod pam;
pub mod pam_stack;
mod plugin;
mod plugstack;
mod slurm;
mod sshd;

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mytoken::cache::DiskCache;
use mytoken::config::{FileTrust, Shared};
use mytoken::http::{DOCUMENT_LIMIT, HttpClient};
use mytoken::private_files::Owner;
use mytoken::server::Server;
use mytoken::{Deadline, Error};
use mytoken_login::NssAccounts;
use mytoken_wire::paths::RUNTIME;
use serde::Serialize;

use host::{Host, ThisHost};
use kinds::Kind;

use crate::jobs::keys::{PrivateKey, PublicKey};
use crate::jobs::settings::JobsSettings;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It works.
    Ok,
    /// It works, but not for long or not for all users.
    Warning,
    /// It does not work.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// The id of its kind, if it has one ([`kinds`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The part of the suite.
    pub part: String,
    /// Its severity.
    pub level: Severity,
    /// The finding, a sentence.
    pub text: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// All findings.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// In the order in which the parts depend on each other.
    pub findings: Vec<CheckFinding>,
}

/// Time limit for the requests to one server.
const NETWORK: Duration = Duration::from_secs(10);

/// Difference of two clocks in seconds above which tokens expire early or become valid late.
const SKEW: i64 = 10;

/// By how many seconds `server` is ahead of `here`.
fn seconds_ahead(server: SystemTime, here: SystemTime) -> i64 {
    let seconds = |difference: Duration| i64::try_from(difference.as_secs()).unwrap_or(i64::MAX);
    match server.duration_since(here) {
        Ok(ahead) => seconds(ahead),
        Err(error) => -seconds(error.duration()),
    }
}

/// Checks the configuration in `dir`, the servers and the agent that it names, and for root sshd and its PAM stacks, for logins
/// of `user` if one is named.
#[must_use]
pub fn check(dir: &Path, socket: &Path, user: Option<&str>) -> Findings {
    let host: Option<&dyn Host> = if Owner::current().uid == 0 { Some(&ThisHost) } else { None };
    check_with(FileTrust::current(), dir, socket, host, user)
}

fn check_with(trust: FileTrust, dir: &Path, socket: &Path, host: Option<&dyn Host>, user: Option<&str>) -> Findings {
    let mut findings = Findings::default();
    let Some(shared) = findings.result("configuration", Shared::load(dir, trust), |_| "mytoken.toml".to_owned()) else {
        return findings;
    };
    if exists(&dir.join("login.toml")) {
        let login = findings.login(dir, &shared, trust, &NssAccounts);
        if let (Some(login), Some(host)) = (login, host) {
            findings.sshd(host, user, login.deadline.get());
            for service in &login.services {
                findings.pam(host, service);
            }
            findings.pam_version(host);
        }
    }
    let jobs = if exists(&dir.join("jobs.toml")) {
        findings.result("configuration", JobsSettings::load(dir, trust, &shared), |jobs| {
            let profiles: Vec<&str> = jobs.profile.iter().map(|profile| profile.name.as_str()).collect();
            format!("jobs.toml: cluster {}, profiles {}", jobs.cluster.name, profiles.join(" "))
        })
    } else {
        None
    };
    if let Some(jobs) = &jobs {
        findings.keys(jobs, trust);
    }
    if host.is_some() {
        // Before the cache, which corrects the directory's mode.
        findings.runtime_dir(jobs.as_ref().map_or(Path::new(RUNTIME), |jobs| &jobs.agent.runtime_dir));
    }
    if Owner::current().uid == 0 && exists(&dir.join("login.toml")) {
        findings.cache(&DiskCache::of_host());
    }
    findings.servers(&shared);
    findings.agent(socket, jobs.as_ref(), trust);
    if let Some(host) = host {
        findings.confinement(host);
        if let Some(jobs) = &jobs {
            findings.slurm(jobs);
        }
    }
    findings
}

/// Whether there is a file or a symbolic link, even a broken one.
fn exists(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

impl Findings {
    /// The exit status: 0 when all is well, 1 with warnings, 2 with errors.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match (self.count(Severity::Error), self.count(Severity::Warning)) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }

    fn count(&self, level: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    fn add(&mut self, part: &str, level: Severity, text: impl Into<String>, fix: Option<&str>) {
        self.findings.push(CheckFinding {
            id: None,
            part: part.to_owned(),
            level,
            text: text.into(),
            fix: fix.map(str::to_owned),
        });
    }

    fn add_kind(&mut self, kind: Kind, text: impl Into<String>) {
        self.findings.push(CheckFinding {
            id: Some(kind.id.to_owned()),
            part: kind.part.to_owned(),
            level: kind.level,
            text: text.into(),
            fix: (!kind.fix.is_empty()).then(|| kind.fix.to_owned()),
        });
    }

    fn result<T, E: std::fmt::Display>(
        &mut self,
        part: &str,
        result: Result<T, E>,
        describe: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.add(part, Severity::Ok, describe(&value), None);
                Some(value)
            }
            // The error says how to fix it.
            Err(error) => {
                self.add(part, Severity::Error, error.to_string(), None);
                None
            }
        }
    }

    fn keys(&mut self, jobs: &JobsSettings, trust: FileTrust) {
        let (public_file, private_file) = (&jobs.cluster.public_key_file, &jobs.cluster.private_key_file);
        let make = "on one host: mytokenctl keygen; then copy cluster.pub to every host and cluster.key (mode 0600) to the nodes";
        let public = match PublicKey::load(public_file, trust) {
            Ok(public) => {
                self.add("public key", Severity::Ok, format!("{} ({})", public.id(), public_file.display()), None);
                Some(public)
            }
            Err(error) => {
                self.add("public key", Severity::Error, error.to_string(), Some(make));
                None
            }
        };
        if !exists(private_file) {
            let text = format!("{} does not exist; correct on a login host, wrong on a node", private_file.display());
            return self.add("private key", Severity::Ok, text, None);
        }
        if Owner::current().uid != 0 && std::fs::metadata(private_file).is_ok_and(|meta| meta.uid() == 0) {
            return self.add("private key", Severity::Ok, "only root can check it", None);
        }
        match (PrivateKey::load(private_file, trust), public) {
            (Err(error), _) => {
                let fix = format!("chown root: {0} && chmod 600 {0}", private_file.display());
                self.add("private key", Severity::Error, error.to_string(), Some(&fix));
            }
            (Ok(private), Some(public)) if private.id() != public.id() => {
                let text = format!("{} does not belong to the public key {}", private.id(), public.id());
                self.add(
                    "private key",
                    Severity::Error,
                    text,
                    Some("copy cluster.pub and cluster.key from the same host"),
                );
            }
            (Ok(private), _) => {
                self.add("private key", Severity::Ok, format!("{} ({})", private.id(), private_file.display()), None);
            }
        }
    }

    fn cache(&mut self, cache: &DiskCache) {
        let errors = cache.check();
        // One of the two directories is enough.
        let level = if errors.len() > 1 { Severity::Error } else { Severity::Warning };
        for error in errors {
            let fix = "make it a directory of root with mode 0700 and with free space, or remove it";
            self.add("cache", level, error.to_string(), Some(fix));
        }
    }

    fn servers(&mut self, shared: &Shared) {
        if shared.servers.is_empty() {
            self.add("mytoken server", Severity::Warning, "none is configured; logins accept access tokens only", None);
        }
        for named in &shared.servers {
            let deadline = Deadline::after(NETWORK);
            let found = shared.server_url(&named.name).map_err(Error::from).and_then(|url| {
                let http = HttpClient::new(&shared.http_settings())?;
                let version = Server::discover(&http, &url, deadline)?.discovery().version.clone();
                let again =
                    http.get(&format!("{url}/.well-known/mytoken-configuration"), None, deadline, DOCUMENT_LIMIT)?;
                Ok((version, again.date.map(|date| seconds_ahead(date, SystemTime::now()))))
            });
            match found {
                Ok((version, skew)) => {
                    let release = version.map(|version| format!(" {version}")).unwrap_or_default();
                    // The Date header has whole seconds.
                    let clock = skew.filter(|skew| skew.abs() > 2).map(|skew| format!(", its clock differs by {skew:+} s"));
                    let text = format!("{}{release}{}", named.url, clock.unwrap_or_default());
                    // MT-08: the server allows no leeway. A token from a clock that is ahead is not valid yet.
                    if skew.is_some_and(|skew| skew.abs() > SKEW) {
                        let fix = "set both clocks by NTP: timedatectl set-ntp true";
                        self.add("mytoken server", Severity::Warning, text, Some(fix));
                    } else {
                        self.add("mytoken server", Severity::Ok, text, None);
                    }
                }
                Err(error) => self.add(
                    "mytoken server",
                    Severity::Error,
                    error.to_string(),
                    Some("compare [[server]] url, [http] ca_file and proxy in mytoken.toml with: curl -v URL/.well-known/mytoken-configuration"),
                ),
            }
        }
    }

    /// The findings for a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mark = match finding.level {
                Severity::Ok => '✓',
                Severity::Warning => '!',
                Severity::Error => '✗',
            };
            let _ = writeln!(text, "{:<15} {mark} {}", finding.part, finding.text);
            if let Some(fix) = &finding.fix {
                let _ = writeln!(text, "{:<17} fix: {fix}", "");
            }
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let _ = writeln!(text, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::keygen::keygen;

    fn site(keys: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        // No server listens on port 9 of this machine.
        let shared = "[http]\nallow_loopback_http = true\n[[server]]\nname = 't'\nurl = 'http://127.0.0.1:9'\n";
        let jobs = format!(
            "[cluster]\nname = 'c'\npublic_key_file = '{path}/keys/cluster.pub'\nprivate_key_file = '{path}/keys/cluster.key'\n\
             [[profile]]\nname = 'default'\nserver = 't'\nscope = 'a'\naudience = 'https://x'\n"
        );
        std::fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        if keys {
            keygen(&dir.path().join("keys"), "").unwrap();
        }
        dir
    }

    /// With the trust for a directory below /tmp, where root's configuration must not be.
    fn check(dir: &Path, socket: &Path) -> Findings {
        check_with(FileTrust::user(Owner::current().uid), dir, socket, None, None)
    }

    fn levels(findings: &Findings, part: &str) -> Vec<Severity> {
        findings.findings.iter().filter(|finding| finding.part == part).map(|finding| finding.level).collect()
    }

    #[test]
    fn each_error_is_found_with_its_fix() {
        let dir = site(true);
        let findings = check(dir.path(), &dir.path().join("agent.sock"));
        assert_eq!(levels(&findings, "configuration"), [Severity::Ok, Severity::Ok]);
        assert_eq!(levels(&findings, "public key"), [Severity::Ok]);
        assert_eq!(levels(&findings, "private key"), [Severity::Ok]);
        assert_eq!(levels(&findings, "mytoken server"), [Severity::Error]);
        assert_eq!(levels(&findings, "agent"), [Severity::Error]);
        let screen = findings.render();
        assert!(
            screen.contains("mytokend agent   # as root, and at every start of this host\n")
                && screen.ends_with("2 errors, 0 warnings\n"),
            "{screen}"
        );
    }

    #[test]
    fn clocks_are_compared_in_both_directions() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(seconds_ahead(now + Duration::from_secs(30), now), 30);
        assert_eq!(seconds_ahead(now, now + Duration::from_secs(30)), -30);
    }

    #[test]
    fn keys_of_different_pairs_are_found() {
        let (dir, other) = (site(true), site(true));
        std::fs::copy(other.path().join("keys/cluster.pub"), dir.path().join("keys/cluster.pub")).unwrap();
        assert_eq!(levels(&check(dir.path(), Path::new("/nonexistent")), "private key"), [Severity::Error]);
        let without = site(false);
        assert_eq!(levels(&check(without.path(), Path::new("/nonexistent")), "public key"), [Severity::Error]);
    }

    #[test]
    fn providers_whose_id_tokens_could_log_in_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = "[[issuer]]\nname = 'op'\nurl = 'https://op.example.org'\naudiences = ['a']\n";
        let rule = "[[rule]]\nname = 'r'\nissuer = 'op'\ntemplate = '{sub}'\n";
        for (more, of_rule, found) in [
            ("", "", vec![Severity::Warning]),
            ("required_scopes = ['openid']", "", vec![]),
            ("accept_typ = ['application/AT+JWT']", "", vec![]),
            ("accept_typ = ['at+jwt', 'JWT']", "", vec![Severity::Warning]),
            ("", "require_scopes = ['openid']", vec![]),
        ] {
            std::fs::write(dir.path().join("mytoken.toml"), format!("{issuer}{more}\n")).unwrap();
            std::fs::write(dir.path().join("login.toml"), format!("{rule}{of_rule}\n")).unwrap();
            let findings = check(dir.path(), Path::new("/nonexistent"));
            assert_eq!(levels(&findings, "issuer"), found, "{more} {of_rule}: {}", findings.render());
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let broken = DiskCache::new(&dir.path().join("file/var"), Owner::current());
        for (second, level) in [("run/cache", Severity::Warning), ("file/run/cache", Severity::Error)] {
            let mut findings = Findings::default();
            findings.cache(&broken.clone().or(&dir.path().join(second)));
            assert_eq!(findings.findings[0].level, level, "{findings:?}");
        }
        let mut findings = Findings::default();
        findings.cache(&DiskCache::new(&dir.path().join("cache"), Owner::current()));
        assert!(findings.findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_broken_configuration_is_the_only_finding() {
        let dir = site(true);
        std::fs::write(dir.path().join("mytoken.toml"), "[http]\nproxi = ''").unwrap();
        let findings = check(dir.path(), Path::new("/nonexistent"));
        assert_eq!(findings.findings.len(), 1);
        assert!((findings.exit_status() == 2) && findings.findings[0].text.contains("proxy"), "{findings:?}");
    }
}
