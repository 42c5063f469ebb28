// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of login sessions. The PAM module makes them; the agent renews and removes the tokens in them.

use std::path::PathBuf;

use mytoken::private_files::{Directory, FileError, Owner, as_user};
use mytoken_login::user_runtime_dir::user_sessions;
use mytoken_wire::agent::SessionPlace;
use mytoken_wire::token_file;

use super::{RuntimeDir, token_name};

/// The directory of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionDir<'s> {
    /// The user.
    pub owner: Owner,
    /// The session's id.
    pub session: &'s str,
    /// Where it is.
    pub place: SessionPlace,
}

impl RuntimeDir {
    /// Path of a session's access token.
    #[must_use]
    pub fn session_token_path(&self, session: &str, uid: u32, place: SessionPlace) -> PathBuf {
        let own = match place {
            SessionPlace::Run => self.root.path().join("sessions").join(uid.to_string()),
            SessionPlace::User => self.users.join(uid.to_string()).join("mytoken"),
        };
        own.join(session).join(token_name(uid))
    }

    /// Writes an access token to a session's file.
    ///
    /// # Errors
    /// [`FileError::Unusable`], [`FileError::Identity`].
    pub fn write_session_token(&self, session: SessionDir<'_>, token: &str) -> Result<(), FileError> {
        let owner = session.owner;
        self.in_session(session, |directory| directory.write(&token_name(owner.uid), token.as_bytes(), owner, 0o600))
    }

    /// Removes the access token of a session, if there is one, and keeps its directory: the session still runs.
    ///
    /// # Errors
    /// [`FileError::Unusable`], [`FileError::Identity`].
    pub fn remove_session_token(&self, session: SessionDir<'_>) -> Result<(), FileError> {
        self.if_session(session, |_, directory| directory.remove(&token_name(session.owner.uid)).map(drop))
    }

    /// Removes a session's tokens and its directory, with the rights of its user. The directory stays when the user put other files
    /// into it, which is no error.
    ///
    /// # Errors
    /// [`FileError::Unusable`], [`FileError::Identity`]: a token may still be there.
    pub fn remove_session(&self, session: SessionDir<'_>) -> Result<(), FileError> {
        self.if_session(session, |own, directory| {
            // One that cannot be removed must not save the other one.
            let removed = directory.remove(&token_name(session.owner.uid));
            removed.and(directory.remove(&format!("mt_u{}", session.owner.uid)))?;
            let _ = own.remove_dir(session.session);
            Ok(())
        })
    }

    /// Whether a session's file holds an access token that has not expired at `now`, Unix seconds.
    ///
    /// # Errors
    /// [`FileError::Unusable`], [`FileError::Identity`].
    pub fn has_session_token(&self, session: SessionDir<'_>, now: u64) -> Result<bool, FileError> {
        self.in_session(session, |directory| {
            Ok(token_file::is_valid(&directory.path().join(token_name(session.owner.uid)), now))
        })
    }

    /// The directory above those of the sessions of one user, if there is one.
    pub(super) fn own_sessions(&self, session: SessionDir<'_>) -> Result<Option<Directory>, FileError> {
        let SessionDir { owner, place, .. } = session;
        if place == SessionPlace::User {
            // logind removes it with the user's last session.
            return user_sessions(&self.users, owner, false);
        }
        if !self.root.has("sessions")? {
            return Ok(None);
        }
        let (sessions, uid) = (self.root.enter("sessions", self.owner, 0o711)?, owner.uid.to_string());
        if !sessions.has(&uid)? {
            return Ok(None);
        }
        as_user(owner, || sessions.enter(&uid, owner, 0o700).map(Some))
    }

    /// The same as [`Self::in_session`] if the session has a directory. `work` also gets the one above it.
    fn if_session(
        &self,
        session: SessionDir<'_>,
        work: impl FnOnce(&Directory, &Directory) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let Some(own) = self.own_sessions(session)? else { return Ok(()) };
        as_user(session.owner, || {
            // No listing: the user may have put a million files into the directory.
            if !own.has(session.session)? {
                return Ok(());
            }
            work(&own, &own.enter(session.session, session.owner, 0o700)?)
        })
    }

    /// Runs `work` in the directory of a session. The user owns it and may put anything into it at any time, so this uses the rights of the
    /// user.
    pub(super) fn in_session<T>(
        &self,
        session: SessionDir<'_>,
        work: impl FnOnce(&Directory) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let missing = || FileError::Unusable {
            path: self.session_token_path(session.session, session.owner.uid, session.place).display().to_string(),
            reason: "the user has no directory for sessions there".to_owned(),
        };
        let own = self.own_sessions(session)?.ok_or_else(missing)?;
        as_user(session.owner, || work(&own.enter(session.session, session.owner, 0o700)?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_in_the_users_own_runtime_directory_are_written_and_removed() {
        // The only file system in memory that every user of every host can use.
        let users = tempfile::tempdir_in("/dev/shm").unwrap();
        let (dir, owner) = (tempfile::tempdir().unwrap(), Owner::current());
        let runtime = RuntimeDir::open(&dir.path().join("mytoken"), owner).unwrap().with_users(users.path());
        let session = SessionDir { owner, session: "s", place: SessionPlace::User };
        assert!(runtime.write_session_token(session, "t").is_err(), "there is none");
        runtime.remove_session(session).unwrap();
        let own = users.path().join(owner.uid.to_string());
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        user_sessions(users.path(), owner, true).unwrap().unwrap().make("s", owner, 0o700).unwrap();
        runtime.write_session_token(session, "t").unwrap();
        let path = runtime.session_token_path("s", owner.uid, SessionPlace::User);
        assert_eq!(fs::read_to_string(&path).unwrap(), "t");
        runtime.remove_session(session).unwrap();
        assert!(!path.parent().unwrap().exists() && own.join("mytoken").exists());
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(runtime.write_session_token(session, "t").is_err(), "others can look into it");
    }
}
