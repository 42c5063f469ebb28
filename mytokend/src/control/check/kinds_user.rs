// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of findings about the files of one user. An id never changes its meaning: scripts compare it.

use super::Severity;
use super::kinds::{Kind, kinds};

// Their commands depend on the user.
kinds! {
    /// The home directory cannot be read.
    HOME: "user-home", "user", Warning, "";
    /// The store of mytokens is not used.
    STORE: "user-store", "user", Warning, "";
    /// The helper gives no answer.
    HELPER: "user-helper", "user", Warning, "";
    /// The helper cannot use its settings.
    SETTINGS: "user-settings", "user", Warning, "";
    /// The user's own profiles of jobs give no credential.
    PROFILES: "user-profiles", "user", Warning, "";
    /// `XDG_RUNTIME_DIR` is not private.
    RUNTIME_DIR: "user-runtime-dir", "user", Warning, "";
    /// A file of a session is not the user's, or others can read it.
    SESSION: "user-session", "user", Warning, "";
    /// The mytoken of a session makes no sub-tokens.
    SESSION_MYTOKEN: "user-session-mytoken", "user", Warning, "";
    /// The agent does not answer this user.
    AGENT: "user-agent", "user", Warning, "";
    /// The process that reads with the user's rights gave no findings.
    NOT_CHECKED: "user-not-checked", "user", Warning, "";
}
