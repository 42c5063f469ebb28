// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opens a path component by component. Each component is opened below the handle of the one before, and checked by its own handle. No name
//! is resolved twice, so nothing can change between check and use.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use mytoken_wire::shell_word;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::entry::Entry;
use super::file_trust::{Fault, FileTrust, PathPart, mendable, unreadable};
use crate::config::error::ConfigError;
use crate::private_files::FileMode;

/// Largest number of links in one path, as in Linux.
const LINKS: usize = 40;

/// What a path leads to.
pub(super) enum Found {
    /// A regular file, open for reading.
    File { file: File, meta: Metadata },
    /// A directory and its path without links. The handle is only used to open names below it; on Linux it permits nothing else.
    Directory { handle: OwnedFd, path: PathBuf },
    /// This part of the path does not exist. The directories above it were checked.
    Missing(PathBuf),
    /// A link of the path leads to this part, which does not exist. So what the link stands for cannot be read, which is not the same as
    /// that there is nothing.
    Dangling(PathBuf),
}

/// A directory of the path.
struct Step {
    handle: OwnedFd,
    path: PathBuf,
}

struct PathWalk<'a> {
    trust: FileTrust,
    asked: &'a Path,
    /// From the root directory to here, without links.
    steps: Vec<Step>,
    /// Components that are not opened yet, the next one last.
    ahead: Vec<OsString>,
    /// The last link that was followed, for messages.
    link: Option<PathBuf>,
    links: usize,
    /// How many components follow a link that was met: fewer are ahead when its target was found. Of several links, the least.
    after_link: Option<usize>,
}

/// Opens `path`, follows links, and checks every part of it.
pub(super) fn open_checked(trust: FileTrust, path: &Path) -> Result<Found, ConfigError> {
    let whole = std::path::absolute(path).map_err(|error| unreadable(path, &error.to_string()))?;
    let mut walk =
        PathWalk { trust, asked: path, steps: Vec::new(), ahead: Vec::new(), link: None, links: 0, after_link: None };
    walk.add_path(&whole)?;
    while let Some(name) = walk.ahead.pop() {
        if name == ".." {
            // A step's path has no links, so the step before it is its parent directory. The parent of the root is the root itself.
            if walk.steps.len() > 1 {
                walk.steps.pop();
            }
        } else if let Some(found) = walk.step(&name)? {
            return Ok(found);
        }
    }
    let last = walk.steps.pop().ok_or_else(|| unreadable(path, "it has no directory"))?;
    Ok(Found::Directory { handle: last.handle, path: last.path })
}

/// Opens a directory that the caller may enter. Without `O_DIRECTORY`, `O_PATH` would not make an automounter mount the directory.
#[cfg(target_os = "linux")]
const ENTER: OFlag = OFlag::O_PATH;
/// Other systems open only directories that the caller may also list.
#[cfg(not(target_os = "linux"))]
const ENTER: OFlag = OFlag::O_RDONLY;
/// Opens a directory to open names below it.
const DIRECTORY: OFlag = ENTER.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// `O_NONBLOCK`: a FIFO instead of the file must not block a login.
const FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

