// SPDX-License-Identifier: MIT OR Apache-2.0
//! Short-lived child processes of a login.
//!
//! A login must end at its deadline, whatever a home directory or a command does. A read that hangs cannot be interrupted in the process
//! that waits for it. So the work is done by a worker, a child that is killed at the deadline:
//!
//! ```text
//! host (sshd's auth child, su, ...)
//!   └─ supervisor: waits, with all signals blocked; kills the worker's process group at the deadline, or when the host has ended
//!        └─ worker: becomes the user, and reads the file or executes the command
//! ```
//!
//! The host sees nothing of this. The supervisor is made without a signal for its end, so the host gets no `SIGCHLD`, its own `wait` calls
//! do not find a child of ours, and it does not matter whether it ignores `SIGCHLD` (KERN-02). Its signal dispositions, descriptors and
//! identity stay as they are. The host waits for the supervisor, which itself never waits for a file system: there is no zombie. A worker
//! that not even `SIGKILL` ends, because a file server is dead or somebody holds a directory (KERN-01), goes to the init process.
//!
//! Between fork and exec only functions run that are async-signal-safe, because other threads of the host may hold locks.

mod command;
mod message;
mod raw;
mod supervise;
mod supervisor;
mod user_file;
mod worker;

pub use command::{Command, Ran, run};
pub use nix::errno::Errno;
pub use user_file::{FileFault, ReadFailed, UserFile, read};

/// A user that a worker becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// The only group id: there are no supplementary groups.
    pub gid: u32,
}
