// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads what users' commands read, with the rights of a user.
//!
//! Rights of files are decided by the kernel, access lists and security modules included. So root starts this program again
//! ([`ask_child`]); the child gives up root's rights and reads with the functions of `mytoken-submit` ([`read`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mytoken::config::{ConfigError, FileTrust, Shared};
use mytoken::http::{HttpClient, HttpError};
use mytoken::{Deadline, Error};
use mytoken_wire::printable;
use nix::unistd::{AccessFlags, Gid, Uid, User, access, initgroups, setgid, setuid};

use super::configuration::{exists, word};
use super::nss::{NoAnswer, Nss};
use super::user_files::{LONGEST, Places, as_user};
use super::{CheckFinding, Findings, Severity, kinds, kinds_slurm, kinds_user, slurm};
use crate::jobs::SealError;
use crate::jobs::keys::PublicKey;
use crate::jobs::settings::JobsSettings;
use crate::{program, terminal};

const PART: &str = "configuration";

/// The account for what every user must be able to read.
const ANYBODY: &str = "nobody";

/// The most findings of one kind that are shown: a user can make any number of files.
const MOST: usize = 20;

/// Time limit of the child: its files may be on a file system that hangs, and NSS may ask a directory server.
const LIMIT: Duration = Duration::from_secs(30);

/// What users lack who cannot read the configuration.
const NO_TOKEN: &str = "their jobs get no token, and no login starts with mytoken-ssh";

/// The most links on the way to a file, as in the kernel.
const LINKS: usize = 40;

/// Starts the child.
fn ask_child(nss: &Nss, user: &str, dir: &Path, socket: &Path, without_key: bool) -> Result<Findings, String> {
    account(nss, user)?;
    let mut child = Command::new("/proc/self/exe");
    child.args(["check", "--json", "--only-read", "--as", user, "--config"]).arg(dir).arg("--socket").arg(socket);
    child.args(without_key.then_some("--without-key"));
    let outcome = program::run(&mut child, Deadline::after(LIMIT))
        .map_err(|error| format!("the child process that reads as \"{user}\" {error}"))?;
    // Its exit status tells the findings, too.
    serde_json::from_str(&outcome.output).map_err(|_| format!("reading as \"{user}\" failed: {}", outcome.reason()))
}

/// The child's part: leaves root's terminal, becomes `user` for good, and reads.
///
/// # Errors
/// A sentence, when this process cannot become the user.
pub fn read(user: &str, dir: &Path, socket: &Path, without_key: bool) -> Result<Findings, String> {
    terminal::leave()?;
    let account = account(&Nss::default(), user)?;
    become_user(&account).map_err(|errno| format!("this process cannot become \"{user}\": {errno}"))?;
    let mut findings = Findings::default();
    let who = if user == ANYBODY { "ordinary users".to_owned() } else { format!("\"{user}\"") };
    let used = findings.reading(&who, dir, without_key);
    let mut files = slurm::closed_files();
    // One closed directory is one fault, whatever is in it.
    let mut told = BTreeSet::new();
    files.retain(|file| first_closed(file).is_none_or(|(part, _)| told.insert(part)));
    for file in files {
        // Without the rights for one file Slurm's commands end; to them a directory without rights has no files (SLURM-82).
        findings.closed(&who, &file, "their srun and sbatch fail, or do not know --mytoken");
    }
    if findings.findings.is_empty() {
        findings.own_srun(user, &who, used.as_ref().and_then(|(_, jobs)| jobs.agent.squeue.as_deref()));
    }
    if findings.findings.is_empty() {
        findings.ok(PART, format!("{who} can read it, the key cluster.pub and the certificates"));
    }
    if user != ANYBODY {
        let before = findings.findings.len();
        findings.user_files(&Places::of(&account, socket), used.as_ref());
        if findings.findings.len() == before {
            findings.ok("user", format!("{who} has no file in the way, and an answer from the agent"));
        }
    }
    findings.limit(MOST);
    Ok(findings)
}

/// Looks up an account.
///
/// # Errors
/// A sentence, when there is none.
pub fn account(nss: &Nss, name: &str) -> Result<User, String> {
    match nss.user(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(format!("this host has no account \"{name}\"")),
        Err(NoAnswer(reason)) => Err(reason),
    }
}

