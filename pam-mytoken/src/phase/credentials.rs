// SPDX-License-Identifier: GPL-3.0-or-later
//! `setcred` and `chauthtok` do nothing.
//!
//! `open_session` installs the credential. After keyboard-interactive libpam walks the auth stack again for `setcred`, in the monitor; a
//! module that succeeds before this one can keep it from being called at all (SSH-05).

use pamsm::PamError;

use crate::codes;
use crate::context::PamContext;

/// `setcred`.
pub fn credentials(_: &PamContext<'_>) -> PamError {
    codes::credentials()
}

/// `chauthtok`.
pub fn chauthtok(_: &PamContext<'_>) -> PamError {
    codes::password()
}
