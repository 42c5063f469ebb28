// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a scenario ended, and why it stopped.

/// The result of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ScenarioResult {
    /// Every answer was as captured.
    Passed,
    /// An answer differs. Contains the first difference.
    Failed(String),
    /// It cannot be played against this server. Contains the reason.
    Skipped(String),
}

/// Why a scenario stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// An answer differs from the capture, or there is none.
    Differs(String),
    /// The scenario needs something that is not possible at this server.
    Unplayable(String),
}

impl Stop {
    /// Puts the place of the stop before its reason.
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Differs(reason) => Self::Differs(format!("{place}: {reason}")),
            Self::Unplayable(reason) => Self::Unplayable(format!("{place}: {reason}")),
        }
    }
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Differs(reason)
    }
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        Self::Differs(reason.to_owned())
    }
}

impl From<Result<(), Stop>> for ScenarioResult {
    fn from(result: Result<(), Stop>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(Stop::Differs(reason)) => Self::Failed(reason),
            Err(Stop::Unplayable(reason)) => Self::Skipped(reason),
        }
    }
}
