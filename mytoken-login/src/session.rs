// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a login leaves for its session: files in `/run/mytoken/sessions/<uid>/<session>`, written as the user.

use std::path::{Path, PathBuf};

use mytoken::Deadline;
use mytoken::files::FileError;
use mytoken::files::{Directory, Owner, as_user};
use mytoken::random::random;
use mytoken_wire::Handle;
use mytoken_wire::agent::{self, AgentError, RenewalCredential, SessionEnd, SessionStart};

use super::handover::{Record, runtime};
use super::{SessionMytoken, SessionSettings};

/// Where the suite's run-time files are.
pub use mytoken_wire::paths::RUNTIME;

/// The directory of the sessions in it.
const SESSIONS: &str = "sessions";

/// The place of session credentials.
#[derive(Debug, Clone)]
pub struct Sessions {
    runtime: PathBuf,
    root: Owner,
}

/// What was installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Installed {
    /// The session's id.
    pub session: String,
    /// `BEARER_TOKEN_FILE`.
    pub bearer_token_file: Option<PathBuf>,
    /// `MYTOKEN_FILE`.
    pub mytoken_file: Option<PathBuf>,
}

impl Sessions {
    /// Sessions below `runtime`, whose directories belong to `root`.
    #[must_use]
    pub fn new(runtime: &Path, root: Owner) -> Self {
        Self { runtime: runtime.to_owned(), root }
    }

    /// Writes the session's files.
    ///
    /// # Errors
    /// [`FileError::Unusable`] or [`FileError::Identity`]; nothing is left behind then.
    pub fn install(&self, record: &Record, settings: &SessionSettings) -> Result<Installed, FileError> {
        let owner = Owner { uid: record.uid, gid: record.gid };
        let session = Handle::new(random()).to_string();
        let user = self.user_directory(owner)?;
        let written = as_user(owner, || {
            let directory = user.make(&session, owner, 0o700)?;
            let mut installed = Installed { session: session.clone(), ..Installed::default() };
            if settings.access_token {
                let name = format!("bt_u{}", owner.uid);
                directory.write(&name, record.credential.access_token.expose().as_bytes(), owner, 0o600)?;
                installed.bearer_token_file = Some(directory.path().join(name));
            }
            if let Some(renewal) = delegated_mytoken(record, settings) {
                let name = format!("mt_u{}", owner.uid);
                directory.write(&name, format!("{}\n", renewal.mytoken.expose()).as_bytes(), owner, 0o600)?;
                installed.mytoken_file = Some(directory.path().join(name));
            }
            Ok(installed)
        });
        if written.is_err() {
            self.remove(&session, owner);
        }
        written
    }

    /// Removes the session's files; what is not there needs no removal.
    pub fn remove(&self, session: &str, owner: Owner) {
        let _ = self.user_directory(owner).and_then(|user| {
            as_user(owner, || {
                if let Ok(directory) = user.enter(session, owner, 0o700) {
                    for name in directory.names()? {
                        let _ = directory.remove(&name);
                    }
                }
                user.remove_dir(session)
            })
        });
    }

    /// `/run/mytoken/sessions/<uid>`: made by root, then the user's. A user who changed it gets no session credential.
    fn user_directory(&self, owner: Owner) -> Result<Directory, FileError> {
        runtime(&self.runtime, self.root)?.make(SESSIONS, self.root, 0o711)?.make(&owner.uid.to_string(), owner, 0o700)
    }
}

/// The mytoken that the session gets as a file.
fn delegated_mytoken<'a>(record: &'a Record, settings: &SessionSettings) -> Option<&'a RenewalCredential> {
    record.credential.delegated().filter(|_| settings.mytoken == SessionMytoken::Delegated)
}

/// Tells the agent of the session, so that it keeps the access token fresh.
///
/// # Errors
/// Why it could not be told. The session then has an access token until that expires.
pub fn register(
    socket: &Path,
    record: &Record,
    installed: &Installed,
    monitor: u32,
    deadline: Deadline,
) -> Result<(), AgentError> {
    let renewal = record.credential.renewal.clone().filter(|_| installed.bearer_token_file.is_some());
    let start = SessionStart {
        session: installed.session.clone(),
        uid: record.uid,
        gid: record.gid,
        pid: monitor,
        renewal,
        exp: record.credential.exp,
        lifetime: record.credential.lifetime,
    };
    agent::ask(socket, &start, deadline).map(drop)
}

/// Tells the agent that the session has ended.
///
/// # Errors
/// Why it could not be told. It finds out by itself: it watches the monitor process.
pub fn unregister(socket: &Path, session: &str, deadline: Deadline) -> Result<(), AgentError> {
    agent::ask(socket, &SessionEnd { session: session.to_owned() }, deadline).map(drop)
}
