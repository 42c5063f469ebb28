// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file below a user's home, read as the user.

use std::ffi::CString;
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use mytoken_wire::clock::Deadline;
use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::User;
use crate::message::{Message, RawFault};
use crate::raw;
use crate::supervise::supervise;
use crate::supervisor::Ends;
use crate::worker::{self, Work};

/// A file below a user's home.
#[derive(Debug, Clone, Copy)]
pub struct UserFile<'a> {
    /// The user's home: an absolute path. Links in it are followed, since they are root's business.
    pub home: &'a Path,
    /// The file: a path below the home, without links and without `..`.
    pub path: &'a Path,
    /// The user. The process that reads has these ids only.
    pub user: User,
    /// Largest file in bytes.
    pub limit: usize,
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFailed {
    /// A part of its path, or the file itself, cannot be used.
    Unusable {
        /// The part.
        part: PathBuf,
        /// What is wrong.
        fault: FileFault,
    },
    /// The deadline passed.
    TimedOut,
    /// No child can be made, or it cannot become the user.
    Failed(Errno),
}

/// What is wrong with a file or directory. `Display` is a clause without subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFault {
    /// It does not exist.
    Missing,
    /// It is a symbolic link.
    Link,
    /// It is not a directory.
    NotDirectory,
    /// It is not a regular file.
    NotRegular,
    /// It belongs to this user, who is neither the account nor root.
    Owner(u32),
    /// Others than its owner can write to it. It has this mode.
    Writable(u32),
    /// It is larger than the limit.
    TooLarge,
    /// Another error.
    Unreadable(Errno),
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Link => f.write_str("is a symbolic link"),
            Self::NotDirectory => f.write_str("is not a directory"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::Owner(uid) => write!(f, "belongs to user {uid}, not to the account or root"),
            Self::Writable(mode) => write!(f, "can be written by others (mode {mode:04o})"),
            Self::TooLarge => f.write_str("is too large"),
            Self::Unreadable(errno) => write!(f, "cannot be read: {}", errno.desc()),
        }
    }
}

impl FileFault {
    fn of(fault: RawFault) -> Self {
        match fault {
            RawFault::Open(Errno::ENOENT) => Self::Missing,
            RawFault::Open(Errno::ELOOP) => Self::Link,
            RawFault::Open(Errno::ENOTDIR) => Self::NotDirectory,
            // A socket, and a device without a driver.
            RawFault::Open(Errno::ENXIO | Errno::ENODEV) | RawFault::NotRegular => Self::NotRegular,
            RawFault::Open(errno) => Self::Unreadable(errno),
            RawFault::Owner(uid) => Self::Owner(uid),
            RawFault::Writable(mode) => Self::Writable(mode),
            RawFault::TooLarge => Self::TooLarge,
        }
    }
}

/// Reads a file below a user's home, as the user. Each part of the path must belong to the user or root, and only they may be able to write to
/// it. A file server that does not answer, or a file system of the user that never will, costs no more time than until the deadline.
///
/// # Errors
/// [`ReadFailed`].
pub fn read(file: &UserFile<'_>, deadline: Deadline) -> Result<Vec<u8>, ReadFailed> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| ReadFailed::Failed(Errno::EINVAL));
    let home = text(file.home.as_os_str().as_bytes())?;
    let mut names = Vec::new();
    for component in file.path.components() {
        match component {
            Component::Normal(name) => names.push(text(name.as_bytes())?),
            _ => return Err(ReadFailed::Failed(Errno::EINVAL)),
        }
    }
    // A user reads a file of their own without any right of root.
    let user = (geteuid().as_raw() != file.user.uid).then_some(file.user);
    let prepared = Prepared { home: &home, names: &names, owner: file.user.uid, user, limit: file.limit };
    // The worker sends one byte more if the file is too large.
    let collected = supervise(&prepared, None, file.limit.saturating_add(1), deadline).map_err(ReadFailed::Failed)?;
    let mut whole = false;
    for message in &collected.messages {
        match *message {
            Message::Failed(errno) => return Err(ReadFailed::Failed(errno)),
            Message::File { part, fault } => {
                let part = usize::try_from(part).unwrap_or_default();
                let below = file.path.components().take(part);
                return Err(ReadFailed::Unusable {
                    part: below.fold(file.home.to_owned(), |path, name| path.join(name)),
                    fault: FileFault::of(fault),
                });
            }
            Message::Read => whole = true,
            // What was read is in the pipe before the worker ends.
            Message::Ended(_) if whole => return Ok(collected.output),
            Message::Begun | Message::Ended(_) | Message::TimedOut => {}
        }
    }
    Err(ReadFailed::TimedOut)
}

