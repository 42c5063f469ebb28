// SPDX-License-Identifier: MIT OR Apache-2.0
//! The begin and the end of a credential are times of its server's clock.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use mytoken::http::clock_difference;

use super::Agent;
use super::lease::{Lease, LeaseCredential, server};
use super::lease_table::Task;
use crate::jobs::{Window, windows};
use crate::log::Level;

/// When the difference of a server's clock was told last, elapsed time.
pub(super) type Told = HashMap<String, Duration>;

/// By how much this host's clock may be ahead of a server that has not told its time, in seconds.
const LARGEST_DIFFERENCE: u64 = 86_400;

/// Time between two lines about the same server's clock.
const PAUSE: Duration = Duration::from_secs(3_600);

/// Whether the end of a lease is a time of this host's clock: that of what was made here. The polling code of a link does not say when it ends,
/// so this host has counted that.
fn ends_by_this_clock(lease: &Lease) -> bool {
    let is_code = match &lease.credential {
        Some(LeaseCredential::Mytoken(renewal)) => mytoken::token::unverified_claims(&renewal.mytoken).is_none(),
        _ => false,
    };
    lease.is_followed_here() || is_code
}

impl Agent {
    /// The time of day at the server of a lease, Unix seconds. This host's, while the server has not told it.
    pub(super) fn server_time(&self, lease: &Lease) -> u64 {
        self.known_server_time(lease).unwrap_or_else(|| self.now() / 1000)
    }

    /// The same. `None` while the server has not told it.
    pub(super) fn known_server_time(&self, lease: &Lease) -> Option<u64> {
        let server = server(lease.credential.as_ref(), &lease.lane);
        self.configured().service.server_time(server)
    }

    /// Whether the sub-token of the lease has expired, so that nobody can use it. While its server has not told its time, which it has to
    /// do again after a restart of the agent, this host's clock may be hours ahead.
    pub(super) fn is_expired(&self, lease: &Lease) -> bool {
        let here = self.now() / 1000;
        let now = match self.known_server_time(lease) {
            _ if ends_by_this_clock(lease) => here,
            Some(at_server) => at_server,
            None => here.saturating_sub(LARGEST_DIFFERENCE),
        };
        lease.until.is_some_and(|until| until <= now)
    }

    /// When to send the first request in the window of the lease that begins at `begin` (Unix seconds of its server), Unix milliseconds
    /// of this agent's plans.
    pub(super) fn first_request(&self, lease: &Lease, begin: u64) -> u64 {
        self.first_request_in(&lease.windows, begin, self.server_time(lease))
    }

    /// The same for these windows, by the time at the server.
    pub(super) fn first_request_in(&self, windows: &[Window], begin: u64, at_server: u64) -> u64 {
        let first = windows::first_request(windows, begin, (self.draw)());
        self.now().saturating_add(first.saturating_sub(at_server.saturating_mul(1000)))
    }

    /// Says if this host's clock and that of the task's server differ much.
    pub(super) fn tell_difference(&self, task: &Task) {
        let name = match self.leases().get(&task.key) {
            Some(lease) => server(lease.credential.as_ref(), &lease.lane).to_owned(),
            None => return,
        };
        let Some(at_server) = self.configured().service.server_time(&name) else { return };
        let Some(difference) = clock_difference(at_server, self.clock.unix_millis() / 1000) else { return };
        let now = self.clock.elapsed();
        let mut told = self.told_differences.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&name).is_none_or(|last| now.saturating_sub(*last) >= PAUSE) {
            self.log.line(Level::Warning, &format!("{name}: {difference}; set it: jobs and logins go by both clocks"));
            told.insert(name, now);
        }
    }
}
