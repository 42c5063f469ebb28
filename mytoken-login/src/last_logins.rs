// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last login with a token to each account, for logins without one.
//!
//! `/var/lib/mytoken/logins/<uid>`, root's alone. `/var`, `/var/lib` and `/var/lib/mytoken` can be links of root. The
//! files are kept over a restart of the host, so their times are those of the wall clock. Nothing is written while
//! `key_logins` of `[account]` is `ignore`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, FileError, Owner};
use serde::{Deserialize, Serialize};

use crate::accounts::LocalAccount;
use crate::service_state::ServiceState;

/// The directory of the state of this suite, and that of the last logins in it.
const DIRECTORY: &str = "/var/lib/mytoken/logins";

/// Version of the file.
const VERSION: u32 = 1;

/// Maximum size of a file, in bytes. The name of an account has at most 256, and few accounts share a user id.
const SIZE_LIMIT: usize = 64 * 1024;

/// How long a login waits for the lock of its account. It is held for one write.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The last login with a token to an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLogin {
    /// When it was accepted, Unix seconds.
    pub accepted: Option<u64>,
    /// The state in which motley_cue refused the account, and since when. `None` after motley_cue has given the account again.
    pub refused: Option<(ServiceState, u64)>,
}

/// By which rule a login with a token got its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBy {
    /// One that asks motley_cue: it does not refuse the account any more.
    MotleyCue,
    /// Another one: what motley_cue has said about the account still counts.
    OtherRule,
    /// Another one, and no rule asks motley_cue.
    WithoutMotleyCue,
}

/// A file: what is known about a user id.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    v: u32,
    /// By the name of the account: several names can share a user id, and it can be given to another account later.
    accounts: BTreeMap<String, LastLogin>,
}

impl Default for Known {
    fn default() -> Self {
        Self { v: VERSION, accounts: BTreeMap::new() }
    }
}

impl Known {
    /// A refusal counts for each name of the user id. Else another name of the account would open it.
    fn of(&self, account: &LocalAccount) -> LastLogin {
        let own = self.accounts.get(&account.name).cloned().unwrap_or_default();
        let of_any_name = || self.accounts.values().find_map(|last| last.refused);
        LastLogin { refused: own.refused.or_else(of_any_name), ..own }
    }
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

    /// Where they are kept.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether something may be known about an account. The first login makes the directory, so without one
    /// `key_logins` was never set.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        !self.directory.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// The last login of an account, with what motley_cue has said about another account with its user id. `None`:
    /// there was none. Makes nothing.
    ///
    /// # Errors
    /// [`FileError`] if there is one that cannot be read.
    pub fn read(&self, account: &LocalAccount) -> Result<Option<LastLogin>, FileError> {
        let Some(directory) = self.enter()? else { return Ok(None) };
        Ok(self.read_in(&directory, account)?.map(|known| known.of(account)))
    }

    /// Whether [`LastLogins::read`] can get to the files. Makes nothing.
    ///
    /// # Errors
    /// [`FileError`] why it cannot, for any account.
    pub fn check(&self) -> Result<(), FileError> {
        self.enter().map(drop)
    }

    /// `None`: there is no directory yet.
    fn enter(&self) -> Result<Option<Directory>, FileError> {
        let (above, parent, name) = self.names()?;
        let above = self.open(above)?;
        if !above.has(parent)? {
            return Ok(None);
        }
        let parent = self.open(&above.path().join(parent))?;
        if !parent.has(name)? {
            return Ok(None);
        }
        parent.enter(name, self.owner, 0o700).map(Some)
    }

    /// A login with a token was accepted. What motley_cue has said about another name of the user id stays. A file that
    /// cannot be read may hold a suspension, so a login by another rule does not replace it.
    ///
    /// # Errors
    /// [`FileError`]; then the file is as it was.
    pub fn accepted(&self, account: &LocalAccount, by: GivenBy, now: u64, deadline: Deadline) -> Result<(), FileError> {
        self.change(account, by != GivenBy::OtherRule, deadline, |last| {
            last.accepted = Some(now);
            if by == GivenBy::MotleyCue {
                last.refused = None;
            }
        })
    }

    /// motley_cue has refused the account to its holder.
    ///
    /// # Errors
    /// [`FileError`]; then the file is as it was.
    pub fn refused(
        &self,
        account: &LocalAccount,
        state: ServiceState,
        now: u64,
        deadline: Deadline,
    ) -> Result<(), FileError> {
        self.change(account, false, deadline, |last| match last.refused {
            Some((known, _)) if known == state => {}
            _ => last.refused = Some((state, now)),
        })
    }

