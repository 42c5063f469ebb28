// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unix sockets whose path may be longer than an address, and the user at the other end.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

/// Longest path in the address of a socket: the size of `sun_path` without the terminating zero byte.
const MAX_ADDRESS: usize = 107;

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
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// Calls `action` with a path that fits into the address of a socket. A longer path is replaced by one through a handle
/// of its directory.
fn with_short_path<T>(path: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return action(path) };
    if path.as_os_str().len() <= MAX_ADDRESS {
        return action(path);
    }
    let directory = File::open(directory)?;
    action(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}
