// SPDX-License-Identifier: GPL-3.0-or-later
//! PAM's six hooks.

/// A hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `pam_sm_authenticate`
    Authenticate,
    /// `pam_sm_acct_mgmt`
    Account,
    /// `pam_sm_setcred`
    Credentials,
    /// `pam_sm_open_session`
    Session,
    /// `pam_sm_close_session`
    Close,
    /// `pam_sm_chauthtok`
    Password,
}

impl Hook {
    /// Its name in the log, and in the argument `panic` of test builds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Account => "account",
            Self::Credentials => "credentials",
            Self::Session => "session",
            Self::Close => "close",
            Self::Password => "password",
        }
    }
}