/// Groups, group, user: in this order, because the last one takes the right to change the others.
fn become_user(user: &User) -> nix::Result<()> {
    let name = CString::new(user.name.as_str()).map_err(|_| nix::errno::Errno::EINVAL)?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    // Root's ids must not come back.
    let kept = Uid::effective() != user.uid || Uid::current() != user.uid || Gid::effective() != user.gid;
    if kept || (!user.uid.is_root() && setuid(Uid::from_raw(0)).is_ok()) {
        return Err(nix::errno::Errno::EPERM);
    }
    Ok(())
}

impl Findings {
    /// Adds what a child process finds with the rights of `user`, or of an ordinary user.
    pub(super) fn read_as(&mut self, nss: &Nss, user: Option<&str>, dir: &Path, socket: &Path) {
        // A key that cannot be used must not be opened to users: it may be a private one.
        let without_key = self.problems().any(|finding| finding.id.as_deref() == Some(kinds::PUBLIC_KEY.id));
        self.add_read(user, ask_child(nss, user.unwrap_or(ANYBODY), dir, socket, without_key));
    }

    fn add_read(&mut self, user: Option<&str>, read: Result<Self, String>) {
        match (read, user) {
            (Ok(mut read), _) => {
                // An agent that answers nobody is one finding.
                let of_agent = [kinds_slurm::AGENT_DOWN.part, kinds_slurm::RUNTIME_DIR_MODE.part];
                let agent = self.problems().any(|finding| of_agent.contains(&finding.part.as_str()));
                read.findings.retain(|found| !agent || found.id.as_deref() != Some(kinds_user::AGENT.id));
                // What root cannot read was not read as the user, either.
                let files = self
                    .problems()
                    .any(|finding| finding.part == PART || finding.id.as_deref() == Some(kinds::CA_FILE.id));
                read.findings.retain(|found| !files || found.level != Severity::Ok || found.part != PART);
                // What Slurm does not load for root is not loaded for users, either.
                let plugin = self.problems().any(|finding| finding.part == kinds_slurm::PLUGIN_USERS.part);
                // Nor can users run what root cannot.
                let is_told = plugin || self.srun_fails;
                read.findings.retain(|found| !is_told || found.id.as_deref() != Some(kinds_slurm::PLUGIN_USERS.id));
                // The helper reads mytoken.toml, too: one fault is one finding.
                let unusable = |found: &CheckFinding| found.part == PART && found.level == Severity::Error;
                let helper = [Some(kinds_user::HELPER.id), Some(kinds_user::SETTINGS.id)];
                if read.findings.iter().chain(self.problems()).any(unusable) {
                    read.findings.retain(|found| !helper.contains(&found.id.as_deref()));
                }
                let last = self.findings.iter().rposition(|finding| finding.part == PART);
                let at = last.map_or(0, |last| last + 1);
                self.findings.splice(at..at, read.findings);
            }
            // The user can have caused this, and must not hide the other findings.
            (Err(error), Some(user)) => {
                let fix = as_user(user, "mytoken-ssh status");
                self.add_fixed(kinds_user::NOT_CHECKED, printable(&error, LONGEST), fix);
            }
            (Err(error), None) => self.add_kind(kinds::USERS_NOT_CHECKED, error),
        }
    }

    /// Leaves at most `most` findings of each kind, and one more that counts the others.
    fn limit(&mut self, most: usize) {
        let mut seen: BTreeMap<Option<String>, usize> = BTreeMap::new();
        let mut rest = Vec::new();
        self.findings.retain(|finding| {
            let count = seen.entry(finding.id.clone()).or_default();
            *count += 1;
            if *count == most + 1 {
                rest.push(finding.clone());
            }
            *count <= most
        });
        for mut finding in rest {
            let more = seen.get(&finding.id).map_or(0, |count| count - most);
            finding.text = format!("and {more} more like these");
            finding.fix = None;
            self.findings.push(finding);
        }
    }

    /// Whether srun loads the plugin. For this, Slurm opens its file with the user's rights.
    fn own_srun(&mut self, user: &str, who: &str, squeue: Option<&Path>) {
        let Some(help) = slurm::own_help(squeue) else { return };
        let text = match &help {
            Ok(help) if help.contains("--mytoken") => return,
            Ok(help) | Err(help) => help,
        };
        let reason = text.lines().find(|line| line.contains("error: ")).unwrap_or("srun --help shows no --mytoken");
        let text = format!("srun of {who} does not load the plugin: {}", printable(reason, LONGEST));
        self.add_fixed(kinds_slurm::PLUGIN_USERS, text, as_user(user, "srun --help"));
    }

