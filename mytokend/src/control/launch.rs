// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `mytokenctl with-token` and `mytokenctl run` have in common: the variables of a program's environment, and exit statuses as those
//! of env(1) and timeout(1).

use std::ffi::{OsStr, OsString};
use std::io;

/// The variable for the access token itself (WLCG Bearer Token Discovery). It takes precedence over the file.
pub const BEARER_TOKEN: &str = "BEARER_TOKEN";
/// The variable for the path of the file with the access token.
pub const BEARER_TOKEN_FILE: &str = "BEARER_TOKEN_FILE";
/// The variable for the directory of the token files, where there are several.
pub const MYTOKEN_TOKEN_DIR: &str = "MYTOKEN_TOKEN_DIR";

/// Exit status when there is no access token, so that the program was not started.
pub const NO_TOKEN: u8 = 125;
/// Exit status when the program exists and cannot be started.
const NOT_STARTED: u8 = 126;
/// Exit status when there is no such program.
const NOT_FOUND: u8 = 127;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {}: {reason}", program.to_string_lossy().escape_debug())]
pub struct CannotRun {
    program: OsString,
    reason: String,
    is_missing: bool,
}

impl CannotRun {
    /// The program and the error of its start.
    #[must_use]
    pub fn new(program: &OsStr, error: &io::Error) -> Self {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        Self { program: program.to_owned(), reason: error.to_string(), is_missing }
    }

    /// No program was named.
    #[must_use]
    pub fn nothing() -> Self {
        Self { program: OsString::new(), reason: "no program is named".to_owned(), is_missing: true }
    }

    /// The exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        if self.is_missing { NOT_FOUND } else { NOT_STARTED }
    }
}