struct Prepared<'a> {
    home: &'a CString,
    names: &'a [CString],
    owner: u32,
    user: Option<User>,
    limit: usize,
}

impl Work for Prepared<'_> {
    fn perform(&self, ends: Ends) -> ! {
        let message = match worker::begin(self.user) {
            Ok(()) => self.read(ends.output),
            Err(errno) => Message::Failed(errno),
        };
        let _ = raw::write_all(ends.messages, &message.bytes());
        raw::exit(0)
    }
}

impl Prepared<'_> {
    fn read(&self, output: RawFd) -> Message {
        let mut part = 0;
        match self.send(output, &mut part) {
            Ok(()) => Message::Read,
            Err(fault) => Message::File { part, fault },
        }
    }

    /// Opens the path part by part. `part` is the one that it is at.
    fn send(&self, output: RawFd, part: &mut u32) -> Result<(), RawFault> {
        let mut here = raw::open_directory(self.home).map_err(RawFault::Open)?;
        self.check(here)?;
        let mut left = self.names;
        while let Some((name, rest)) = left.split_first() {
            *part = part.saturating_add(1);
            // O_NONBLOCK: a FIFO must not block, and O_NOCTTY: a terminal must not become ours.
            let file = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
            let flags = if rest.is_empty() { file } else { libc::O_PATH | libc::O_DIRECTORY };
            here = raw::open_below(here, name, flags).map_err(RawFault::Open)?;
            let kind = self.check(here)?;
            if rest.is_empty() && kind != libc::S_IFREG {
                return Err(RawFault::NotRegular);
            }
            left = rest;
        }
        self.copy(here, output)
    }

    /// Checks owner and mode. Returns the kind of the file.
    fn check(&self, fd: RawFd) -> Result<libc::mode_t, RawFault> {
        let status = raw::status(fd).map_err(RawFault::Open)?;
        let kind = status.st_mode & libc::S_IFMT;
        if kind != libc::S_IFREG && kind != libc::S_IFDIR {
            return Err(RawFault::NotRegular);
        }
        if status.st_uid != self.owner && status.st_uid != 0 {
            return Err(RawFault::Owner(status.st_uid));
        }
        if status.st_mode & 0o022 != 0 {
            return Err(RawFault::Writable(status.st_mode & 0o7777));
        }
        Ok(kind)
    }

    fn copy(&self, fd: RawFd, output: RawFd) -> Result<(), RawFault> {
        let mut buffer = [0; 4096];
        let mut sent = 0_usize;
        loop {
            let length = match raw::read(fd, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(RawFault::Open(errno)),
            };
            sent = sent.saturating_add(length);
            if sent > self.limit {
                return Err(RawFault::TooLarge);
            }
            raw::write_all(output, buffer.get(..length).unwrap_or_default()).map_err(RawFault::Open)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_not_opened_with_and_without_openat2() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("file"), "op s").unwrap();
        symlink("file", home.path().join("link")).unwrap();
        let directory = std::fs::File::open(home.path()).unwrap();
        for open in [raw::open_strictly, raw::open_without_links] {
            let opened = open(directory.as_raw_fd(), c"file", libc::O_RDONLY | libc::O_CLOEXEC);
            raw::close(opened.unwrap());
            let link = open(directory.as_raw_fd(), c"link", libc::O_RDONLY | libc::O_CLOEXEC);
            assert_eq!(link, Err(Errno::ELOOP));
        }
        // Not out of the directory, either.
        assert_eq!(raw::open_strictly(directory.as_raw_fd(), c"..", libc::O_PATH), Err(Errno::EXDEV));
    }
}
