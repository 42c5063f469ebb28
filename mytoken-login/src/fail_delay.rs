// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fail delay: a refusal is not sent earlier than the configuration says, whatever its reason. Otherwise its time would show whether
//! an account exists: for an account that does not exist, sshd passes junk instead of the answer (SSH-04), which is refused sooner.

use std::time::{Duration, Instant};

use crate::report::Report;

/// How long the answer must still wait at `now`.
#[must_use]
pub fn remaining_fail_delay(report: &Report, fail_delay: Duration, now: Instant) -> Duration {
    match (&report.outcome, report.answered) {
        (Err(refusal), Some(answered)) if refusal.is_delayed() => {
            fail_delay.saturating_sub(now.saturating_duration_since(answered))
        }
        _ => Duration::ZERO,
    }
}