    /// `replaces`: also a file that cannot be read.
    fn change(
        &self,
        account: &LocalAccount,
        replaces: bool,
        deadline: Deadline,
        change: impl FnOnce(&mut LastLogin),
    ) -> Result<(), FileError> {
        let (above, parent, name) = self.names()?;
        let above = self.open(above)?;
        // The agent's service makes the parent with mode 0755. It keeps that.
        let parent = if above.has(parent)? {
            self.open(&above.path().join(parent))?
        } else {
            above.make(parent, self.owner, 0o755)?
        };
        let directory = parent.make(name, self.owner, 0o700)?;
        let lock_name = format!(".{}.lock", account.uid);
        let _lock = directory.lock_file(&lock_name, deadline.at_most(LOCK_WAIT), LOCK_POLL)?;
        let mut known = match self.read_in(&directory, account) {
            Ok(known) => known.unwrap_or_default(),
            Err(_) if replaces => Known::default(),
            Err(error) => return Err(error),
        };
        change(known.accounts.entry(account.name.clone()).or_default());
        let bytes = serde_json::to_vec(&known).map_err(|error| self.unusable(&error.to_string()))?;
        if bytes.len() > SIZE_LIMIT {
            return Err(self.unusable("too many accounts have had this user id"));
        }
        directory.write_locked_durably(&account.uid.to_string(), &bytes, self.owner, 0o600)
    }

    fn read_in(&self, directory: &Directory, account: &LocalAccount) -> Result<Option<Known>, FileError> {
        let Some(bytes) = directory.read(&account.uid.to_string(), self.owner, 0o600, SIZE_LIMIT)? else {
            return Ok(None);
        };
        let known: Known = serde_json::from_slice(&bytes).map_err(|_| self.unusable("a file is damaged"))?;
        if known.v != VERSION {
            return Err(self.unusable("another version of the module has written a file"));
        }
        Ok(Some(known))
    }

