// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a lease does when somebody sets the time of day.

use super::{Lease, Phase};
use crate::jobs::windows;

impl Lease {
    /// Moves all plans by `jump` milliseconds, because the time of day was set by that much. The plans of this machine follow, and all times
    /// of a submission that was made here; other times of a credential are those of its server. `soon` is when to renew at the latest.
    pub fn follow_jump(&mut self, jump: i64, offset: i64, soon: u64) {
        let later = |at: u64| at.saturating_add_signed(jump);
        let seconds = |exp: u64| exp.saturating_mul(1000).saturating_add_signed(jump) / 1000;
        self.clock_offset = Some(offset);
        if let Some(token) = &mut self.token {
            token.exp = seconds(token.exp);
        }
        if let Some(arrived) = &mut self.arrived {
            arrived.token.exp = seconds(arrived.token.exp);
            arrived.renewal = later(arrived.renewal);
        }
        if self.is_followed_here() {
            self.until = self.until.map(seconds);
            self.submitted = self.submitted.map(|(begin, end)| (seconds(begin), seconds(end)));
            self.submitter = self.submitter.map(|command| command.moved(seconds));
        }
        for job in self.jobs.values_mut() {
            job.last_seen = later(job.last_seen);
            job.file = job.file.map(seconds);
            (job.start, job.window) = (job.start.map(later), job.window.moved(later));
        }
        self.write_due = self.write_due.map(later);
        self.requests.further_due = self.requests.further_due.map(later);
        self.requested = self.requested.map(later);
        self.asked = None;
        for file in &mut self.files {
            file.follow_jump(jump, soon);
        }
        self.phase = match self.phase {
            Phase::Active { due } => {
                // Too early does no harm: the server's clock decides then.
                let latest = |begin: u64| windows::earliest_request(begin).saturating_add(windows::SPREAD);
                Phase::Active { due: later(due).min(self.waits_until.map_or(soon, latest)) }
            }
            Phase::Ended { due, tries, revoke } => Phase::Ended { due: later(due), tries, revoke: revoke.map(later) },
            Phase::Finished { due } => Phase::Finished { due: later(due) },
            Phase::Refused => Phase::Refused,
        };
    }
}
