// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker: a child that becomes the user and does the work.

use nix::errno::Errno;

use crate::User;
use crate::raw;
use crate::supervisor::Ends;

/// The work of a worker.
pub(crate) trait Work {
    /// Does the work in the worker. It must call only functions of [`raw`], and end the process or execute a program.
    fn perform(&self, ends: Ends) -> !;
}

/// Begins the work: nothing of the host is left, except its memory. Then the process belongs to `user`; `None`: it stays what it is.
pub(crate) fn begin(user: Option<User>) -> Result<(), Errno> {
    raw::begin_session()?;
    raw::reset_signals();
    raw::reset_directory()?;
    raw::reset_limits();
    raw::leave_keyring();
    if let Some(user) = user {
        raw::become_user(user)?;
    }
    raw::be_closed_and_dependent()?;
    raw::unblock_signals()
}
