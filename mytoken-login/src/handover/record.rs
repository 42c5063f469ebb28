// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of an accepted login, and the check of who may use it.

use mytoken::Clock;
use mytoken::private_files::FileError;
use serde::{Deserialize, Serialize};

use crate::credential::SessionCredential;
use crate::report::Accepted;
use mytoken::Process;

/// Version of the record. An upgrade can replace the module between the authentication and the session of a login: a record of another
/// version is refused as malformed.
const VERSION: u32 = 2;

/// How long a record can be used, in seconds; sshd's default `LoginGraceTime` is 120 (SSH-10).
pub(super) const AGE_LIMIT: u64 = 600;

/// The record of an accepted login, for its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    v: u32,
    /// Name of the account.
    pub user: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// PAM service.
    pub service: String,
    /// Name of the issuer.
    pub issuer: String,
    /// Subject.
    pub sub: String,
    /// Name of the rule that gave the account.
    pub rule: String,
    /// The session's credential.
    #[serde(flatten)]
    pub credential: SessionCredential,
    /// The agent has not heard of all requests of the login. It counts one when the session begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untold: bool,
    /// Time at which the record was written, Unix seconds.
    pub(super) created: u64,
    /// The processes that may open the session: the process that authenticated the user, and its parent (sshd's monitor).
    pub(super) processes: Vec<Process>,
}

impl Record {
    /// Parses a record and checks that `claimant` may use it and that it is not too old.
    pub(super) fn parse(bytes: &[u8], claimant: &Claimant<'_>, clock: &dyn Clock) -> Result<Self, RecordError> {
        let record = Self::read(bytes)?;
        claimant.check_owner(&record)?;
        if clock.now().abs_diff(record.created) > AGE_LIMIT {
            return Err(RecordError::Old);
        }
        Ok(record)
    }

    /// Reads a record of this version, whoever may use it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|_| RecordError::Malformed)?;
        if record.v == VERSION { Ok(record) } else { Err(RecordError::Malformed) }
    }

    /// The record of an accepted login. `processes` may open its session. `None`: the login has nothing for its session.
    #[must_use]
    pub fn new(accepted: &Accepted, service: &str, processes: Vec<Process>, clock: &dyn Clock) -> Option<Self> {
        let (identity, credential) = accepted.identity.as_ref().zip(accepted.credential.as_ref())?;
        Some(Self {
            v: VERSION,
            user: accepted.account.name.clone(),
            uid: accepted.account.uid,
            gid: accepted.account.gid,
            service: service.to_owned(),
            issuer: identity.issuer.clone(),
            sub: identity.sub.clone(),
            rule: accepted.rule.clone(),
            credential: credential.clone(),
            untold: false,
            created: clock.now(),
            processes,
        })
    }

    /// Whether it is the record of a login whose person is known.
    pub(super) fn is_verified(&self) -> bool {
        !self.sub.is_empty()
    }

    /// Whether the access token has expired since the login. The issuer's `leeway` is included, as at the login.
    #[must_use]
    pub fn has_expired(&self, clock: &dyn Clock) -> bool {
        self.credential.good_until <= clock.now()
    }
}

/// Why a record is not used.
///
/// The account phase then refuses the login and leaves the record to a sweep. The session opens without a credential and removes the
/// record, unless it holds a mytoken that was made for this session alone: the agent revokes that ([`super::Handover::abandoned`]). A
/// record that cannot be read is kept in [`super::UNREADABLE`] in both cases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The handle is malformed.
    #[error("the handle is malformed")]
    Handle,
    /// The file does not exist: the record was already used, or was removed because of its age.
    #[error("there is no record for the handle")]
    Missing,
    /// The file cannot be read, or others could have written it.
    #[error("{0}")]
    File(FileError),
    /// The file does not hold a record of this version: another version of the module may have written it.
    #[error("the record is malformed")]
    Malformed,
    /// One of the two above, and what became of the file.
    #[error("{reason}; {fate}")]
    Unreadable {
        /// What is wrong. Nothing of the record's content.
        reason: String,
        /// Where it is kept.
        fate: String,
    },
    /// The record belongs to another login.
    #[error("the record belongs to another {0}")]
    Foreign(
        /// What differs: `user`, `service` or `process`.
        &'static str,
    ),
    /// The record is older than `AGE_LIMIT`.
    #[error("the record is too old")]
    Old,
}

impl RecordError {
    /// Whether there is a record that this version cannot read.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Self::File(_) | Self::Malformed)
    }
}

/// The login that asks for a record. The record must belong to it.
#[derive(Debug, Clone, Copy)]
pub struct Claimant<'a> {
    /// PAM's user.
    pub user: &'a str,
    /// PAM's service.
    pub service: &'a str,
    /// This process.
    pub process: Option<Process>,
}

impl Claimant<'_> {
    fn check_owner(&self, record: &Record) -> Result<(), RecordError> {
        if record.user != self.user {
            return Err(RecordError::Foreign("user"));
        }
        if record.service != self.service {
            return Err(RecordError::Foreign("service"));
        }
        match self.process {
            Some(process) if record.processes.contains(&process) => Ok(()),
            _ => Err(RecordError::Foreign("process")),
        }
    }
}
