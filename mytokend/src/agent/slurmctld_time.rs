// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmctld says by its own clock when a job was submitted. Other times of a submission are those of the mytoken server's clock, or of this
//! host's, so they are converted before they are compared.

use std::sync::PoisonError;
use std::time::{Duration, UNIX_EPOCH};

use mytoken::http::ServerClock;

use super::Agent;
use super::lease::Lease;
use crate::jobs::submission_time::{is_single, with_attempts};
use crate::jobs::{Conversion, HeldSubmission, SubmissionTime};

/// slurmctld's clock and `MessageTimeout`, and the elapsed time of their measurement.
pub(super) type Measured = Option<(Duration, ServerClock, Option<u64>)>;

/// While a submission goes on, a measurement of this age will do: clocks drift by milliseconds meanwhile. Before a submission is over,
/// slurmctld is asked again, because its clock may have been set.
pub(super) const DRIFTING: Duration = Duration::from_secs(600);

/// The times of a lease, and the clock that they belong to.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseTimes {
    submitted: Option<(u64, u64)>,
    /// Several commands submit with the credential.
    shared: bool,
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
}

impl Agent {
    /// The times of a lease. Those of a submission that was made here are of this agent's plans, the others are of its server's clock.
    pub(super) fn times(&self, lease: &Lease) -> LeaseTimes {
        let here = self.now() / 1000;
        let at_server = if lease.is_followed_here() { Some(here) } else { self.known_server_time(lease) };
        let (now, known) = (at_server.unwrap_or(here), at_server.is_some());
        let command = lease.submitter.filter(|_| lease.is_followed_here()).map(|command| command.lived(here));
        let submitted = lease.submitted;
        // A node has a time only of a credential that is shared.
        let shared = !lease.is_followed_here() || !submitted.is_some_and(is_single);
        LeaseTimes { submitted, shared, command, now, known, elapsed: self.clock.elapsed() }
    }

    /// Begin and end of the time in which the submission's jobs may have been submitted, by the clock of `times`. While slurmctld has told
    /// nothing of itself, its unknown clock makes that time an hour longer.
    pub(super) fn submitted_within(&self, times: LeaseTimes) -> Option<(u64, u64)> {
        let told = *self.slurmctld.lock().unwrap_or_else(PoisonError::into_inner);
        let message_timeout = told.filter(|_| times.shared).map(|(.., message_timeout)| message_timeout);
        times.submitted.map(|time| message_timeout.map_or(time, |timeout| with_attempts(time, timeout)))
    }

    /// What a node knows of a submission, and the time of day, by slurmctld's clock. That is measured again if its last measurement is older
    /// than `age`.
    pub(super) fn by_slurmctld(&self, held: HeldSubmission, times: LeaseTimes, age: Duration) -> (HeldSubmission, u64) {
        if times.submitted.is_none() {
            return (held, self.now() / 1000);
        }
        let (conversion, now) = self.conversion(times, age);
        let submitted = self.submitted_within(times).map(|submitted| conversion.convert(submitted));
        (HeldSubmission { submitted, ..held }, now)
    }

    /// When the jobs of a submission that was made here were submitted, and the time of day. As [`Self::by_slurmctld`].
    pub(super) fn submission_time(&self, times: LeaseTimes, age: Duration) -> (SubmissionTime, u64) {
        let (conversion, now) = self.conversion(times, age);
        let submitted = self.submitted_within(times).unwrap_or_default();
        (SubmissionTime::of(submitted, times.command).by(conversion), now)
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

    /// The time of day at slurmctld, Unix seconds; this host's while it is unknown.
    pub(super) fn slurmctld_now(&self) -> u64 {
        self.slurmctld_clock(DRIFTING).map_or_else(|| self.now() / 1000, |clock| clock.at(self.clock.elapsed()))
    }

    /// slurmctld's clock. `None`: it has never told it.
    fn slurmctld_clock(&self, age: Duration) -> Option<ServerClock> {
        let measured = || *self.slurmctld.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.clock.elapsed();
        if let Some((_, clock, _)) = measured().filter(|(at, ..)| sent.saturating_sub(*at) <= age) {
            return Some(clock);
        }
        // Not locked: slurmctld may hang.
        let told = self.configured().controller.itself();
        let received = self.clock.elapsed();
        let told = told.and_then(|told| Some((measured_clock(told.now, sent, received)?, told.message_timeout)));
        if let Some((clock, message_timeout)) = told {
            let measurement = Some((received, clock, message_timeout));
            *self.slurmctld.lock().unwrap_or_else(PoisonError::into_inner) = measurement;
        }
        told.map(|(clock, _)| clock).or_else(|| measured().map(|(_, clock, _)| clock))
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