impl PathWalk<'_> {
    /// Puts the components of `path` before those that are ahead. An absolute path starts again at the root directory.
    fn add_path(&mut self, path: &Path) -> Result<(), ConfigError> {
        if path.is_absolute() {
            let handle =
                openat(AT_FDCWD, "/", DIRECTORY, Mode::empty()).map_err(|errno| self.failed(Path::new("/"), errno))?;
            self.steps.clear();
            self.enter(handle, PathBuf::from("/"))?;
        }
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        });
        let names: Vec<OsString> = names.collect();
        self.ahead.extend(names.into_iter().rev());
        Ok(())
    }

    /// Opens the next component; `Some` if it was the last.
    fn step(&mut self, name: &OsStr) -> Result<Option<Found>, ConfigError> {
        let Some(here) = self.steps.last() else { return Err(unreadable(self.asked, "it has no directory")) };
        let path = here.path.join(name);
        match openat(&here.handle, name, DIRECTORY, Mode::empty()) {
            Ok(handle) => return self.enter(handle, path).map(|()| None),
            Err(Errno::ENOENT) => return Ok(Some(self.missing(path))),
            // For a file, and for a link if both flags are set. EMLINK: FreeBSD.
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EMLINK) => {}
            Err(errno) => return Err(self.failed(&path, errno)),
        }
        let other = match Entry::open(&here.handle, name) {
            Ok(other) => other,
            Err(Errno::ENOENT) => return Ok(Some(self.missing(path))),
            Err(errno) => return Err(self.failed(&path, errno)),
        };
        if FileMode::of(other.stat()).is_link() {
            return self.follow(&other, path).map(|()| None);
        }
        if !self.ahead.is_empty() {
            return Err(self.refused(&path.display().to_string(), "is not a directory"));
        }
        let handle = openat(&here.handle, name, FILE, Mode::empty()).map_err(|errno| self.failed(&path, errno))?;
        let file = File::from(handle);
        let meta = file.metadata().map_err(|error| unreadable(self.asked, &error.to_string()))?;
        if !meta.is_file() {
            // The sentence begins with the path that was asked for.
            let part = if path == self.asked { "it".to_owned() } else { path.display().to_string() };
            return Err(self.refused(&part, "is not a regular file"));
        }
        self.check(PathPart::File, &path, meta.uid(), meta.mode())?;
        Ok(Some(Found::File { file, meta }))
    }

    /// What a component that does not exist means. It is not among those that are ahead any more.
    fn missing(&self, path: PathBuf) -> Found {
        let is_target = self.after_link.is_some_and(|after| self.ahead.len() >= after);
        if is_target { Found::Dangling(path) } else { Found::Missing(path) }
    }

    fn enter(&mut self, handle: OwnedFd, path: PathBuf) -> Result<(), ConfigError> {
        let stat = fstat(&handle).map_err(|errno| self.failed(&path, errno))?;
        self.check_stat(PathPart::Directory, &path, &stat)?;
        self.steps.push(Step { handle, path });
        Ok(())
    }

    fn follow(&mut self, link: &Entry, path: PathBuf) -> Result<(), ConfigError> {
        self.check_stat(PathPart::Link, &path, link.stat())?;
        self.links += 1;
        if self.links > LINKS {
            return Err(self.failed(&path, Errno::ELOOP));
        }
        let target = link.target().map_err(|errno| self.failed(&path, errno))?;
        self.link = Some(path);
        let after = self.ahead.len();
        self.after_link = Some(self.after_link.map_or(after, |other| other.min(after)));
        self.add_path(Path::new(&target))
    }

    fn check_stat(&self, part: PathPart, path: &Path, stat: &FileStat) -> Result<(), ConfigError> {
        self.check(part, path, stat.st_uid, FileMode::of(stat).permissions())
    }

    fn check(&self, part: PathPart, path: &Path, uid: u32, mode: u32) -> Result<(), ConfigError> {
        let named = match part {
            PathPart::Directory => format!("the directory {}", path.display()),
            PathPart::Link => format!("the link {}", path.display()),
            PathPart::File if path == self.asked => "it".to_owned(),
            PathPart::File => format!("the file {}", path.display()),
        };
        match self.trust.fault(part, uid, mode) {
            None => Ok(()),
            // The owner may need the directory: it can be a home.
            Some(Fault::Owner(uid))
                if part == PathPart::Directory && self.trust == FileTrust::ROOT && !path.starts_with("/etc") =>
            {
                Err(self.refused(&named, &format!("belongs to user {uid}, not to root; put the file elsewhere")))
            }
            Some(Fault::Owner(uid)) => {
                let (owner, fix) = if self.trust == FileTrust::ROOT {
                    ("root", format!("chown -h root: {}", shell_word(&path.to_string_lossy())))
                } else {
                    ("you or root", String::new())
                };
                Err(self.mendable(&named, &format!("belongs to user {uid}; it must belong to {owner}"), fix))
            }
            Some(Fault::Writable(mode)) => {
                // `chmod` would make a directory like /tmp unusable for others.
                let fault = format!("can be written by others (mode {mode:04o})");
                if mode & 0o1000 == 0 {
                    Err(self.mendable(&named, &fault, format!("chmod go-w {}", shell_word(&path.to_string_lossy()))))
                } else {
                    Err(self.refused(&named, &format!("{fault}; put the file elsewhere")))
                }
            }
        }
    }

    /// The error for an unsafe part. It names the link that led to it.
    fn refused(&self, part: &str, fault: &str) -> ConfigError {
        self.mendable(part, fault, String::new())
    }

    /// As [`Self::refused`], with a command that makes the part safe.
    fn mendable(&self, part: &str, fault: &str, fix: String) -> ConfigError {
        let by = self.link.as_ref().map(|link| format!(" (reached by the link {})", link.display()));
        mendable(self.asked, &format!("{part}{} {fault}", by.unwrap_or_default()), fix)
    }

    fn failed(&self, part: &Path, errno: Errno) -> ConfigError {
        let reason = std::io::Error::from(errno).to_string();
        let named = if part == self.asked { reason } else { format!("{}: {reason}", part.display()) };
        unreadable(self.asked, &named)
    }
}
