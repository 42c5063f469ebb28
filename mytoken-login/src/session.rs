// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a session's credential, in `/run/mytoken/sessions/<uid>/<session>` or `/run/user/<uid>/mytoken/<session>`, written as the
//! user.

use std::path::{Path, PathBuf};

use mytoken::Deadline;
use mytoken::private_files::{Directory, FileError, Owner, as_user};
use mytoken::random::random;
use mytoken_wire::Handle;
use mytoken_wire::agent::{
    self, AgentError, RenewalCredential, SessionEnd, SessionEnded, SessionPlace, SessionStart, SessionStarted,
};

use crate::handover::Record;
use crate::runtime_dir::open_runtime_dir;
use crate::settings::{SessionDirectory, SessionSettings, SessionStore};
use crate::user_runtime_dir::{USERS, user_sessions};

/// The directory of the sessions in the runtime directory.
const SESSIONS: &str = "sessions";

/// The directories of the sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    runtime: PathBuf,
    users: PathBuf,
    root: Owner,
}

/// The installed credential of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Installed {
    /// Id of the session.
    pub session: String,
    /// Where its directory is.
    pub place: SessionPlace,
    /// Path for `BEARER_TOKEN_FILE`.
    pub bearer_token_file: Option<PathBuf>,
    /// Path for `MYTOKEN_FILE`.
    pub mytoken_file: Option<PathBuf>,
}

impl Sessions {
    /// Sessions below `runtime`. Its own directories belong to `root`.
    #[must_use]
    pub fn new(runtime: &Path, root: Owner) -> Self {
        Self { runtime: runtime.to_owned(), users: PathBuf::from(USERS), root }
    }

    /// The same with other runtime directories of users, for tests.
    #[must_use]
    pub fn with_users(self, users: &Path) -> Self {
        Self { users: users.to_owned(), ..self }
    }

    /// Writes the session's files. `None`: it gets none ([`SessionStore::None`]).
    ///
    /// # Errors
    /// [`FileError::Unusable`] or [`FileError::Identity`]. No file is left then.
    pub fn install(&self, record: &Record, settings: &SessionSettings) -> Result<Option<Installed>, FileError> {
        if settings.store == SessionStore::None {
            return Ok(None);
        }
        let owner = Owner { uid: record.uid, gid: record.gid };
        let session = Handle::new(random()).to_string();
        // One that cannot be used is as good as none.
        let own = match settings.directory {
            SessionDirectory::Auto => user_sessions(&self.users, owner, true).ok().flatten(),
            SessionDirectory::Run => None,
        };
        let place = if own.is_some() { SessionPlace::User } else { SessionPlace::Run };
        let user = own.map_or_else(|| self.user_directory(owner), Ok)?;
        let written = as_user(owner, || {
            let directory = user.make(&session, owner, 0o700)?;
            let mut installed = Installed { session: session.clone(), place, ..Installed::default() };
            let name = format!("bt_u{}", owner.uid);
            directory.write(&name, record.credential.access_token.expose().as_bytes(), owner, 0o600)?;
            installed.bearer_token_file = Some(directory.path().join(name));
            if let Some(renewal) = delegated_mytoken(record, settings) {
                let name = format!("mt_u{}", owner.uid);
                directory.write(&name, format!("{}\n", renewal.mytoken.expose()).as_bytes(), owner, 0o600)?;
                installed.mytoken_file = Some(directory.path().join(name));
            }
            Ok(Some(installed))
        });
        if written.is_err() {
            self.remove(&session, owner, place);
        }
        written
    }

    /// Removes the session's files, if they exist.
    pub fn remove(&self, session: &str, owner: Owner, place: SessionPlace) {
        let user = match place {
            SessionPlace::Run => self.user_directory(owner).map(Some),
            // logind may have removed it.
            SessionPlace::User => user_sessions(&self.users, owner, false),
        };
        let _ = user.and_then(|user| {
            let Some(user) = user else { return Ok(false) };
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

    /// `/run/mytoken/sessions/<uid>`. Root makes it for the user. A user who changed its mode gets no session credential.
    fn user_directory(&self, owner: Owner) -> Result<Directory, FileError> {
        open_runtime_dir(&self.runtime, self.root)?.make(SESSIONS, self.root, 0o711)?.make(
            &owner.uid.to_string(),
            owner,
            0o700,
        )
    }
}

/// The mytoken that the session gets in a file.
fn delegated_mytoken<'a>(record: &'a Record, settings: &SessionSettings) -> Option<&'a RenewalCredential> {
    record.credential.delegated().filter(|_| settings.store == SessionStore::Mytoken)
}

/// The mytoken that is revoked at the end of the session.
#[must_use]
pub fn revoked_at_end<'a>(record: &'a Record, settings: &SessionSettings) -> Option<&'a RenewalCredential> {
    record.credential.own().filter(|_| settings.revoke_at_logout)
}

/// Registers the session at the agent, which renews the access token, and revokes the mytoken at the end of the session if `settings` say so.
/// Returns the keys of `[session]` that the agent ignores, because it is of an earlier release and does not know them.
///
/// # Errors
/// Why the agent did not register it. The session then keeps the access token of the login until that expires.
pub fn register(
    socket: &Path,
    record: &Record,
    settings: &SessionSettings,
    installed: &Installed,
    monitor: u32,
    deadline: Deadline,
) -> Result<Vec<&'static str>, AgentError> {
    let revoke_at_end = revoked_at_end(record, settings).is_some();
    let renewal = record.credential.renewal.clone().filter(|_| installed.bearer_token_file.is_some());
    let start = SessionStart {
        session: installed.session.clone(),
        uid: record.uid,
        gid: record.gid,
        pid: monitor,
        renewal,
        exp: record.credential.exp,
        lifetime: record.credential.lifetime,
        told: !record.untold,
        revoke_at_end,
        linger: settings.linger,
        retain: settings.retain,
        place: installed.place,
    };
    agent::ask(socket, &start, deadline).map(|started| ignored(SessionStarted::of(&start), started))
}

/// The keys of `[session]` that ask for something that the agent does not do.
fn ignored(asked: SessionStarted, started: SessionStarted) -> Vec<&'static str> {
    let keys = [
        ("revoke_at_logout", asked.revoke_at_end && !started.revoke_at_end),
        ("linger", asked.linger && !started.linger),
        ("retain", asked.retain && !started.retain),
        ("directory", asked.place != started.place),
    ];
    keys.into_iter().filter_map(|(key, is_ignored)| is_ignored.then_some(key)).collect()
}

/// Tells the agent that the session has ended. Its answer says whether the session's files stay.
///
/// # Errors
/// Why the agent did not confirm it. The agent also watches the monitor process and finds out by itself.
pub fn unregister(socket: &Path, session: &str, deadline: Deadline) -> Result<SessionEnded, AgentError> {
    agent::ask(socket, &SessionEnd { session: session.to_owned() }, deadline)
}
