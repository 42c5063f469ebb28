// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl check`: findings about this host, each with its fix, on one screen.

mod account_child;
mod agent;
mod as_user;
mod audiences;
mod boot;
mod brokers;
mod configuration;
mod confinement;
mod defaults;
mod drop_ins;
mod host;
mod issuers;
mod key_logins;
mod keys;
pub mod kinds;
pub mod kinds_broker;
pub mod kinds_slurm;
pub mod kinds_user;
mod map_files;
mod mappers;
mod motley_cue;
mod node_answer;
mod node_differences;
mod node_keys;
mod nodes;
mod nss;
mod offers;
mod package_tool;
mod pam;
mod pam_account;
pub mod pam_answers;
mod pam_decisions;
mod pam_files;
mod pam_fixes;
mod pam_module;
mod pam_service;
mod pam_session;
pub mod pam_stack;
mod plugin;
mod plugin_fixes;
mod plugstack;
mod request_limit;
mod running;
mod running_broker;
mod servers;
pub(super) mod slurm;
mod sshd;
mod user_files;
mod validation;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mytoken::cache::DiskCache;
use mytoken::config::{DIRECTORY, FileTrust};
use mytoken::private_files::Owner;
use mytoken_login::{AccountDatabase, LastLogins, LoginSettings};
use serde::{Deserialize, Serialize};

use configuration::word;
use host::{Host, ThisHost};
use kinds::Kind;
use nss::Nss;
use package_tool::PackageTool;

use super::arguments::Launcher;
use crate::jobs::agent_settings::AgentSettings;
use crate::jobs::settings::JobsSettings;

pub use account_child::answer as answer_about_account;
pub use as_user::read as read_as;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// The id of its kind ([`kinds`]); `PART-ok` when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The part of the suite.
    pub part: String,
    /// Its severity.
    pub level: Severity,
    /// The finding, a sentence.
    pub text: String,
    /// The other hosts that found it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// How to fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a host's check compares with those of other hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The version of this program.
    pub version: Option<String>,
    /// The id of the cluster's public key.
    pub public_key: Option<String>,
    /// Whether root made the check; without root, most parts are left out. `None`: an older program does not say it.
    pub as_root: Option<bool>,
}

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions<'a> {
    /// Directory of the configuration.
    pub config: &'a Path,
    /// The agent's socket.
    pub socket: &'a Path,
    /// The account whose logins and files are checked.
    pub user: Option<&'a str>,
    /// Send no request to providers and mytoken servers.
    pub offline: bool,
}

/// All findings.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// In the order in which the parts depend on each other.
    pub findings: Vec<CheckFinding>,
    /// Facts about the host.
    #[serde(default)]
    pub host: HostFacts,
    /// What installs packages on this host.
    #[serde(skip)]
    package_tool: PackageTool,
    /// Directory of the configuration; empty for the usual one.
    #[serde(skip)]
    config: PathBuf,
    /// `srun --help` failed: Slurm's configuration cannot be read, whoever asks.
    #[serde(skip)]
    srun_fails: bool,
}

/// Checks the configuration in its directory, the servers and the agent that it names. As root also sshd and its PAM stacks, and what users
/// must be able to read: for logins and commands of `user` if one is named.
///
/// # Errors
/// A sentence, when a user is named, and the caller is not root or there is no such account.
pub fn check(options: CheckOptions<'_>) -> Result<Findings, String> {
    let CheckOptions { config, socket, user, .. } = options;
    let root = Owner::current().uid == 0;
    if user.is_some() && !root {
        return Err("only root can check as another user; without --as the check runs as you".to_owned());
    }
    let this = ThisHost { nss: Nss::of(user) };
    if let Some(user) = user {
        as_user::account(&this.nss, user)?;
    }
    let host: Option<&dyn Host> = if root { Some(&this) } else { None };
    let mut findings = check_with(FileTrust::current(), options, &this.nss, host);
    findings.host.as_root = Some(root);
    if root {
        findings.read_as(&this.nss, user, config, socket);
    } else {
        findings.ok("host", "sshd, PAM, Slurm, and what users can read were not checked: only root can");
    }
    findings.silence(&this.nss);
    Ok(findings)
}

