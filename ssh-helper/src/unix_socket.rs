// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unix sockets whose path may be longer than an address, and the user at the other end.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;

use nix::unistd::{Uid, geteuid};

/// Longest path in the address of a socket: the size of `sun_path` without the terminating zero byte.
const MAX_ADDRESS: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Listens on a new socket at `path`.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    with_short_path(path, |path| UnixListener::bind(path))
}

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, |path| UnixStream::connect(path))
}

/// Whether the process at the other end runs as this user.
pub fn is_same_user(stream: &UnixStream) -> bool {
    peer(stream).is_ok_and(|peer| peer == geteuid())
}

#[cfg(target_os = "linux")]
fn peer(stream: &UnixStream) -> nix::Result<Uid> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(stream, PeerCredentials).map(|peer| Uid::from_raw(peer.uid()))
}

#[cfg(not(target_os = "linux"))]
fn peer(stream: &UnixStream) -> nix::Result<Uid> {
    nix::unistd::getpeereid(stream).map(|(user, _)| user)
}

/// Calls `action` with a path that fits into the address of a socket.
fn with_short_path<T>(path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_ADDRESS { action(path) } else { with_long_path(path, action) }
}

/// A longer path is replaced by one through a handle of its directory.
#[cfg(target_os = "linux")]
fn with_long_path<T>(path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return action(path) };
    let directory = std::fs::File::open(directory)?;
    action(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

/// Only Linux has paths through a handle.
#[cfg(not(target_os = "linux"))]
fn with_long_path<T>(path: &Path, _action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let reason = format!(
        "the path of its socket has {} bytes, and the limit is {MAX_ADDRESS}; set TMPDIR to a shorter path",
        path.as_os_str().len()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}