    /// Reads what `mytoken-submit` reads. Mistakes that do not depend on the reader are left to the check of root.
    fn reading(&mut self, who: &str, dir: &Path, without_key: bool) -> Option<(Shared, JobsSettings)> {
        let trust = FileTrust::current();
        let shared = match Shared::load(dir, trust) {
            Ok(shared) => shared,
            Err(error) => {
                self.closed_config(who, &error);
                return None;
            }
        };
        if let Err(HttpError::Roots { file, .. }) = HttpClient::new(&shared.http_settings()) {
            self.closed(who, Path::new(&file), NO_TOKEN);
        }
        if !exists(&dir.join("jobs.toml")) {
            return None;
        }
        let jobs = match JobsSettings::load(dir, trust, &shared) {
            Ok(jobs) => jobs,
            Err(error) => {
                if let Error::Config(error) = error {
                    self.closed_config(who, &error);
                }
                return None;
            }
        };
        if !without_key {
            if let Err(SealError::File(Error::Config(error))) = PublicKey::load(&jobs.cluster.public_key_file, trust) {
                self.closed_config(who, &error);
            }
        }
        Some((shared, jobs))
    }

    fn closed_config(&mut self, who: &str, error: &ConfigError) {
        if let ConfigError::Unreadable { file, .. } = error {
            self.closed(who, Path::new(file), NO_TOKEN);
        }
    }

    /// Adds the finding about a file or directory that this process has no right to read.
    fn closed(&mut self, who: &str, file: &Path, effect: &str) {
        if !matches!(File::open(file), Err(error) if error.kind() == ErrorKind::PermissionDenied) {
            return;
        }
        let effect = if who.starts_with('"') { effect.replace("their", "its") } else { effect.to_owned() };
        let (by, fix) = match first_closed(file) {
            Some((part, rights)) => {
                let by = if part == file { String::new() } else { format!(" ({} is closed)", part.display()) };
                (by, format!("chmod a+{rights} {}", word(&part.to_string_lossy())))
            }
            None => (String::new(), format!("namei -l {}", word(&file.to_string_lossy()))),
        };
        self.add_fixed(kinds::USERS_CANNOT_READ, format!("{who} cannot read {}{by}: {effect}", file.display()), fix);
    }
}

/// The first part of the path that this process cannot use, and the rights that it lacks.
fn first_closed(path: &Path) -> Option<(PathBuf, &'static str)> {
    let mut ahead: Vec<PathBuf> = vec![path.to_owned()];
    let mut links = 0;
    while let Some(next) = ahead.pop() {
        let mut parts: Vec<&Path> = next.ancestors().collect();
        parts.reverse();
        for part in parts {
            // The rights are those of a link's target, which may be behind a closed directory.
            if let Ok(target) = std::fs::read_link(part) {
                links += 1;
                if links > LINKS {
                    return None;
                }
                let target = part.parent().unwrap_or(part).join(target);
                // No slash after the last name.
                ahead.push(target.components().chain(next.components().skip(part.components().count())).collect());
                break;
            }
            let (flags, rights) = match (part.is_dir(), part == next) {
                (true, true) => (AccessFlags::R_OK | AccessFlags::X_OK, "rx"),
                (true, false) => (AccessFlags::X_OK, "x"),
                (false, _) => (AccessFlags::R_OK, "r"),
            };
            if access(part, flags).is_err() {
                return Some((part.to_owned(), rights));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(findings: &Findings) -> Vec<(&str, &str)> {
        findings.findings.iter().map(|found| (found.id.as_deref().unwrap_or(""), found.text.as_str())).collect()
    }

    #[test]
    fn a_user_cannot_hide_the_findings_of_root() {
        for (user, id) in [(Some("alice"), "user-not-checked"), (None, "users-not-checked")] {
            let mut findings = Findings::default();
            findings.add_kind(kinds::CLOCK, "late");
            findings.add_read(user, Err("it was killed\n\u{1b}[2J".to_owned()));
            let ids: Vec<_> = shown(&findings).into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, ["clock", id]);
            assert_eq!(findings.exit_status(), 1);
        }
    }

    #[test]
    fn many_findings_of_one_kind_are_counted() {
        let mut findings = Findings::default();
        findings.add_kind(kinds_user::HOME, "home");
        for number in 0..7 {
            findings.add_kind(kinds_user::SESSION, number.to_string());
        }
        findings.limit(7);
        assert_eq!(findings.findings.len(), 8);
        findings.limit(3);
        let session = "user-session";
        let wanted =
            [("user-home", "home"), (session, "0"), (session, "1"), (session, "2"), (session, "and 4 more like these")];
        assert_eq!(shown(&findings), wanted);
    }
}
