// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the checks of sshd and PAM look at, so that they are decided without a host in tests.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mytoken::Deadline;
use mytoken::config::{ConfigError, FileTrust};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::account_child;
use super::nss::{NoAnswer, Nss};
use super::pam_stack::ModuleLine;
use crate::program::{self, ProgramError};

/// Time limit of a program.
const PROGRAM: Duration = Duration::from_secs(10);

/// Largest file that is read, in bytes. The largest that a healthy host has is the list of `AppArmor`'s profiles, with some KiB.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// A host.
pub trait Host {
    /// The text of a file; `None` when it cannot be read or is too large.
    fn read(&self, path: &Path) -> Option<String>;
    /// Whether there is a file.
    fn exists(&self, path: &Path) -> bool;
    /// Whether only root can change a file, and every directory and link on the way.
    ///
    /// # Errors
    /// [`ConfigError::Unsafe`] if others can; another one if it cannot be said.
    fn trusted(&self, _path: &Path) -> Result<(), ConfigError> {
        Ok(())
    }
    /// Whether there is a file that somebody may execute.
    fn is_program(&self, path: &Path) -> bool {
        self.exists(path)
    }
    /// Runs a program with a fixed path.
    fn run(&self, program: &Path, arguments: &[&str]) -> Ran;
    /// The files that match a pattern, in order.
    fn expand(&self, _pattern: &Path) -> Vec<PathBuf> {
        Vec::new()
    }
    /// When a file or the link to it was last changed, renamed or put there; for a directory, when a file was added or removed.
    fn last_change(&self, _path: &Path) -> Option<SystemTime> {
        None
    }
    /// An account with exactly this name.
    ///
    /// # Errors
    /// It cannot be said whether there is one.
    fn person(&self, _name: &str) -> Result<Option<Person>, NoAnswer> {
        Ok(None)
    }
    /// The names of all groups of an account. `gid`: its primary group.
    ///
    /// # Errors
    /// It cannot be said which they are.
    fn groups(&self, _name: &str, _gid: u32) -> Result<Vec<String>, NoAnswer> {
        Ok(Vec::new())
    }
    /// Whether there is a group. One that cannot be looked up counts.
    fn has_group(&self, _name: &str) -> bool {
        false
    }
    /// Asks libpam what one line of an account stack says about an account.
    ///
    /// # Errors
    /// [`AccountError`].
    fn account(&self, _question: &AccountQuestion<'_>) -> Result<AccountAnswer, AccountError> {
        Err(AccountError::Unsupported("there is no libpam to ask".to_owned()))
    }
    /// The addresses of this host's interfaces.
    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }
    /// A member of a group, by its list of members: an account that exists, and not root.
    fn member(&self, _group: &str) -> Option<String> {
        None
    }
}

/// An account, as sshd looks it up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// The login shell.
    pub shell: PathBuf,
}

/// What libpam is asked.
#[derive(Debug, Clone, Copy)]
pub struct AccountQuestion<'a> {
    /// The only line that it runs.
    pub line: &'a ModuleLine,
    /// The service whose line it is.
    pub service: &'a str,
    /// The account.
    pub user: &'a str,
    /// From where the login would come.
    pub origin: &'a str,
    /// How long the answer may take.
    pub limit: Duration,
}

/// What a module says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAnswer {
    /// Its return value.
    pub code: i32,
    /// What it shows to the user.
    pub messages: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountError {
    /// libpam cannot be asked on this host.
    Unsupported(String),
    /// The module gave none.
    NoAnswer(String),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// Successfully, with this output.
    Output(String),
    /// With an error, with this output on standard error.
    Failed(String),
    /// It is not on this host.
    Missing,
}

/// This host.
#[derive(Debug, Default)]
pub struct ThisHost {
    /// Its accounts and groups.
    pub nss: Nss,
}

