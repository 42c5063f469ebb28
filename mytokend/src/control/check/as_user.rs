// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads what users' commands read, with the rights of a user.
//!
//! Rights of files are decided by the kernel, access lists and security modules included. So root starts this program again
//! ([`ask_child`]); the child gives up root's rights and reads with the functions of `mytoken-submit` ([`read`]).

use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mytoken::config::{ConfigError, FileTrust, Shared};
use mytoken::http::{HttpClient, HttpError};
use mytoken::{Deadline, Error};
use nix::unistd::{AccessFlags, Gid, Uid, User, access, initgroups, setgid, setuid};

use super::configuration::{exists, word};
use super::user_files::Places;
use super::{Findings, kinds};
use crate::jobs::SealError;
use crate::jobs::keys::PublicKey;
use crate::jobs::settings::JobsSettings;
use crate::{program, terminal};

/// The account for what every user must be able to read.
pub const ANYBODY: &str = "nobody";

/// Time limit of the child: its files may be on a file system that hangs, and NSS may ask a directory server.
const LIMIT: Duration = Duration::from_secs(30);

/// Starts the child.
///
/// # Errors
/// A sentence, when there is no such account or the child fails.
pub fn ask_child(user: &str, dir: &Path, socket: &Path) -> Result<Findings, String> {
    account(user)?;
    let mut child = Command::new("/proc/self/exe");
    child.args(["check", "--json", "--only-read", "--as", user, "--config"]).arg(dir).arg("--socket").arg(socket);
    let outcome = program::run(&mut child, Deadline::after(LIMIT))
        .map_err(|error| format!("the child process that reads as \"{user}\" {error}"))?;
    // Its exit status tells the findings, too.
    serde_json::from_str(&outcome.output)
        .map_err(|_| format!("reading as \"{user}\" failed: {}", outcome.errors.trim()))
}

/// The child's part: leaves root's terminal, becomes `user` for good, and reads.
///
/// # Errors
/// A sentence, when this process cannot become the user.
pub fn read(user: &str, dir: &Path, socket: &Path) -> Result<Findings, String> {
    terminal::leave()?;
    let account = account(user)?;
    become_user(&account).map_err(|errno| format!("this process cannot become \"{user}\": {errno}"))?;
    let mut findings = Findings::default();
    let who = if user == ANYBODY { "ordinary users".to_owned() } else { format!("\"{user}\"") };
    let used = findings.reading(&who, dir);
    if findings.findings.is_empty() {
        findings.ok("configuration", format!("{who} can read it, the key cluster.pub and the certificates"));
    }
    if user != ANYBODY {
        let before = findings.findings.len();
        findings.user_files(&Places::of(&account, socket), used.as_ref());
        if findings.findings.len() == before {
            findings.ok("user", format!("{who} has no file in the way, and an answer from the agent"));
        }
    }
    Ok(findings)
}

fn account(name: &str) -> Result<User, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(format!("this host has no account \"{name}\"")),
        Err(errno) => Err(format!("the account \"{name}\" cannot be looked up: {errno}")),
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
    /// Reads what `mytoken-submit` reads. Mistakes that do not depend on the reader are left to the check of root.
    fn reading(&mut self, who: &str, dir: &Path) -> Option<(Shared, JobsSettings)> {
        let trust = FileTrust::current();
        let shared = match Shared::load(dir, trust) {
            Ok(shared) => shared,
            Err(error) => {
                self.closed_config(who, &error);
                return None;
            }
        };
        if let Err(HttpError::Roots { file, .. }) = HttpClient::new(&shared.http_settings()) {
            self.closed(who, Path::new(&file));
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
        if let Err(SealError::File(Error::Config(error))) = PublicKey::load(&jobs.cluster.public_key_file, trust) {
            self.closed_config(who, &error);
        }
        Some((shared, jobs))
    }

    fn closed_config(&mut self, who: &str, error: &ConfigError) {
        if let ConfigError::Unreadable { file, .. } = error {
            self.closed(who, Path::new(file));
        }
    }

    /// Adds the finding about a file or directory that this process has no right to read.
    fn closed(&mut self, who: &str, file: &Path) {
        if !matches!(File::open(file), Err(error) if error.kind() == ErrorKind::PermissionDenied) {
            return;
        }
        let effect = "their jobs get no token, and they cannot use mytoken-ssh";
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
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    for part in parts {
        let (flags, rights) = match (part.is_dir(), part == path) {
            (true, true) => (AccessFlags::R_OK | AccessFlags::X_OK, "rx"),
            (true, false) => (AccessFlags::X_OK, "x"),
            (false, _) => (AccessFlags::R_OK, "r"),
        };
        if access(part, flags).is_err() {
            return Some((part.to_owned(), rights));
        }
    }
    None
}
