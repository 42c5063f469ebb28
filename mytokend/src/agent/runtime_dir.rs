// SPDX-License-Identifier: MIT OR Apache-2.0
//! Token files and stored leases below `/run/mytoken`.
//!
//! What changes or removes a token file, or opens the directory of a job to do so, may wait for ever (KERN-01): only [`super::token_files`]
//! calls it, in threads that hold no lock. So may a look there; those of the start have threads of their own.

mod agent_lock;
mod budget_file;
mod left_token;
mod missed;
mod records;
mod sessions;

use std::path::{Path, PathBuf};

use mytoken::Secret;
use mytoken::private_files::FileError;
use mytoken::private_files::{Directory, Owner};
use mytoken_login::handover::{Abandoned, Handover, RecordError};
use mytoken_login::open_runtime_dir;
use mytoken_login::user_runtime_dir::USERS;
use mytoken_wire::FileName;
use mytoken_wire::clock::FixedClock;
use mytoken_wire::paths::{MISSED, named_token_file};

use super::lease::{Lease, LeaseKey};
use super::store::{self, LeaseRecords};

pub use agent_lock::{AgentLock, LockError, lock_directory};
pub use budget_file::BudgetFile;
pub use left_token::{FoundToken, Left, LeftInJob, LeftToken};
pub use missed::{MissedJobs, Taken};
pub use records::{Records, UNREADABLE_RECORDS, UnreadableRecord, parse_record};
pub use sessions::SessionDir;

/// Longest file of a stored lease in bytes: the longest sealed text and 32 events, with room to spare.
const STATE_LIMIT: usize = 256 * 1024;

/// Longest access token in bytes.
const TOKEN_LIMIT: usize = 64 * 1024;

/// The agent's runtime directory, opened.
pub struct RuntimeDir {
    owner: Owner,
    root: Directory,
    jobs: Directory,
    state: Directory,
    missed: Directory,
    /// The runtime directories of the users.
    users: PathBuf,
}

