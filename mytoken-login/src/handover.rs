// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands the record of a login from sshd's auth child over to the session.
//!
//! With keyboard-interactive sshd authenticates in a child, whose PAM data is lost (SSH-01). Only the PAM environment reaches the
//! monitor, which opens the session. So the record is stored in a root-only file `<uid>/<name>`. Its handle, which cannot be guessed,
//! is in the PAM environment as `PAM_MYTOKEN_HANDLE`. With the password method one process authenticates and opens the session (SSH-02),
//! and the record is used in the same way.

mod abandoned;
mod kept;
mod name;
mod record;
mod sweep;

use std::path::{Path, PathBuf};

use mytoken::private_files::{Directory, FileError, Owner};
use mytoken::{Clock, Process};
use zeroize::Zeroizing;

use crate::runtime_dir::open_private_dir;
use name::{Content, RecordName};

pub use abandoned::Abandoned;
pub use kept::UNREADABLE;
pub use record::{Claimant, Record, RecordError};
pub use sweep::{ACCOUNT_LIMIT, LEFT_LIMIT};

/// The directory of the records.
pub const DIRECTORY: &str = "/run/mytoken/handover";

/// The variable of the PAM environment. It holds nothing secret: sshd logs the PAM environment at DEBUG3 (SSH-08).
pub const VARIABLE: &str = "PAM_MYTOKEN_HANDLE";

/// Maximum size of a file, in bytes: enough for two tokens of the maximum size, and names.
const SIZE_LIMIT: usize = 192 * 1024;

/// The directory of the records.
#[derive(Debug, Clone)]
pub struct Handover {
    directory: PathBuf,
    owner: Owner,
}

impl Handover {
    /// The records in `directory`. Only `owner` may have access to it.
    #[must_use]
    pub fn new(directory: &Path, owner: Owner) -> Self {
        Self { directory: directory.to_owned(), owner }
    }

    /// Stores the record and returns its handle for the PAM environment.
    ///
    /// # Errors
    /// [`FileError::Unusable`], also when [`ACCOUNT_LIMIT`] records of this account wait for their session already.
    pub fn store(&self, record: &Record) -> Result<String, FileError> {
        let content = if record.credential.own().is_some() { Content::Revocable } else { Content::Plain };
        self.store_as(content, record, &record.processes)
    }

    /// Stores the record of a session that the agent does not know. When `session`, the session's process, has ended, the agent finds the
    /// record and revokes the mytoken that was made for the session.
    ///
    /// # Errors
    /// [`FileError::Unusable`], also when [`LEFT_LIMIT`] records of this account wait for the agent already.
    pub fn store_for_end(&self, record: &Record, session: Process) -> Result<(), FileError> {
        self.store_as(Content::OfSession, record, &[session]).map(drop)
    }

    /// Stores the record of a login that goes on. When its processes have ended, however long that takes, the agent finds the record and
    /// revokes what is in it. Returns the handle for [`Self::discard`].
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn store_for_login(&self, record: &Record) -> Result<String, FileError> {
        self.store_as(Content::OfLogin, record, &record.processes)
    }

    /// Stores the record of a session that gets no mytoken. The agent finds it at its next sweep and revokes the one that was made for the
    /// session.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn store_for_revocation(&self, record: &Record) -> Result<(), FileError> {
        self.store_as(Content::Revocable, record, &[]).map(drop)
    }

    fn store_as(&self, content: Content, record: &Record, processes: &[Process]) -> Result<String, FileError> {
        let name = RecordName::new(content, record.created, processes).to_string();
        let bytes = serde_json::to_vec(record).map(Zeroizing::new).map_err(|error| FileError::Unusable {
            path: self.directory.display().to_string(),
            reason: error.to_string(),
        })?;
        // No login waits for a record of a session, or for one that no process can take.
        let is_left = content == Content::OfSession || processes.is_empty();
        let make = || self.make_account_directory(record.uid, record.created, is_left);
        let write = || make()?.write_new(&name, &bytes, self.owner, 0o600);
        // A sweep can remove the account's directory while it is empty, but not twice in a row.
        write().or_else(|_| write())?;
        Ok(format!("f:{}:{name}", record.uid))
    }

    /// Reads and removes the record, for the session. The file is removed before its content is used. One that cannot be read is kept in
    /// [`UNREADABLE`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn take(&self, handle: &str, claimant: &Claimant<'_>, clock: &dyn Clock) -> Result<Record, RecordError> {
        self.get(handle, claimant, clock, true)
    }

    /// Reads the record, for the account phase. The file stays, but one that cannot be read is kept in [`UNREADABLE`].
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn read(&self, handle: &str, claimant: &Claimant<'_>, clock: &dyn Clock) -> Result<Record, RecordError> {
        self.get(handle, claimant, clock, false)
    }

    fn get(
        &self,
        handle: &str,
        claimant: &Claimant<'_>,
        clock: &dyn Clock,
        remove: bool,
    ) -> Result<Record, RecordError> {
        let (uid, name) = parse_handle(handle).ok_or(RecordError::Handle)?;
        let handover = self.open().map_err(RecordError::File)?;
        if !handover.has(&uid).map_err(RecordError::File)? {
            return Err(RecordError::Missing);
        }
        let directory = handover.enter(&uid, self.owner, 0o700).map_err(RecordError::File)?;
        let read = match directory.read(&name, self.owner, 0o600, SIZE_LIMIT) {
            Ok(bytes) => Record::parse(&bytes.ok_or(RecordError::Missing)?, claimant, clock),
            Err(error) => Err(RecordError::File(error)),
        };
        if let Some(reason) = read.as_ref().err().filter(|reason| reason.is_unreadable()) {
            return Err(self.keep(&handover, (&directory, &uid, &name), reason));
        }
        // What is to be revoked stays for the agent.
        let is_left = read.is_err() && is_revocable(&name);
        if remove && !is_left {
            directory.remove(&name).map_err(RecordError::File)?;
        }
        read
    }

    fn open(&self) -> Result<Directory, FileError> {
        open_private_dir(&self.directory, self.owner)
    }
}

fn is_revocable(name: &str) -> bool {
    name.parse::<RecordName>().is_ok_and(|name| name.content() != Content::Plain)
}

/// Splits a handle into user id and file name.
fn parse_handle(handle: &str) -> Option<(String, String)> {
    let (uid, name) = handle.strip_prefix("f:")?.split_once(':')?;
    let (uid, name) = (uid.parse::<u32>().ok()?, name.parse::<RecordName>().ok()?);
    let parts = (uid.to_string(), name.to_string());
    (handle == format!("f:{}:{}", parts.0, parts.1)).then_some(parts)
}
