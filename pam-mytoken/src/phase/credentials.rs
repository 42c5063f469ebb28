// SPDX-License-Identifier: GPL-3.0-or-later
//! `setcred` and `chauthtok`: nothing to do.
//!
//! The credential is installed by `open_session`. After keyboard-interactive libpam walks the auth stack anew for `setcred` in
//! the monitor, and a module before ours that succeeds keeps ours from being called at all (SSH-05).

use pamsm::PamError;

use crate::codes;
use crate::host::Host;

/// `setcred`.
pub fn credentials(_: &Host<'_>) -> PamError {
    codes::credentials()
}

/// `chauthtok`.
pub fn chauthtok(_: &Host<'_>) -> PamError {
    codes::password()
}
