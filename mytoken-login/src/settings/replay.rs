// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[login]` of `login.toml`.

use serde::Deserialize;

/// `[login]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplaySettings {
    /// How often an access token that a user enters can log in.
    pub replay: Replay,
}

/// How often an access token that a user enters can log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// Until it expires.
    #[default]
    Off,
    /// Once on this host. It is known by its `jti`, and without one by its text.
    Jti,
}
