// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last login with a token to each account, for logins without one.
//!
//! `/var/lib/mytoken/logins/<uid>`, root's alone. It is kept over a restart of the host, so its times are those of the
//! wall clock. Nothing is written while `key_logins` of `[account]` is `ignore`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::{Directory, FileError, Owner, lock};
use serde::{Deserialize, Serialize};

use crate::accounts::LocalAccount;
use crate::service_state::ServiceState;

/// The directory of the state of this suite, and that of the last logins in it.
const DIRECTORY: &str = "/var/lib/mytoken/logins";

/// Version of the file.
const VERSION: u32 = 1;

/// Maximum size of a file, in bytes. The name of an account has at most 256.
const SIZE_LIMIT: usize = 4 * 1024;

/// How long a login waits for the lock. It is held for less than a millisecond.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The last login with a token to an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLogin {
    v: u32,
    /// Name of the account: its user id can be given to another one later.
    user: String,
    /// When it was accepted, Unix seconds.
    pub accepted: Option<u64>,
    /// The state in which motley_cue refused the account, and since when. `None` after motley_cue has given the account again.
    pub refused: Option<(ServiceState, u64)>,
}

/// The last logins of this host.
#[derive(Debug, Clone)]
pub struct LastLogins {
    directory: PathBuf,
    owner: Owner,
}

impl LastLogins {
    /// In `directory`, whose parent need not exist either. Only `owner` may have access to it.
    #[must_use]
    pub fn new(directory: &Path, owner: Owner) -> Self {
        Self { directory: directory.to_owned(), owner }
    }

    /// Those of this host.
    #[must_use]
    pub fn of_host() -> Self {
        Self::new(Path::new(DIRECTORY), Owner::ROOT)
    }

    /// The last login of an account. `None`: there was none. Makes nothing.
    ///
    /// # Errors
    /// [`FileError`] if there is one that cannot be read.
    pub fn read(&self, account: &LocalAccount) -> Result<Option<LastLogin>, FileError> {
        let (above, parent, name) = self.names()?;
        let above = Directory::open(above)?;
        if !above.has(parent)? {
            return Ok(None);
        }
        let parent = above.step(parent)?;
        if !parent.has(name)? {
            return Ok(None);
        }
        self.read_in(&parent.enter(name, self.owner, 0o700)?, account)
    }

    /// A login with a token was accepted. `by_motley_cue`: motley_cue has given the account, so it does not refuse it any more.
    ///
    /// # Errors
    /// [`FileError`]; then the file is as it was.
    pub fn accepted(&self, account: &LocalAccount, by_motley_cue: bool, now: u64) -> Result<(), FileError> {
        self.change(account, |last| {
            last.accepted = Some(now);
            if by_motley_cue {
                last.refused = None;
            }
        })
    }

    /// motley_cue has refused the account to its holder.
    ///
    /// # Errors
    /// [`FileError`]; then the file is as it was.
    pub fn refused(&self, account: &LocalAccount, state: ServiceState, now: u64) -> Result<(), FileError> {
        self.change(account, |last| match last.refused {
            Some((known, _)) if known == state => {}
            _ => last.refused = Some((state, now)),
        })
    }

    fn change(&self, account: &LocalAccount, change: impl FnOnce(&mut LastLogin)) -> Result<(), FileError> {
        let (above, parent, name) = self.names()?;
        let above = Directory::open(above)?;
        // The agent's service makes the parent with mode 0755. It keeps that.
        let parent = if above.has(parent)? { above.step(parent)? } else { above.make(parent, self.owner, 0o755)? };
        let directory = parent.make(name, self.owner, 0o700)?;
        let handle = directory.handle().try_clone().map_err(|error| self.unusable(&error.to_string()))?;
        let _lock = lock(handle, Deadline::after(LOCK_WAIT), LOCK_POLL).map_err(|errno| self.unusable(errno.desc()))?;
        // A file that cannot be read is replaced: the new login says what is true now.
        let mut last = self.read_in(&directory, account).ok().flatten().unwrap_or_default();
        (last.v, last.user) = (VERSION, account.name.clone());
        change(&mut last);
        let bytes = serde_json::to_vec(&last).map_err(|error| self.unusable(&error.to_string()))?;
        directory.write_locked(&account.uid.to_string(), &bytes, self.owner, 0o600)
    }

    fn read_in(&self, directory: &Directory, account: &LocalAccount) -> Result<Option<LastLogin>, FileError> {
        let Some(bytes) = directory.read(&account.uid.to_string(), self.owner, 0o600, SIZE_LIMIT)? else {
            return Ok(None);
        };
        let last: LastLogin = serde_json::from_slice(&bytes).map_err(|_| self.unusable("a file is damaged"))?;
        if last.v != VERSION {
            return Err(self.unusable("another version of the module has written a file"));
        }
        Ok(Some(last).filter(|last| last.user == account.name))
    }

    fn names(&self) -> Result<(&Path, &str, &str), FileError> {
        let parts = || {
            let parent = self.directory.parent()?;
            Some((parent.parent()?, parent.file_name()?.to_str()?, self.directory.file_name()?.to_str()?))
        };
        parts().ok_or_else(|| self.unusable("the path must end in the names of two directories"))
    }

    fn unusable(&self, reason: &str) -> FileError {
        FileError::Unusable { path: self.directory.display().to_string(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn account(name: &str) -> LocalAccount {
        LocalAccount { name: name.to_owned(), uid: 2_001, gid: 2_001, system: false }
    }

    fn logins(dir: &Path) -> LastLogins {
        LastLogins::new(&dir.join("mytoken/logins"), Owner::current())
    }

    #[test]
    fn the_last_login_of_an_account_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path());
        assert_eq!(logins.read(&account("alice")).unwrap(), None);
        assert!(!dir.path().join("mytoken").exists(), "reading makes nothing");
        logins.accepted(&account("alice"), false, 100).unwrap();
        let read = || logins.read(&account("alice")).unwrap().unwrap();
        assert_eq!((read().accepted, read().refused), (Some(100), None));
        logins.refused(&account("alice"), ServiceState::Suspended, 200).unwrap();
        logins.refused(&account("alice"), ServiceState::Suspended, 300).unwrap();
        assert_eq!((read().accepted, read().refused), (Some(100), Some((ServiceState::Suspended, 200))));
        logins.accepted(&account("alice"), false, 400).unwrap();
        assert_eq!(read().refused, Some((ServiceState::Suspended, 200)), "another rule says nothing about it");
        logins.accepted(&account("alice"), true, 500).unwrap();
        assert_eq!((read().accepted, read().refused), (Some(500), None));
        assert_eq!(logins.read(&account("bob")).unwrap(), None, "the user id was another account's");
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("mytoken/logins"), mode("mytoken/logins/2001")), (0o700, 0o600));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path());
        logins.accepted(&account("alice"), false, 100).unwrap();
        let file = dir.path().join("mytoken/logins/2001");
        for content in ["", "{}", r#"{"v":2,"user":"alice","accepted":1,"refused":null}"#] {
            std::fs::write(&file, content).unwrap();
            assert!(logins.read(&account("alice")).is_err(), "{content}");
        }
        logins.accepted(&account("alice"), false, 200).unwrap();
        assert_eq!(logins.read(&account("alice")).unwrap().unwrap().accepted, Some(200), "a login mends it");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(logins.read(&account("alice")).is_err(), "others could read it");
    }
}
