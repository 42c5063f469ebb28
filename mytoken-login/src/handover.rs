// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the auth child to the session.
//!
//! With keyboard-interactive sshd authenticates in a child whose PAM data is lost (SSH-01); only the PAM environment reaches the monitor,
//! which opens the session. What the session needs lies in a root-only file meanwhile, `<uid>/<name>`, and its name, which nobody can
//! guess, travels in `PAM_MYTOKEN_HANDLE`. In password mode both are one process (SSH-02); the way is the same.

mod name;
mod sweep;

use std::path::{Path, PathBuf};

use mytoken::files::FileError;
use name::Name;
use serde::{Deserialize, Serialize};
pub use sweep::ACCOUNT_LIMIT;
use zeroize::Zeroizing;

use super::process::Process;
use super::{Accepted, SessionCredential};
use mytoken::Clock;
use mytoken::files::{Directory, Owner};

/// Where the files are.
pub const DIRECTORY: &str = "/run/mytoken/handover";

/// The variable of the PAM environment. It never holds more than a name: sshd logs the PAM environment at DEBUG3 (SSH-08).
pub const VARIABLE: &str = "PAM_MYTOKEN_HANDLE";

/// A record is good for this many seconds: sshd's default `LoginGraceTime` is 120 (SSH-10).
const AGE_LIMIT: u64 = 600;

/// Largest file, in bytes: two tokens of the largest size and a few names.
const SIZE_LIMIT: usize = 192 * 1024;

const VERSION: u32 = 1;

/// What a login hands over to its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    v: u32,
    /// Account.
    pub user: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// PAM service.
    pub service: String,
    /// Name of the provider.
    pub issuer: String,
    /// Subject there.
    pub sub: String,
    /// The rule that let them in.
    pub rule: String,
    /// The session's credential.
    #[serde(flatten)]
    pub credential: SessionCredential,
    /// When it was written, Unix seconds.
    created: u64,
    /// The processes that may open the session: the one that authenticated and its parent, sshd's monitor.
    processes: Vec<Process>,
}

impl Record {
    /// The record of a login that was let in. `processes` may open its session.
    #[must_use]
    pub fn new(accepted: &Accepted, service: &str, processes: Vec<Process>, clock: &dyn Clock) -> Self {
        Self {
            v: VERSION,
            user: accepted.account.name.clone(),
            uid: accepted.account.uid,
            gid: accepted.account.gid,
            service: service.to_owned(),
            issuer: accepted.identity.issuer.clone(),
            sub: accepted.identity.sub.clone(),
            rule: accepted.rule.clone(),
            credential: accepted.credential.clone(),
            created: clock.now(),
            processes,
        }
    }

    /// Whether the access token has ended since the login, by the same clock difference that let it in.
    #[must_use]
    pub fn has_ended(&self, clock: &dyn Clock) -> bool {
        self.credential.good_until <= clock.now()
    }
}

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The handle is none of ours.
    #[error("the handle is malformed")]
    Handle,
    /// There is no such file: used before, or removed because of its age.
    #[error("there is no record for the handle")]
    Missing,
    /// The file cannot be trusted or read.
    #[error("{0}")]
    File(FileError),
    /// It is not what this version writes.
    #[error("the record is malformed")]
    Malformed,
    /// It belongs to another login.
    #[error("the record belongs to another {0}")]
    Foreign(
        /// What differs.
        &'static str,
    ),
    /// It is too old.
    #[error("the record is too old")]
    Old,
}

/// The place of the files.
#[derive(Debug, Clone)]
pub struct Handover {
    directory: PathBuf,
    owner: Owner,
}

impl Handover {
    /// The place at `directory`, for `owner` alone.
    #[must_use]
    pub fn new(directory: &Path, owner: Owner) -> Self {
        Self { directory: directory.to_owned(), owner }
    }

