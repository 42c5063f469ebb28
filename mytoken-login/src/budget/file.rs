// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file of the ledger. The processes of sshd share it. It is small, only root can access it, and a lock protects changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::private_files::{Directory, FileError, Lock, Owner, lock};
use mytoken_wire::clock::uptime;
use nix::errno::Errno;

use super::ledger::Ledger;
use super::settings::BudgetSettings;
use crate::runtime_dir::open_private_dir;

/// Directory of what is kept of logins over ssh. It is on a tmpfs and lost at boot, so times in it are seconds since boot.
pub(crate) const SSH_DIRECTORY: &str = "/run/mytoken/login";

/// Directory of what is kept of all other logins. The caller of a set-uid program (su) can stop the program at any time, even while it
/// holds the lock or waits for a server. That must not delay logins over ssh.
pub(crate) const OTHERS_DIRECTORY: &str = "/run/mytoken/login-local";

const FILE_NAME: &str = "ledger";

/// Maximum size of the file, in bytes. A full ledger is much smaller.
const SIZE_LIMIT: usize = 2 * 1024 * 1024;

/// How long a login waits for the lock. A login holds the lock for less than a millisecond.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often a login tries to lock.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The file of a ledger.
#[derive(Debug, Clone)]
pub struct LedgerFile {
    directory: PathBuf,
    owner: Owner,
}

impl LedgerFile {
    /// The ledger in `directory`. Only `owner` may have access to it.
    #[must_use]
    pub fn new(directory: &Path, owner: Owner) -> Self {
        Self { directory: directory.to_owned(), owner }
    }

    /// The ledger of logins over ssh.
    #[must_use]
    pub fn of_ssh() -> Self {
        Self::new(Path::new(SSH_DIRECTORY), Owner::ROOT)
    }

    /// The ledger of all other logins.
    #[must_use]
    pub fn of_others() -> Self {
        Self::new(Path::new(OTHERS_DIRECTORY), Owner::ROOT)
    }

    /// Changes the ledger under the lock. `change` gets the seconds since boot.
    ///
    /// # Errors
    /// [`FileError::Unusable`] when the file cannot be read, locked or written. Then the file is unchanged.
    pub fn change(
        &self,
        settings: &BudgetSettings,
        deadline: Deadline,
        change: &mut dyn FnMut(&mut Ledger, u64),
    ) -> Result<(), FileError> {
        self.change_at(&uptime, settings, deadline, change)
    }

    /// Like [`Self::change`]. `uptime` is called under the lock.
    fn change_at(
        &self,
        uptime: &dyn Fn() -> u64,
        settings: &BudgetSettings,
        deadline: Deadline,
        change: &mut dyn FnMut(&mut Ledger, u64),
    ) -> Result<(), FileError> {
        let directory = self.open()?;
        let _lock = self.lock(&directory, deadline.at_most(LOCK_WAIT))?;
        let now = uptime();
        let before = self.read_stored(&directory)?;
        let mut ledger = before.clone().into_ledger(now, settings);
        change(&mut ledger, now);
        if before != Stored::Ledger(ledger.clone()) {
            let bytes = serde_json::to_vec(&ledger).map_err(|error| self.unusable(&error.to_string()))?;
            directory.write_locked(FILE_NAME, &bytes, self.owner, 0o600)?;
        }
        Ok(())
    }

    /// The ledger without its expired parts, and the seconds since boot.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn read(&self, settings: &BudgetSettings) -> Result<(Ledger, u64), FileError> {
        let now = uptime();
        let mut ledger = self.read_stored(&self.open()?)?.into_ledger(now, settings);
        ledger.drop_expired(now, settings);
        Ok((ledger, now))
    }

    fn read_stored(&self, directory: &Directory) -> Result<Stored, FileError> {
        Ok(match directory.read(FILE_NAME, self.owner, 0o600, SIZE_LIMIT)? {
            None => Stored::Ledger(Ledger::default()),
            Some(bytes) => Ledger::parse(&bytes).map_or(Stored::Damaged, Stored::Ledger),
        })
    }

    fn lock(&self, directory: &Directory, deadline: Deadline) -> Result<Lock, FileError> {
        let handle = directory.handle().try_clone().map_err(|error| self.unusable(&error.to_string()))?;
        lock(handle, deadline, LOCK_POLL).map_err(|errno| match errno {
            Errno::EAGAIN => self.unusable("another login did not release the lock in time"),
            errno => self.unusable(errno.desc()),
        })
    }

    fn open(&self) -> Result<Directory, FileError> {
        open_private_dir(&self.directory, self.owner)
    }

    fn unusable(&self, reason: &str) -> FileError {
        FileError::Unusable { path: self.directory.join(FILE_NAME).display().to_string(), reason: reason.to_owned() }
    }
}

