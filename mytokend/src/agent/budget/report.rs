// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a host tells a broker beside a request for a permit: what it has sent without one, and what the server has told it.

use serde::{Deserialize, Serialize};

use super::ledger::Purpose;

/// What a host tells. A broker cannot verify it: it takes nothing from other hosts that this one could not have had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// What it has sent without a permit of a broker, and has told none yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<ReportedUse>,
    /// What the server's last answer says of the requests that it accepts from this host's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<ReportedRest>,
}

impl HostReport {
    /// Most entries of [`Self::sent`].
    pub const MOST_USES: usize = 100;

    /// Whether it tells nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.told.is_none()
    }
}

/// Requests of one purpose and user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedUse {
    /// What for.
    pub purpose: Purpose,
    /// For whom. Absent: for nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// How many.
    pub requests: u32,
}

/// What is left in the server's present period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRest {
    /// How many requests.
    pub left: u32,
    /// Of how many in a period. Zero: the server has only refused one.
    #[serde(default)]
    pub of: u32,
    /// When the period ends, in milliseconds from now.
    pub ends: u64,
}
