// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmctld says by its own clock when a job was submitted. Other times of a submission are those of the mytoken server's clock, or of this
//! host's, so they are converted before they are compared.

use std::sync::PoisonError;
use std::time::{Duration, UNIX_EPOCH};

use mytoken::http::ServerClock;

use super::Agent;
use super::lease::Lease;
use crate::jobs::{Conversion, HeldSubmission, SubmissionTime};

/// slurmctld's clock, and the elapsed time of its measurement.
pub(super) type Measured = Option<(Duration, ServerClock)>;

/// While a submission goes on, a measurement of this age will do: clocks drift by milliseconds meanwhile. Before a submission is over,
/// slurmctld is asked again, because its clock may have been set.
pub(super) const DRIFTING: Duration = Duration::from_secs(600);

/// The times of a lease, and the clock that they belong to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseTimes {
    submitted: Option<(u64, u64)>,
    /// Until when the command that submits has lived.
    command: Option<u64>,
    /// The time of their clock, Unix seconds, when this host's elapsed time was [`Self::elapsed`].
    now: u64,
    /// That clock is known. If not, [`Self::now`] is this host's.
    known: bool,
    elapsed: Duration,
}

impl LeaseTimes {
    /// The time of their clock, Unix seconds.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Begin and end of the time in which the submission's jobs may have been submitted, by that clock.
    pub(super) fn submitted(&self) -> Option<(u64, u64)> {
        self.submitted
    }
}

impl Agent {
    /// The times of a lease. Those of a submission that was made here are of this agent's plans, the others are of its server's clock.
    pub(super) fn times(&self, lease: &Lease) -> LeaseTimes {
        let here = self.now() / 1000;
        let at_server = if lease.is_followed_here() { Some(here) } else { self.known_server_time(lease) };
        let (now, known) = (at_server.unwrap_or(here), at_server.is_some());
        let command = lease.submitter.filter(|_| lease.is_followed_here()).map(|command| command.lived(here));
        LeaseTimes { submitted: lease.submitted, command, now, known, elapsed: self.clock.elapsed() }
    }

    /// What a node knows of a submission, and the time of day, by slurmctld's clock. That is measured again if its last measurement is older
    /// than `age`.
    pub(super) fn by_slurmctld(&self, held: HeldSubmission, times: LeaseTimes, age: Duration) -> (HeldSubmission, u64) {
        let Some(submitted) = times.submitted else { return (held, self.now() / 1000) };
        let (conversion, now) = self.conversion(times, age);
        (HeldSubmission { submitted: Some(conversion.convert(submitted)), ..held }, now)
    }

    /// When the jobs of a submission that was made here were submitted, and the time of day. As [`Self::by_slurmctld`].
    pub(super) fn submission_time(&self, times: LeaseTimes, age: Duration) -> (SubmissionTime, u64) {
        let (conversion, now) = self.conversion(times, age);
        (SubmissionTime::of(times.submitted.unwrap_or_default(), times.command).by(conversion), now)
    }

    fn conversion(&self, times: LeaseTimes, age: Duration) -> (Conversion, u64) {
        let clock = self.slurmctld_clock(age);
        let here = self.now() / 1000;
        let passed = self.clock.elapsed().saturating_sub(times.elapsed).as_secs();
        let slurmctld = clock.map(|clock| clock.at(times.elapsed));
        let conversion = match slurmctld {
            Some(slurmctld) if times.known => Conversion::measured(slurmctld, times.now),
            _ => Conversion::unknown(slurmctld.unwrap_or(here.saturating_sub(passed)), times.now),
        };
        (conversion, clock.map_or(here, |clock| clock.at(self.clock.elapsed())))
    }

    /// slurmctld's clock. `None`: it has never told it.
    fn slurmctld_clock(&self, age: Duration) -> Option<ServerClock> {
        let measured = || *self.slurmctld.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.clock.elapsed();
        if let Some((_, clock)) = measured().filter(|(at, _)| sent.saturating_sub(*at) <= age) {
            return Some(clock);
        }
        // Not locked: slurmctld may hang.
        let told = self.configured().controller.time_of_day();
        let received = self.clock.elapsed();
        let clock = told.and_then(|now| measured_clock(now, sent, received));
        if let Some(clock) = clock {
            *self.slurmctld.lock().unwrap_or_else(PoisonError::into_inner) = Some((received, clock));
        }
        clock.or_else(|| measured().map(|(_, clock)| clock))
    }
}

/// slurmctld's clock, which was at `now` Unix seconds between these elapsed times. `None`: that cannot be.
fn measured_clock(now: u64, sent: Duration, received: Duration) -> Option<ServerClock> {
    ServerClock::measure(UNIX_EPOCH.checked_add(Duration::from_secs(now))?, sent, received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_is_no_measurement() {
        let (sent, received) = (Duration::from_secs(10), Duration::from_secs(11));
        let clock = |now| measured_clock(now, sent, received).map(|clock| clock.at(received));
        assert_eq!(clock(1_795_734_559), Some(1_795_734_560));
        for wrong in [0, i64::MAX as u64, u64::MAX] {
            assert_eq!(clock(wrong), None, "{wrong}");
        }
    }
}