    /// Stores the record; the handle for the PAM environment.
    ///
    /// # Errors
    /// [`FileError::Unusable`], also when [`ACCOUNT_LIMIT`] records of this account wait already.
    pub fn leave(&self, record: &Record) -> Result<String, FileError> {
        let name = Name::new(record.created, &record.processes).to_string();
        let bytes = serde_json::to_vec(record).map(Zeroizing::new).map_err(|error| FileError::Unusable {
            path: self.directory.display().to_string(),
            reason: error.to_string(),
        })?;
        let write = || self.room(record.uid, record.created)?.write_new(&name, &bytes, self.owner, 0o600);
        // A sweep may take the account's directory away while it is empty, but not twice in a row.
        write().or_else(|_| write())?;
        Ok(format!("f:{}:{name}", record.uid))
    }

    /// Takes the record away, for the session. It is gone from the disk before a byte of it is believed.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn take(&self, handle: &str, login: &Login<'_>, clock: &dyn Clock) -> Result<Record, Fault> {
        self.get(handle, login, clock, true)
    }

    /// Reads the record and leaves it, for the account phase.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn look(&self, handle: &str, login: &Login<'_>, clock: &dyn Clock) -> Result<Record, Fault> {
        self.get(handle, login, clock, false)
    }

    fn get(&self, handle: &str, login: &Login<'_>, clock: &dyn Clock, remove: bool) -> Result<Record, Fault> {
        let (uid, name) = parts(handle).ok_or(Fault::Handle)?;
        let handover = self.open().map_err(Fault::File)?;
        if !handover.has(&uid).map_err(Fault::File)? {
            return Err(Fault::Missing);
        }
        let directory = handover.enter(&uid, self.owner, 0o700).map_err(Fault::File)?;
        let bytes = directory.read(&name, self.owner, 0o600, SIZE_LIMIT);
        if remove {
            directory.remove(&name).map_err(Fault::File)?;
        }
        let bytes = bytes.map_err(Fault::File)?.ok_or(Fault::Missing)?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|_| Fault::Malformed)?;
        if record.v != VERSION {
            return Err(Fault::Malformed);
        }
        login.owns(&record)?;
        if clock.now().abs_diff(record.created) > AGE_LIMIT {
            return Err(Fault::Old);
        }
        Ok(record)
    }

    fn open(&self) -> Result<Directory, FileError> {
        let wrong = || FileError::Unusable {
            path: self.directory.display().to_string(),
            reason: "it is no absolute path".to_owned(),
        };
        let above = self.directory.parent().ok_or_else(wrong)?;
        let name = self.directory.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
        runtime(above, self.owner)?.make(name, self.owner, 0o700)
    }
}

/// `/run/mytoken`, made when the agent has not done it.
pub(super) fn runtime(path: &Path, owner: Owner) -> Result<Directory, FileError> {
    let wrong =
        || FileError::Unusable { path: path.display().to_string(), reason: "it is no absolute path".to_owned() };
    let above = path.parent().ok_or_else(wrong)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
    Directory::open(above)?.make(name, owner, 0o711)
}

/// The login that a record must belong to.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// PAM's user.
    pub user: &'a str,
    /// PAM's service.
    pub service: &'a str,
    /// This process.
    pub process: Option<Process>,
}

impl Login<'_> {
    fn owns(&self, record: &Record) -> Result<(), Fault> {
        if record.user != self.user {
            return Err(Fault::Foreign("user"));
        }
        if record.service != self.service {
            return Err(Fault::Foreign("service"));
        }
        match self.process {
            Some(process) if record.processes.contains(&process) => Ok(()),
            _ => Err(Fault::Foreign("process")),
        }
    }
}

/// The account and the file that a handle names, as they are written.
fn parts(handle: &str) -> Option<(String, String)> {
    let (uid, name) = handle.strip_prefix("f:")?.split_once(':')?;
    let (uid, name) = (uid.parse::<u32>().ok()?, name.parse::<Name>().ok()?);
    let parts = (uid.to_string(), name.to_string());
    (handle == format!("f:{}:{}", parts.0, parts.1)).then_some(parts)
}