/// Checks other hosts as well. `list` as for Slurm, for example `n[1-99]`.
///
/// # Errors
/// A sentence, when the caller is not root, the list cannot be used, or the launcher is not on this host.
pub fn check_nodes(options: CheckOptions<'_>, list: &str, launcher: Launcher) -> Result<Findings, String> {
    if Owner::current().uid != 0 {
        return Err("only root can check other hosts".to_owned());
    }
    let jobs = JobsSettings::load_alone(options.config, FileTrust::current());
    let mut findings = check(options)?;
    nodes::add_nodes(&mut findings, list, launcher, jobs.ok().as_ref())?;
    Ok(findings)
}

fn check_with(
    trust: FileTrust,
    options: CheckOptions<'_>,
    accounts: &dyn AccountDatabase,
    host: Option<&dyn Host>,
) -> Findings {
    let CheckOptions { config: dir, socket, offline, .. } = options;
    let package_tool = PackageTool::of(host.unwrap_or(&ThisHost::default()));
    let mut findings = Findings { package_tool, config: dir.to_owned(), ..Findings::default() };
    findings.host.version = Some(running::VERSION.to_owned());
    let shared = findings.shared(dir, trust);
    let login = shared.as_ref().and_then(|shared| findings.login_settings(dir, shared, trust, accounts, host));
    // The module reads these rules also when it can use nothing else.
    let last_logins = findings.key_logins(dir, trust, &LastLogins::of_host(), host.is_some());
    // Several parts ask, and the answer can need a command of Slurm.
    let loads_us = LazyCell::new(|| host.is_some() && (slurm::is_in_slurmd() || slurm::loads_us(None)));
    let jobs = shared.as_ref().and_then(|shared| findings.jobs_settings(dir, shared, trust, &|| *loads_us));
    findings.drop_ins(dir);
    if let (Some(shared), Some(login)) = (&shared, &login) {
        findings.map_files(login, &shared.issuers, trust, accounts);
        findings.mappers(login, trust, accounts);
        findings.id_tokens(shared, login);
    }
    // A fault of a file of ours must not hide what keeps people out, or what hurts jobs, whatever that file says.
    let serves_logins = login.is_some() || configuration::exists(&dir.join("login.toml"));
    if let Some(host) = host.filter(|host| serves_logins || pam::sshd_asks_us(*host)) {
        findings.logins(host, options, login.as_ref(), trust);
    }
    let serves_jobs = configuration::exists(&dir.join("jobs.toml"));
    // The file's own values, if it or mytoken.toml has a fault elsewhere. Without the file, the agent has its defaults.
    let unused = if jobs.is_none() && serves_jobs { JobsSettings::unchecked(dir, trust).ok() } else { None };
    let is_whole = |jobs: &JobsSettings| {
        jobs.agent.runtime_dir.is_absolute() && jobs.agent.squeue.as_ref().is_none_or(|path| path.is_absolute())
    };
    let unused = unused.filter(is_whole);
    let agent = match jobs.as_ref().or(unused.as_ref()) {
        Some(jobs) => Some(jobs.agent.clone()),
        None if serves_jobs => None,
        None => Some(AgentSettings::default()),
    };
    if let Some(shared) = &shared {
        findings.audiences(shared, login.as_ref(), jobs.as_ref());
    }
    if let Some(jobs) = &jobs {
        findings.keys(jobs, trust);
        findings.brokers(jobs, trust);
    }
    if let Some(host) = host {
        let told = agent.as_ref().map(|agent| findings.runtime_dir(&agent.runtime_dir)).unwrap_or_default();
        if login.is_some() {
            findings.cache(&DiskCache::of_host(), &told);
        }
        let proxy = shared.as_ref().filter(|_| login.is_some()).map(|shared| shared.http.proxy.as_str());
        findings.confinement(host, proxy, last_logins.as_deref());
    }
    let mut limits = Vec::new();
    if offline {
        // Certificates and settings of requests are files of this host.
        if let Some(shared) = &shared {
            findings.http(shared);
        }
        findings.ok("network", "no request was sent to providers and mytoken servers (--offline)");
    } else if let Some(shared) = &shared {
        if let Some(login) = &login {
            findings.motley_cues(shared, login);
        }
        limits = findings.network(shared, login.as_ref(), jobs.as_ref());
    }
    // An agent does not start without mytoken.toml.
    if shared.is_some() || socket.exists() {
        findings.agent(socket, jobs.as_ref(), trust);
    }
    if let Some(host) = host {
        findings.starts_at_boot(host);
        let nodes = if serves_jobs || *loads_us { findings.slurm(jobs.as_ref(), agent.as_ref()) } else { None };
        if let (Some(shared), Some(jobs), Some(nodes)) = (&shared, &jobs, nodes) {
            findings.direct_mode(&jobs.broker, nodes);
            // Brokers send one request for all nodes of a submission.
            if !jobs.broker.is_used() {
                findings.request_limits(shared, login.as_ref(), jobs, &limits, nodes);
            }
        }
    }
    findings
}

