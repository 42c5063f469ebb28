// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock between processes.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::Deadline;

/// A lock. It is released when this value is dropped or its process ends.
pub type Lock = Flock<OwnedFd>;

/// Waits for the exclusive lock of an open file or directory. `flock` has no timeout, so it is tried once per `interval`.
///
/// # Errors
/// `EAGAIN` if another process held the lock until the deadline; other errors of `flock(2)`.
pub fn lock(mut handle: OwnedFd, deadline: Deadline, interval: Duration) -> Result<Lock, Errno> {
    loop {
        match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EAGAIN | Errno::EINTR)) => handle = back,
            Err((_, errno)) => return Err(errno),
        }
        std::thread::sleep(interval.min(deadline.remaining().ok_or(Errno::EAGAIN)?));
    }
}
