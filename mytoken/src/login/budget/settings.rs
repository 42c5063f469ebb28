// SPDX-License-Identifier: MIT OR Apache-2.0
//! `[budget]` of `login.toml`.

use serde::Deserialize;

use crate::config::Duration;

/// How many requests to the mytoken server logins may cause that were not let in (yet).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSettings {
    /// From one IPv4 address or one IPv6 /64, within `window`.
    pub per_address: usize,
    /// From everywhere together, within `window`. Below the mytoken server's own limit for this host's address, so that accepted
    /// logins and the agent have something left.
    pub per_host: usize,
    /// The length of time in which they are counted.
    pub window: Duration,
}

impl BudgetSettings {
    /// The longest list of requests that is kept: the ledger is read and written whole.
    pub const LARGEST: usize = 10_000;
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { per_address: 15, per_host: 60, window: Duration::seconds(300) }
    }
}
