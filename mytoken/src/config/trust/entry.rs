// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file or link in a directory, looked at without opening it for reading.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;

#[cfg(not(target_os = "linux"))]
pub(super) use ByName as Entry;

/// An entry by its handle. Nobody can put another one in its place.
#[cfg(target_os = "linux")]
pub(super) struct Entry {
    handle: OwnedFd,
    stat: FileStat,
}

#[cfg(target_os = "linux")]
impl Entry {
    /// Looks at the entry `name` of `directory`; a link is not followed.
    pub(super) fn open(directory: &OwnedFd, name: &OsStr) -> Result<Self, Errno> {
        use nix::fcntl::OFlag;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = nix::fcntl::openat(directory, name, flags, nix::sys::stat::Mode::empty())?;
        let stat = nix::sys::stat::fstat(&handle)?;
        Ok(Self { handle, stat })
    }

    /// Its owner and mode.
    pub(super) fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// Where the link leads. An empty name means the handle itself (readlinkat(2)).
    pub(super) fn target(&self) -> Result<OsString, Errno> {
        readlinkat(&self.handle, "")
    }
}

/// An entry by its name, for systems where a link has no handle. Between the look and the reading only those can replace it who may write
/// to the directory or own the entry. Owners of both were checked.
#[cfg(any(test, not(target_os = "linux")))]
pub(super) struct ByName {
    directory: OwnedFd,
    name: OsString,
    stat: FileStat,
}

#[cfg(any(test, not(target_os = "linux")))]
impl ByName {
    /// Looks at the entry `name` of `directory`; a link is not followed.
    pub(super) fn open(directory: &OwnedFd, name: &OsStr) -> Result<Self, Errno> {
        let stat = nix::sys::stat::fstatat(directory, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let directory = directory.try_clone().map_err(|_| Errno::EMFILE)?;
        Ok(Self { directory, name: name.to_owned(), stat })
    }

    /// Its owner and mode.
    pub(super) fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// Where the link leads.
    pub(super) fn target(&self) -> Result<OsString, Errno> {
        readlinkat(&self.directory, self.name.as_os_str())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::private_files::FileMode;

    #[test]
    fn by_handle_and_by_name_the_same_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        symlink("some/where", dir.path().join("link")).unwrap();
        let handle = OwnedFd::from(File::open(dir.path()).unwrap());
        for (name, is_link) in [("file", false), ("link", true)] {
            let (entry, by_name) =
                (Entry::open(&handle, name.as_ref()).unwrap(), ByName::open(&handle, name.as_ref()).unwrap());
            assert_eq!((entry.stat().st_ino, entry.stat().st_mode), (by_name.stat().st_ino, by_name.stat().st_mode));
            assert_eq!(FileMode::of(by_name.stat()).is_link(), is_link, "{name}");
            assert_eq!(entry.target().ok(), by_name.target().ok(), "{name}");
        }
        assert_eq!(ByName::open(&handle, "link".as_ref()).unwrap().target().unwrap(), "some/where");
        assert_eq!(ByName::open(&handle, "missing".as_ref()).map(drop), Err(Errno::ENOENT));
    }
}