impl Host for ThisHost {
    fn read(&self, path: &Path) -> Option<String> {
        read_text(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_program(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Ran {
        match program::run(Command::new(program).args(arguments), Deadline::after(PROGRAM)) {
            Ok(outcome) if outcome.success => Ran::Output(outcome.output),
            Ok(outcome) => Ran::Failed(outcome.errors.trim().to_owned()),
            Err(ProgramError::Start(error)) if error.kind() == ErrorKind::NotFound => Ran::Missing,
            Err(error) => Ran::Failed(format!("it {error}")),
        }
    }

    fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        let paths = pattern.to_str().and_then(|pattern| glob::glob(pattern).ok());
        paths.into_iter().flatten().filter_map(Result::ok).collect()
    }

    fn trusted(&self, path: &Path) -> Result<(), ConfigError> {
        if path.is_dir() { FileTrust::ROOT.directory(path).map(drop) } else { FileTrust::ROOT.check_file(path) }
    }

    fn last_change(&self, path: &Path) -> Option<SystemTime> {
        let target = path.metadata().ok()?;
        if target.is_dir() {
            return target.modified().ok();
        }
        // Packages and `cp -p` set the time of modification to one in the past, but not this one.
        let changed = |meta: &Metadata| {
            let seconds = Duration::from_secs(u64::try_from(meta.ctime()).ok()?);
            let nanoseconds = Duration::from_nanos(u64::try_from(meta.ctime_nsec()).ok()?);
            UNIX_EPOCH.checked_add(seconds)?.checked_add(nanoseconds)
        };
        changed(&target).max(path.symlink_metadata().ok().as_ref().and_then(changed))
    }

    fn person(&self, name: &str) -> Result<Option<Person>, NoAnswer> {
        self.nss.person(name)
    }

    fn groups(&self, name: &str, gid: u32) -> Result<Vec<String>, NoAnswer> {
        self.nss.groups(name, gid)
    }

    fn has_group(&self, name: &str) -> bool {
        self.nss.has_group(name)
    }

    fn account(&self, question: &AccountQuestion<'_>) -> Result<AccountAnswer, AccountError> {
        account_child::ask(question, PROGRAM)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
        let ip = |address: SockaddrStorage| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            v4.or_else(|| Some(IpAddr::from(address.as_sockaddr_in6()?.ip())))
        };
        interfaces.filter_map(ip).collect()
    }

    fn member(&self, group: &str) -> Option<String> {
        self.nss.member(group)
    }
}

/// A regular file, opened for reading.
pub(super) fn open_regular(path: &Path) -> Option<File> {
    // O_NONBLOCK: a FIFO at this path must not make the check hang.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// The text of a regular file, up to [`FILE_LIMIT`]; `None` when it cannot be read or is larger. Programs read bytes: a comment that is not
/// UTF-8 makes no file unreadable.
pub(super) fn read_text(path: &Path) -> Option<String> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    let length = file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).ok()?;
    (length as u64 <= FILE_LIMIT).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Where libpam looks for a module that is written without a directory: the triplets of Debian, and lib64 elsewhere.
#[must_use]
pub fn module_paths(module: &str) -> Vec<PathBuf> {
    if module.starts_with('/') {
        return vec![PathBuf::from(module)];
    }
    let little = cfg!(target_endian = "little");
    let triplet = match std::env::consts::ARCH {
        "powerpc64" if little => "powerpc64le-linux-gnu".to_owned(),
        "x86" => "i386-linux-gnu".to_owned(),
        "arm" => "arm-linux-gnueabihf".to_owned(),
        arch => format!("{arch}-linux-gnu"),
    };
    [
        format!("/usr/lib/{triplet}"),
        format!("/lib/{triplet}"),
        "/usr/lib64".into(),
        "/lib64".into(),
        "/usr/lib".into(),
        "/lib".into(),
    ]
    .iter()
    .map(|directory| Path::new(directory).join("security").join(module))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::slurm::library_version;
    use super::*;

    #[test]
    fn only_regular_files_of_a_sane_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (small, large, fifo) = (dir.path().join("small"), dir.path().join("large"), dir.path().join("fifo"));
        std::fs::write(&small, "auth").unwrap();
        File::create(&large).unwrap().set_len(FILE_LIMIT + 1).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_text(&small).as_deref(), Some("auth"));
        std::fs::write(&small, b"# f\xfcr\nauth").unwrap();
        assert_eq!(read_text(&small).as_deref(), Some("# f\u{fffd}r\nauth"));
        for path in [&large, &fifo, &dir.path().join("none")] {
            assert_eq!(read_text(path), None, "{}", path.display());
            assert_eq!(library_version(path), None, "{}", path.display());
        }
        File::options().write(true).open(&large).unwrap().set_len(FILE_LIMIT).unwrap();
        assert!(read_text(&large).is_some());
        // Files of the kernel have no size.
        assert!(read_text(Path::new("/proc/self/maps")).is_some());
    }
}