impl RuntimeDir {
    /// Opens the directory at `runtime` and makes what is missing. It belongs to `owner`: root, in tests the user who runs them.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn open(runtime: &Path, owner: Owner) -> Result<Self, FileError> {
        let root = open_runtime_dir(runtime, owner)?;
        let jobs = root.make("jobs", owner, 0o711)?;
        let state = root.make("state", owner, 0o700)?;
        let missed = root.make(MISSED, owner, 0o700)?;
        Ok(Self { owner, root, jobs, state, missed, users: PathBuf::from(USERS) })
    }

    /// The same with other runtime directories of users, for tests.
    #[must_use]
    pub fn with_users(self, users: &Path) -> Self {
        Self { users: users.to_owned(), ..self }
    }

    /// Path of a job's access token.
    #[must_use]
    pub fn job_token_path(&self, job: u32, uid: u32) -> PathBuf {
        self.jobs.path().join(job.to_string()).join(token_name(uid))
    }

    /// Makes a job's directory. It tells the plugin that the job has a credential, also while there is no access token.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn make_job(&self, job: u32) -> Result<(), FileError> {
        self.jobs.make(&job.to_string(), self.owner, 0o711).map(drop)
    }

    /// Writes an access token to a job's file. Every directory is root's, so that the user cannot place a link there.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_job_token(&self, owner: Owner, job: u32, token: &str) -> Result<(), FileError> {
        let directory = self.jobs.make(&job.to_string(), self.owner, 0o711)?;
        directory.write(&token_name(owner.uid), token.as_bytes(), owner, 0o400)
    }

    /// The access token in a job's file, if there is one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn read_job_token(&self, owner: Owner, job: u32) -> Result<Option<Secret>, FileError> {
        self.read_job(job, &token_name(owner.uid), owner)
    }

    /// Removes the access token of a job, and keeps its directory: the job still runs.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn remove_job_token(&self, job: u32, uid: u32) -> Result<(), FileError> {
        self.remove_from_job(job, &token_name(uid))
    }

    /// Whether a job has a directory.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn has_job(&self, job: u32) -> Result<bool, FileError> {
        self.jobs.has(&job.to_string())
    }

    /// Path of a further access token of a job.
    #[must_use]
    pub fn job_file_path(&self, job: u32, uid: u32, name: &FileName) -> PathBuf {
        self.jobs.path().join(job.to_string()).join(named_token_file(uid, name))
    }

    /// Writes an access token to a further file of a job.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn write_job_file(&self, owner: Owner, job: u32, name: &FileName, token: &str) -> Result<(), FileError> {
        let directory = self.jobs.make(&job.to_string(), self.owner, 0o711)?;
        directory.write(&named_token_file(owner.uid, name), token.as_bytes(), owner, 0o400)
    }

    /// The access token in a further file of a job, if there is one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn read_job_file(&self, owner: Owner, job: u32, name: &FileName) -> Result<Option<Secret>, FileError> {
        self.read_job(job, &named_token_file(owner.uid, name), owner)
    }

    /// Removes a further file of a job.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn remove_job_file(&self, job: u32, uid: u32, name: &FileName) -> Result<(), FileError> {
        self.remove_from_job(job, &named_token_file(uid, name))
    }

    fn remove_from_job(&self, job: u32, file: &str) -> Result<(), FileError> {
        let job = job.to_string();
        if !self.jobs.has(&job)? {
            return Ok(());
        }
        self.jobs.make(&job, self.owner, 0o711)?.remove(file).map(drop)
    }

    fn read_job(&self, job: u32, file: &str, owner: Owner) -> Result<Option<Secret>, FileError> {
        let name = job.to_string();
        if !self.jobs.has(&name)? {
            return Ok(None);
        }
        // Not made if it is missing: it may be that of another job, which ends now.
        let bytes = self.jobs.enter(&name, self.owner, 0o711)?.read(file, owner, 0o400, TOKEN_LIMIT)?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()).map(Secret::new))
    }

    /// Removes the tokens of logins that did not lead to a session. `now` is Unix seconds.
    pub fn sweep_handover(&self, now: u64) {
        self.handover().sweep_all(&FixedClock(now));
    }

    /// The mytokens that were made for sessions which did not get them or were not known here, and the records that cannot be read. `now`
    /// is Unix seconds.
    #[must_use]
    pub fn abandoned(&self, now: u64) -> (Vec<Abandoned>, Vec<RecordError>) {
        self.handover().abandoned(&FixedClock(now))
    }

    /// Removes the record of a mytoken that a stored lease revokes.
    pub fn settle_abandoned(&self, abandoned: &Abandoned) {
        self.handover().settle(abandoned);
    }

    fn handover(&self) -> Handover {
        Handover::new(&self.root.path().join("handover"), self.owner)
    }

    /// Removes a job's directory with everything in it, and its records that could not be read. Returns whether there was one.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn remove_job(&self, job: u32) -> Result<bool, FileError> {
        let name = job.to_string();
        // Not a record that nobody has taken: a further run of the job may have begun.
        self.remove_kept_missed(job);
        if !self.jobs.has(&name)? {
            return Ok(false);
        }
        let mut removed = Ok(());
        let directory = self.jobs.make(&name, self.owner, 0o711)?;
        // One entry that cannot be removed must not save the access token behind it.
        for file in directory.names()? {
            removed = removed.and(directory.remove(&file).map(drop));
        }
        removed.and_then(|()| self.jobs.remove_dir(&name))
    }

    /// Ids of the jobs that have a directory.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn jobs(&self) -> Result<Vec<u32>, FileError> {
        Ok(self.jobs.names()?.iter().filter_map(|name| number(name)).collect())
    }

    /// Stores the lease for the agent's next run.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn store_lease(&self, lease: &Lease) -> Result<(), FileError> {
        self.put(&lease.key, &store::record(lease)?)
    }
}

impl LeaseRecords for RuntimeDir {
    fn put(&self, key: &LeaseKey, record: &[u8]) -> Result<(), FileError> {
        self.state.write(&state_name(key), record, self.owner, 0o600)
    }

    fn delete(&self, key: &LeaseKey) -> Result<(), FileError> {
        self.state.remove(&state_name(key)).map(drop)
    }
}

/// The id of the user or job whose directory has this name.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number: &u32| number.to_string() == name)
}

fn token_name(uid: u32) -> String {
    format!("bt_u{uid}")
}

fn state_name(key: &LeaseKey) -> String {
    match key {
        LeaseKey::Submission { uid, handle } => format!("submission-{uid}-{handle}.json"),
        LeaseKey::Job(job) => format!("job-{job}.json"),
        LeaseKey::Session(session) => format!("session-{session}.json"),
    }
}
