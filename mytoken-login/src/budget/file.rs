// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger between the processes of sshd: one small root-only file, changed under a lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mytoken::Deadline;
use mytoken::files::FileError;
use mytoken::files::{Directory, Lock, Owner, lock};
use mytoken_wire::clock::uptime;
use nix::errno::Errno;

use super::{BudgetSettings, Ledger};
use crate::handover::runtime;

/// Where the ledger of logins over ssh is; on a tmpfs, because what it holds ends with the boot.
pub const DIRECTORY: &str = "/run/mytoken/login";

/// Where that of all others is. Who calls a set-uid program (su) can stop it at any moment, also while it holds the lock or waits for a
/// server: that must not concern logins over ssh.
pub const LOCAL_DIRECTORY: &str = "/run/mytoken/login-local";

const NAME: &str = "ledger";

/// Far above what a full ledger needs.
const SIZE_LIMIT: usize = 2 * 1024 * 1024;

/// How long the lock is waited for; it is held for less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// The place of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerFile {
    directory: PathBuf,
    owner: Owner,
}

impl LedgerFile {
    /// The ledger in `directory`, for `owner` alone.
    #[must_use]
    pub fn new(directory: &Path, owner: Owner) -> Self {
        Self { directory: directory.to_owned(), owner }
    }

    /// Changes the ledger: nobody else does meanwhile. `change` gets the seconds since boot.
    ///
    /// # Errors
    /// [`FileError::Unusable`] when it cannot be read, locked or written; then nothing was changed.
    pub fn change(
        &self,
        settings: &BudgetSettings,
        deadline: Deadline,
        change: &mut dyn FnMut(&mut Ledger, u64),
    ) -> Result<(), FileError> {
        let directory = self.open()?;
        let _lock = self.lock(&directory, deadline.at_most(PATIENCE))?;
        let now = uptime();
        let (before, store) = self.read(&directory, now, settings)?;
        let mut ledger = before.clone();
        change(&mut ledger, now);
        if store || ledger != before {
            let bytes = serde_json::to_vec(&ledger).map_err(|error| self.failed(&error.to_string()))?;
            directory.write_alone(NAME, &bytes, self.owner, 0o600)?;
        }
        Ok(())
    }

    /// The ledger as it is, and the seconds since boot.
    ///
    /// # Errors
    /// [`FileError::Unusable`].
    pub fn look(&self, settings: &BudgetSettings) -> Result<(Ledger, u64), FileError> {
        let now = uptime();
        let (mut ledger, _) = self.read(&self.open()?, now, settings)?;
        ledger.forget(now, settings);
        Ok((ledger, now))
    }

    /// The ledger, and whether it must be stored although nothing in it changes.
    fn read(&self, directory: &Directory, now: u64, settings: &BudgetSettings) -> Result<(Ledger, bool), FileError> {
        let bytes = directory.read(NAME, self.owner, 0o600, SIZE_LIMIT)?;
        Ok(bytes.map_or_else(Default::default, |bytes| Ledger::parse(&bytes, now, settings)))
    }

    fn lock(&self, directory: &Directory, deadline: Deadline) -> Result<Lock, FileError> {
        let handle = directory.handle().try_clone().map_err(|error| self.failed(&error.to_string()))?;
        lock(handle, deadline, POLL).map_err(|errno| match errno {
            Errno::EAGAIN => self.failed("another login kept it locked"),
            errno => self.failed(errno.desc()),
        })
    }

    fn open(&self) -> Result<Directory, FileError> {
        let wrong = || self.failed("it is no absolute path");
        let above = self.directory.parent().ok_or_else(wrong)?;
        let name = self.directory.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
        runtime(above, self.owner)?.make(name, self.owner, 0o700)
    }

    fn failed(&self, reason: &str) -> FileError {
        FileError::Unusable { path: self.directory.join(NAME).display().to_string(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::Remote;

    /// What `change` answered.
    fn changed<T: Default>(
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
                        (0..10).filter(|_| changed(&file, settings, deadline, spend).unwrap()).count()
                    })
                })
                .collect();
            logins.into_iter().map(|login| login.join().unwrap()).sum()
        });
        assert_eq!(passed, 20);
    }

    #[test]
    fn what_cannot_be_read_is_good_again_after_one_window() {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::new(&dir.path().join("mytoken/login"), Owner::current());
        let settings = BudgetSettings { window: mytoken::config::Duration::seconds(1), ..BudgetSettings::default() };
        let spend = || {
            let remote = Remote::of(None, None);
            let spend = |ledger: &mut Ledger, now| ledger.spend(&remote, now, &settings).is_ok();
            changed(&file, &settings, Deadline::after(Duration::from_secs(60)), spend).unwrap()
        };
        assert!(spend());
        std::fs::write(dir.path().join("mytoken/login/ledger"), r#"{"v":2}"#).unwrap();
        assert!(!spend(), "it may have been spent");
        thread::sleep(Duration::from_millis(2_100));
        assert!(spend());
    }

    #[test]
    fn a_file_of_others_is_not_believed_and_nothing_is_spent() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::new(&dir.path().join("mytoken/login"), Owner::current());
        let settings = BudgetSettings::default();
        let deadline = || Deadline::after(Duration::from_secs(5));
        let spend = |ledger: &mut Ledger, now| ledger.spend(&Remote::of(None, None), now, &settings).is_ok();
        assert!(changed(&file, &settings, deadline(), spend).unwrap());
        let path = dir.path().join("mytoken/login/ledger");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(changed(&file, &settings, deadline(), spend), Err(FileError::Unusable { .. })));
    }
}
