// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[log]` of `login.toml`.

use serde::Deserialize;

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Whether a refusal of a guess ([`crate::Refusal::is_guess`]) is also logged in the form of `pam_unix`, for scanners that know only
    /// that. Off: the filter for fail2ban reads the module's own line, and a scanner that reads both would count each twice.
    pub failure_line: bool,
}
