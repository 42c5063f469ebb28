// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time by which kept credentials expire. Their ends are times of the mytoken servers' clocks, and a jump of this host's clock must not
//! drop the credentials of jobs that wait.

use std::time::Duration;

use super::Broker;

/// By how much this host's clock may have been ahead when the broker began, in seconds.
const LARGEST_DIFFERENCE: u64 = 86_400;

impl Broker {
    /// The time of day by which kept credentials expire, Unix seconds: the earliest one at the mytoken servers. While none has told it, that
    /// of this host's clock when the broker began, and the time since then, less a day. So they are rather kept for too long, and there
    /// is a limit for their number.
    pub(super) fn expiry_time(&self) -> u64 {
        let own = || self.earliest_time_at(self.clock.elapsed());
        self.service().earliest_server_time().unwrap_or_else(own)
    }

    /// The same at an elapsed time, as if no mytoken server had told its time.
    pub(super) fn earliest_time_at(&self, elapsed: Duration) -> u64 {
        let (here, begin) = self.begin;
        here.saturating_add(elapsed.saturating_sub(begin).as_secs()).saturating_sub(LARGEST_DIFFERENCE)
    }
}
