// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the account phase of a PAM stack in this process, without a login: `pam_start_confdir(3)`, `pam_acct_mgmt(3)`.
//!
//! libpam is loaded when it is asked, so a program with this crate runs on hosts without PAM, too. Modules are foreign code that may hang,
//! crash or change the process. Whoever asks does so in a process of its own, with a time limit.

mod ffi;

use std::path::Path;

/// Whom to ask about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The directory with the file of the service, instead of `/etc/pam.d`.
    pub directory: &'a Path,
    /// The name of the service. Modules see it.
    pub service: &'a str,
    /// The account.
    pub user: &'a str,
    /// The address or name of the host from where the login would come (`PAM_RHOST`).
    pub origin: &'a str,
    /// The terminal (`PAM_TTY`).
    pub terminal: &'a str,
}

/// What the stack says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The return value of `pam_acct_mgmt`: 0 is success.
    pub code: i32,
    /// What the modules would show to the user, each at most 512 bytes.
    pub messages: Vec<String>,
}

/// Asks. Only the account phase runs: no authentication, no session.
///
/// # Errors
/// A sentence: there is no libpam, it is older than 1.4, or it does not start.
pub fn ask(question: &Question<'_>) -> Result<Answer, String> {
    ffi::account(question)
}