/// The content of the file.
#[derive(Clone, PartialEq, Eq)]
enum Stored {
    Ledger(Ledger),
    Damaged,
}

impl Stored {
    /// The ledger. A damaged one counts as exhausted.
    fn into_ledger(self, now: u64, settings: &BudgetSettings) -> Ledger {
        match self {
            Self::Ledger(ledger) => ledger,
            Self::Damaged => Ledger::exhausted(now, settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::Remote;
    use crate::budget::ledger::BudgetExceeded;

    /// Changes the file and returns the result of `change`.
    fn change<T: Default>(
        file: &LedgerFile,
        settings: &BudgetSettings,
        deadline: Deadline,
        mut change: impl FnMut(&mut Ledger, u64) -> T,
    ) -> Result<T, FileError> {
        let mut answer = T::default();
        file.change(settings, deadline, &mut |ledger, now| answer = change(ledger, now)).map(|()| answer)
    }

    #[test]
    fn simultaneous_logins_share_one_budget() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mytoken/login");
        let settings = BudgetSettings { per_address: 50, per_host: 30, ..BudgetSettings::default() };
        let passed: usize = thread::scope(|scope| {
            let logins: Vec<_> = (0..8)
                .map(|_| {
                    let (path, settings) = (&path, &settings);
                    scope.spawn(move || {
                        let file = LedgerFile::new(path, Owner::current());
                        let deadline = Deadline::after(Duration::from_secs(60));
                        let remote = Remote::of(None, Some("192.0.2.1"));
                        let spend = |ledger: &mut Ledger, now| ledger.spend(&remote, now, settings).is_ok();
                        (0..10).filter(|_| change(&file, settings, deadline, spend).unwrap()).count()
                    })
                })
                .collect();
            logins.into_iter().map(|login| login.join().unwrap()).sum()
        });
        assert_eq!(passed, 20);
    }

    #[test]
    fn a_damaged_ledger_is_usable_again_after_one_window() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::new(&dir.path().join("mytoken/login"), Owner::current());
        let settings = BudgetSettings::default();
        let spend = |now| {
            let mut result = None;
            let mut spend =
                |ledger: &mut Ledger, now| result = Some(ledger.spend(&Remote::of(None, None), now, &settings));
            file.change_at(&|| now, &settings, Deadline::after(Duration::from_secs(60)), &mut spend).unwrap();
            result.unwrap()
        };
        assert_eq!(spend(100), Ok(()));
        std::fs::write(dir.path().join("mytoken/login/ledger"), r#"{"v":2}"#).unwrap();
        assert_eq!(spend(101), Err(BudgetExceeded::Host { wait: 300 }), "after damage the budget counts as spent");
        // The refused request has written a new ledger.
        assert_eq!(spend(400), Err(BudgetExceeded::Host { wait: 1 }));
        assert_eq!(spend(401), Ok(()));
    }

    #[test]
    fn a_file_that_others_can_write_is_not_used_and_nothing_is_spent() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::new(&dir.path().join("mytoken/login"), Owner::current());
        let settings = BudgetSettings::default();
        let deadline = || Deadline::after(Duration::from_secs(5));
        let spend = |ledger: &mut Ledger, now| ledger.spend(&Remote::of(None, None), now, &settings).is_ok();
        assert!(change(&file, &settings, deadline(), spend).unwrap());
        let path = dir.path().join("mytoken/login/ledger");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(change(&file, &settings, deadline(), spend), Err(FileError::Unusable { .. })));
    }
}