impl Findings {
    /// sshd, and the stacks of the services that ask our module. Without `login`, whose file has a fault, what does not depend on it.
    fn logins(&mut self, host: &dyn Host, options: CheckOptions<'_>, login: Option<&LoginSettings>, trust: FileTrust) {
        let CheckOptions { config: dir, user, .. } = options;
        let mapped = login.map(|login| map_files::named(login, trust)).unwrap_or_default();
        let sshd = self.sshd(host, user, login, &mapped);
        let listed = match login {
            Some(login) => Some(login.services.clone()),
            None => LoginSettings::readable_services(dir, trust),
        };
        let services = listed.clone().unwrap_or_else(|| LoginSettings::default().services);
        for service in Self::checked_services(host, &services, &sshd) {
            // Of a service that is not known to be listed, a stack without us is no fault.
            if listed.is_some() || pam::asks_us(host, &service) {
                self.pam(host, &service, dir, login.map(|login| &*login.services));
            }
        }
        self.nologin(host, &sshd);
        if let Some(login) = login {
            self.pam_account(host, &sshd, user, login, &mapped);
        }
        self.pam_module(host, &sshd);
    }

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

    /// The findings that are not about something that works.
    fn problems(&self) -> impl Iterator<Item = &CheckFinding> {
        self.findings.iter().filter(|finding| finding.level != Severity::Ok)
    }

    fn has(&self, kind: Kind) -> bool {
        self.findings.iter().any(|finding| finding.id.as_deref() == Some(kind.id))
    }

    /// Adds that a part works.
    fn ok(&mut self, part: &str, text: impl Into<String>) {
        self.findings.push(CheckFinding {
            id: Some(format!("{}-ok", part.replace(' ', "-").to_lowercase())),
            part: part.to_owned(),
            level: Severity::Ok,
            text: text.into(),
            hosts: Vec::new(),
            fix: None,
        });
    }

    fn add_kind(&mut self, kind: Kind, text: impl Into<String>) {
        let fix = self.package_tool.fix(kind);
        // Keys have a directory of their own, and AppArmor confines programs that read the usual one.
        let usual = ["private key", "AppArmor"].contains(&kind.part) || self.config.as_os_str().is_empty();
        let dir = if usual { DIRECTORY.to_owned() } else { word(&self.config.to_string_lossy()) };
        self.add_fixed(kind, text, fix.replace(DIRECTORY, &dir));
    }

    /// Adds a finding whose command depends on it.
    fn add_fixed(&mut self, kind: Kind, text: impl Into<String>, fix: String) {
        self.findings.push(CheckFinding {
            id: Some(kind.id.to_owned()),
            part: kind.part.to_owned(),
            level: kind.level,
            text: text.into(),
            hosts: Vec::new(),
            fix: (!fix.is_empty()).then_some(fix),
        });
    }

    /// The findings for a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let (mut text, mut commands) = (String::new(), BTreeSet::new());
        for finding in &self.findings {
            let mark = match finding.level {
                Severity::Ok => '✓',
                Severity::Warning => '!',
                Severity::Error => '✗',
            };
            let _ = writeln!(text, "{:<15} {mark} {}", finding.part, finding.text);
            if let Some(fix) = &finding.fix {
                // One command can mend several findings.
                let shown = if commands.insert(fix) { fix.as_str() } else { "# the same command as above" };
                let _ = writeln!(text, "{:<17} fix: {shown}", "");
            }
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let _ = writeln!(text, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings));
        text
    }
}

#[cfg(test)]
mod tests;
