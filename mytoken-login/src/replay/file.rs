// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of the used tokens. Each is small, only root can access it, and a lock protects changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::{Directory, FileError, Lock, Owner, lock};
use mytoken_wire::clock::uptime;
use nix::errno::Errno;

use super::used_tokens::NotRecorded;
use super::{Noted, Now, TokenUse, UsedTokenMemory, UsedTokens};
use crate::budget::{OTHERS_DIRECTORY, SSH_DIRECTORY};
use crate::refusal::{Limit, Refusal};
use crate::runtime_dir::open_private_dir;

const FILE_NAME: &str = "used";

/// Maximum size of a file, in bytes.
pub(super) const SIZE_LIMIT: usize = 2 * 1024 * 1024;

/// How long a login waits for the lock. A login holds it for a few milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How often a login tries to lock.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The file of this login's uses, and that of logins by another way. There are two, like the ledgers: the caller of su can stop it while it
/// holds a lock.
#[derive(Debug, Clone)]
pub struct UsedTokensFiles {
    own: PathBuf,
    other: PathBuf,
    owner: Owner,
    records: bool,
}

impl UsedTokensFiles {
    /// In these directories. Only `owner` may have access to them.
    #[must_use]
    pub fn new(own: &Path, other: &Path, owner: Owner) -> Self {
        Self { own: own.to_owned(), other: other.to_owned(), owner, records: true }
    }

    /// For logins over ssh.
    pub(crate) fn of_ssh() -> Self {
        Self::new(Path::new(SSH_DIRECTORY), Path::new(OTHERS_DIRECTORY), Owner::ROOT)
    }

    /// For all other logins.
    pub(crate) fn of_others() -> Self {
        Self::new(Path::new(OTHERS_DIRECTORY), Path::new(SSH_DIRECTORY), Owner::ROOT)
    }

    /// The same, for an administrator's test: nothing is recorded.
    #[must_use]
    pub fn looking_only(self) -> Self {
        Self { records: false, ..self }
    }

    fn record(&self, token: TokenUse<'_>, now: u64, deadline: Deadline) -> Result<(), Refusal> {
        let directory = self.open(&self.own)?;
        let _lock = self.lock(&directory, deadline.at_most(LOCK_WAIT))?;
        let mut tokens = self.read(&directory)?;
        tokens.add(token, at(now)).map_err(|problem| match problem {
            NotRecorded::Used => Refusal::Replayed,
            NotRecorded::Account { wait } => Refusal::TooManyRequests { wait, limit: Limit::UsedByAccount },
            NotRecorded::Host { wait } => Refusal::TooManyRequests { wait, limit: Limit::UsedOnHost },
        })?;
        let bytes = serde_json::to_vec(&tokens).map_err(|error| unusable(&self.own, &error.to_string()))?;
        directory.write_locked(FILE_NAME, &bytes, self.owner, 0o600).map_err(|error| system(&error))
    }

    /// Fails if the token is in this directory's file. A file is always replaced as a whole, so this needs no lock.
    fn look(&self, path: &Path, token: TokenUse<'_>, now: u64) -> Result<(), Refusal> {
        let tokens = self.read(&self.open(path)?)?;
        if tokens.contains(&token.name, at(now)) { Err(Refusal::Replayed) } else { Ok(()) }
    }

    /// A damaged file is not an empty one: each of its tokens could log in again.
    fn read(&self, directory: &Directory) -> Result<UsedTokens, Refusal> {
        match directory.read(FILE_NAME, self.owner, 0o600, SIZE_LIMIT).map_err(|error| system(&error))? {
            None => Ok(UsedTokens::default()),
            Some(bytes) => UsedTokens::parse(&bytes).ok_or_else(|| {
                unusable(directory.path(), "it is damaged: remove it, and tokens that were used can log in again")
            }),
        }
    }

    fn open(&self, path: &Path) -> Result<Directory, Refusal> {
        open_private_dir(path, self.owner).map_err(|error| system(&error))
    }

    fn lock(&self, directory: &Directory, deadline: Deadline) -> Result<Lock, Refusal> {
        let handle = directory.handle().try_clone().map_err(|error| unusable(&self.own, &error.to_string()))?;
        lock(handle, deadline, LOCK_POLL).map_err(|errno| match errno {
            Errno::EAGAIN => unusable(&self.own, "another login did not release the lock in time"),
            errno => unusable(&self.own, errno.desc()),
        })
    }
}

impl UsedTokenMemory for UsedTokensFiles {
    /// Writes its own file before it reads the other one: of two simultaneous logins by both ways at least one sees the other.
    fn use_once(&self, token: TokenUse<'_>, now: u64, deadline: Deadline) -> Result<Noted, Refusal> {
        if self.records {
            self.record(token, now, deadline)?;
        } else {
            self.look(&self.own, token, now)?;
        }
        self.look(&self.other, token, now)?;
        Ok(if self.records { Noted::Recorded } else { Noted::Looked })
    }
}

fn at(unix: u64) -> Now {
    Now { unix, uptime: uptime() }
}

fn unusable(directory: &Path, reason: &str) -> Refusal {
    let path = directory.join(FILE_NAME).display().to_string();
    system(&FileError::Unusable { path, reason: reason.to_owned() })
}

fn system(error: &FileError) -> Refusal {
    Refusal::System(error.to_string())
}
