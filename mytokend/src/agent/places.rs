// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directories and files below `/run/mytoken`.

use std::path::{Path, PathBuf};

use mytoken::files::{Directory, Owner, as_user};
use mytoken::{Error, SystemClock};
use mytoken_login::handover::Handover;

use super::lease::{Key, Lease};

/// A lease's file: longest sealed text, thirty-two events and change.
const STATE_LIMIT: usize = 256 * 1024;

/// The agent's places.
pub struct Places {
    me: Owner,
    root: Directory,
    jobs: Directory,
    state: Directory,
}

impl Places {
    /// Makes and opens them. `me` owns them: root, in tests whoever runs them.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(runtime: &Path, me: Owner) -> Result<Self, Error> {
        let file = |reason: &str| Error::File { path: runtime.display().to_string(), reason: reason.to_owned() };
        let name = runtime.file_name().and_then(|name| name.to_str()).ok_or_else(|| file("it has no name"))?;
        let parent = runtime.parent().ok_or_else(|| file("it has no directory above it"))?;
        let root = Directory::open(parent)?.make(name, me, 0o711)?;
        let jobs = root.make("jobs", me, 0o711)?;
        let state = root.make("state", me, 0o700)?;
        Ok(Self { me, root, jobs, state })
    }

    /// Where the lease's access token is.
    #[must_use]
    pub fn token_path(&self, lease: &Lease) -> PathBuf {
        let directory = match &lease.key {
            Key::Job(job) => self.jobs.path().join(job.to_string()),
            Key::Session(session) => self.root.path().join("sessions").join(lease.uid.to_string()).join(session),
        };
        directory.join(token_name(lease.uid))
    }

    /// Puts an access token into the lease's file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Identity`].
    pub fn write_token(&self, lease: &Lease, token: &str) -> Result<(), Error> {
        let name = token_name(lease.uid);
        match &lease.key {
            // Every directory is root's, so the user cannot put a link into the way.
            Key::Job(job) => {
                let directory = self.jobs.make(&job.to_string(), self.me, 0o711)?;
                directory.write(&name, token.as_bytes(), lease.owner(), 0o400)
            }
            Key::Session(session) => self
                .in_session(lease, session, |directory| directory.write(&name, token.as_bytes(), lease.owner(), 0o600)),
        }
    }

    /// Removes the tokens of logins that never came to a session. Where no agent does, logins do it, a few at a time.
    pub fn sweep_handover(&self) {
        Handover::new(&self.root.path().join("handover"), self.me).sweep_all(&SystemClock);
    }

    /// Removes the access token, but leaves its directory: the job or session goes on.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Identity`].
    pub fn remove_token(&self, lease: &Lease) -> Result<(), Error> {
        let name = token_name(lease.uid);
        match &lease.key {
            Key::Job(job) => self.jobs.make(&job.to_string(), self.me, 0o711)?.remove(&name).map(drop),
            Key::Session(session) => self.in_session(lease, session, |directory| directory.remove(&name).map(drop)),
        }
    }

    /// Removes a job's directory with everything in it; whether there was one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove_job(&self, job: u32) -> Result<bool, Error> {
        let name = job.to_string();
        if !self.jobs.has(&name)? {
            return Ok(false);
        }
        let directory = self.jobs.make(&name, self.me, 0o711)?;
        for file in directory.names()? {
            directory.remove(&file)?;
        }
        self.jobs.remove_dir(&name)
    }

    /// Removes a session's directory with its tokens, as its user. What else the user put there stays, and then the directory.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Identity`].
    pub fn remove_session(&self, lease: &Lease, session: &str) -> Result<(), Error> {
        if !self.root.has("sessions")? {
            return Ok(());
        }
        let sessions = self.root.enter("sessions", self.me, 0o711)?;
        let uid = lease.uid.to_string();
        if !sessions.has(&uid)? {
            return Ok(());
        }
        as_user(lease.owner(), || {
            let own = sessions.enter(&uid, lease.owner(), 0o700)?;
            // Not by a list: the directory is the user's, who can have put a million names there.
            if !own.has(session)? {
                return Ok(());
            }
            let directory = own.enter(session, lease.owner(), 0o700)?;
            directory.remove(&token_name(lease.uid))?;
            directory.remove(&format!("mt_u{}", lease.uid))?;
            own.remove_dir(session).map(drop)
        })
    }

    /// The jobs that have a directory.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn jobs(&self) -> Result<Vec<u32>, Error> {
        Ok(self.jobs.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Writes the lease down for the agent's next life.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remember(&self, lease: &Lease) -> Result<(), Error> {
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(lease).map_err(|error| Error::File {
            path: self.state.path().display().to_string(),
            reason: error.to_string(),
        })?);
        self.state.write(&state_name(&lease.key), &bytes, self.me, 0o600)
    }

    /// Forgets the lease.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn forget(&self, key: &Key) -> Result<(), Error> {
        self.state.remove(&state_name(key)).map(drop)
    }

    /// The leases of the agent's former life. What cannot be read is told to `complain` and removed.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn recall(&self, mut complain: impl FnMut(String)) -> Result<Vec<Lease>, Error> {
        let mut leases = Vec::new();
        for name in self.state.names()? {
            let read = self.state.read(&name, self.me, 0o600, STATE_LIMIT);
            let lease = read.map(|bytes| bytes.and_then(|bytes| serde_json::from_slice::<Lease>(&bytes).ok()));
            match lease {
                Ok(Some(lease)) if state_name(&lease.key) == name => leases.push(lease),
                _ => {
                    complain(format!(
                        "{}/{name} is no state of this version; it is removed",
                        self.state.path().display()
                    ));
                    self.state.remove(&name)?;
                }
            }
        }
        Ok(leases)
    }

    fn in_session(
        &self,
        lease: &Lease,
        session: &str,
        work: impl FnOnce(&Directory) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sessions = self.root.enter("sessions", self.me, 0o711)?;
        // The directory is the user's, who may put anything into it at any time: so what is done there is done as the user.
        as_user(lease.owner(), || {
            let own = sessions.enter(&lease.uid.to_string(), lease.owner(), 0o700)?;
            work(&own.enter(session, lease.owner(), 0o700)?)
        })
    }
}

fn token_name(uid: u32) -> String {
    format!("bt_u{uid}")
}

fn state_name(key: &Key) -> String {
    match key {
        Key::Job(job) => format!("job-{job}.json"),
        Key::Session(session) => format!("session-{session}.json"),
    }
}