    /// Opens a directory above the files. Links of the owner and of root are followed: `/var/lib` can be on another
    /// disk.
    fn open(&self, path: &Path) -> Result<Directory, FileError> {
        let trust = FileTrust::user(self.owner.uid);
        let real = trust.directory(path).map_err(|error| self.unusable(&error.to_string()))?;
        Directory::open(&real)
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
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Instant;

    fn account(name: &str) -> LocalAccount {
        LocalAccount { name: name.to_owned(), uid: 2_001, gid: 2_001, system: false }
    }

    fn logins(dir: &Path) -> LastLogins {
        LastLogins::new(&dir.join("mytoken/logins"), Owner::current())
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[test]
    fn the_last_login_of_an_account_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path());
        assert_eq!(logins.read(&account("alice")).unwrap(), None);
        logins.check().unwrap();
        assert!(!dir.path().join("mytoken").exists(), "reading makes nothing");
        assert!(!logins.may_exist());
        logins.accepted(&account("alice"), GivenBy::OtherRule, 100, soon()).unwrap();
        assert!(logins.may_exist());
        let read = || logins.read(&account("alice")).unwrap().unwrap();
        assert_eq!((read().accepted, read().refused), (Some(100), None));
        logins.refused(&account("alice"), ServiceState::Suspended, 200, soon()).unwrap();
        logins.refused(&account("alice"), ServiceState::Suspended, 300, soon()).unwrap();
        assert_eq!((read().accepted, read().refused), (Some(100), Some((ServiceState::Suspended, 200))));
        logins.accepted(&account("alice"), GivenBy::OtherRule, 400, soon()).unwrap();
        assert_eq!(read().refused, Some((ServiceState::Suspended, 200)), "another rule says nothing about it");
        logins.accepted(&account("alice"), GivenBy::MotleyCue, 500, soon()).unwrap();
        assert_eq!((read().accepted, read().refused), (Some(500), None));
        assert_eq!(
            logins.read(&account("bob")).unwrap(),
            Some(LastLogin::default()),
            "the user id was another account's"
        );
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("mytoken/logins"), mode("mytoken/logins/2001")), (0o700, 0o600));
        logins.check().unwrap();
        std::fs::set_permissions(dir.path().join("mytoken/logins"), std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(logins.check().is_err() && logins.read(&account("bob")).is_err(), "others could read it");
    }

    #[test]
    fn another_name_of_the_user_id_takes_no_refusal_away() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path());
        let refused = |name: &str| logins.read(&account(name)).unwrap().unwrap().refused;
        let accepted = |name: &str| logins.read(&account(name)).unwrap().unwrap().accepted;
        logins.accepted(&account("alice"), GivenBy::MotleyCue, 100, soon()).unwrap();
        logins.refused(&account("alice"), ServiceState::Suspended, 200, soon()).unwrap();
        let suspended = Some((ServiceState::Suspended, 200));
        assert_eq!(
            (refused("alice"), refused("Alice"), refused("alice@EXAMPLE.ORG")),
            (suspended, suspended, suspended)
        );
        assert_eq!((accepted("alice"), accepted("Alice")), (Some(100), None), "a login counts for its name only");
        for by in [GivenBy::OtherRule, GivenBy::WithoutMotleyCue, GivenBy::MotleyCue] {
            logins.accepted(&account("Alice"), by, 300, soon()).unwrap();
            assert_eq!((refused("alice"), refused("Alice")), (suspended, suspended), "{by:?}");
        }
        assert_eq!((accepted("alice"), accepted("Alice")), (Some(100), Some(300)));
        logins.accepted(&account("alice"), GivenBy::MotleyCue, 400, soon()).unwrap();
        assert_eq!((refused("alice"), refused("Alice")), (None, None));
    }

    #[test]
    fn links_of_the_administrator_on_the_way_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["disk/lib", "disk/own"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        symlink("disk/lib", at("lib")).unwrap();
        symlink(at("disk/own"), at("disk/lib/mytoken")).unwrap();
        let logins = LastLogins::new(&at("lib/mytoken/logins"), Owner::current());
        assert!(logins.read(&account("alice")).unwrap().is_none() && !logins.may_exist());
        logins.accepted(&account("alice"), GivenBy::OtherRule, 100, soon()).unwrap();
        assert_eq!(logins.read(&account("alice")).unwrap().unwrap().accepted, Some(100));
        assert!(at("disk/own/logins/2001").is_file() && logins.may_exist());
        // Whoever can write to a directory on the way can choose the files.
        std::fs::set_permissions(at("disk"), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(logins.read(&account("alice")).is_err() && logins.check().is_err());
        assert!(logins.accepted(&account("alice"), GivenBy::MotleyCue, 200, soon()).is_err());
    }

    #[test]
    fn nobody_waits_for_other_accounts_nor_beyond_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path());
        logins.accepted(&account("alice"), GivenBy::OtherRule, 100, soon()).unwrap();
        let directory = Directory::open(&dir.path().join("mytoken/logins")).unwrap();
        let _held = directory.lock_file(".2001.lock", soon(), LOCK_POLL).unwrap();
        let bob = LocalAccount { name: "bob".to_owned(), uid: 2_002, gid: 2_002, system: false };
        logins.accepted(&bob, GivenBy::OtherRule, 200, Deadline::after(Duration::ZERO)).unwrap();
        let began = Instant::now();
        let late = logins.accepted(&account("alice"), GivenBy::OtherRule, 300, Deadline::after(Duration::ZERO));
        assert!(late.is_err() && began.elapsed() < LOCK_WAIT / 2, "{late:?} after {:?}", began.elapsed());
        assert_eq!(logins.read(&account("alice")).unwrap().unwrap().accepted, Some(100));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let logins = logins(dir.path());
        logins.accepted(&account("alice"), GivenBy::OtherRule, 100, soon()).unwrap();
        let file = dir.path().join("mytoken/logins/2001");
        for content in
            ["", "{}", r#"{"v":1,"user":"alice"}"#, r#"{"v":2,"accounts":{"alice":{"accepted":1,"refused":null}}}"#]
        {
            std::fs::write(&file, content).unwrap();
            assert!(logins.read(&account("alice")).is_err(), "{content}");
            // It may have held a suspension.
            assert!(logins.accepted(&account("alice"), GivenBy::OtherRule, 200, soon()).is_err(), "{content}");
            assert!(logins.refused(&account("alice"), ServiceState::Limited, 200, soon()).is_err(), "{content}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content, "it stays as it is");
        }
        for by in [GivenBy::MotleyCue, GivenBy::WithoutMotleyCue] {
            std::fs::write(&file, "").unwrap();
            logins.accepted(&account("alice"), by, 200, soon()).unwrap();
            assert_eq!(logins.read(&account("alice")).unwrap().unwrap().accepted, Some(200), "{by:?} mends it");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(logins.read(&account("alice")).is_err(), "others could read it");
        assert!(logins.accepted(&account("alice"), GivenBy::OtherRule, 300, soon()).is_err());
    }
}
