// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fail delay: a refusal takes at least as long as the configuration says, whatever it was. Otherwise the time would tell whether
//! an account exists, for sshd hands on junk in the place of tokens for those that do not (SSH-04).

use std::time::{Duration, Instant};

use super::Report;

/// How long this report must still be held back at `now`.
#[must_use]
pub fn hold(report: &Report, fail_delay: Duration, now: Instant) -> Duration {
    match (&report.outcome, report.answered) {
        (Err(refusal), Some(answered)) if refusal.waits() => {
            fail_delay.saturating_sub(now.saturating_duration_since(answered))
        }
        _ => Duration::ZERO,
    }
}
