// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time by which kept credentials expire. Their ends are times of the mytoken servers' clocks, and a jump of this host's clock must not
//! drop the credentials of jobs that wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::Broker;

/// By how much this host's clock may have been ahead when the broker began, in seconds.
const LARGEST_DIFFERENCE: u64 = 86_400;

/// The times of one sweep, by the server.
pub(super) struct ExpiryTimes<'a> {
    broker: &'a Broker,
    known: RefCell<HashMap<String, u64>>,
}

impl ExpiryTimes<'_> {
    /// The time of day by which the credentials of this mytoken server expire, Unix seconds: the one at that server. Another server's clock
    /// says nothing about them. While it has not told it, that of this host's clock when the broker began, and the time since then, less a
    /// day. So they are rather kept for too long, and there is a limit for their number.
    ///
    /// Empty: the text of an earlier release does not say which server it is of. Then the earliest of all these times counts.
    pub(super) fn at(&self, server: &str) -> u64 {
        if let Some(time) = self.known.borrow().get(server) {
            return *time;
        }
        let own = self.broker.earliest_time_at(self.broker.clock.elapsed());
        let service = self.broker.service();
        let time = if server.is_empty() {
            service.earliest_server_time().map_or(own, |earliest| earliest.min(own))
        } else {
            service.server_time(server).unwrap_or(own)
        };
        self.known.borrow_mut().insert(server.to_owned(), time);
        time
    }
}

impl Broker {
    /// The times by which kept credentials expire.
    pub(super) fn expiry_times(&self) -> ExpiryTimes<'_> {
        ExpiryTimes { broker: self, known: RefCell::default() }
    }

    /// The same at an elapsed time, as if no mytoken server had told its time.
    pub(super) fn earliest_time_at(&self, elapsed: Duration) -> u64 {
        let (here, begin) = self.begin;
        here.saturating_add(elapsed.saturating_sub(begin).as_secs()).saturating_sub(LARGEST_DIFFERENCE)
    }
}
