// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the jobs of a submission may have been submitted. slurmctld says of each job when it was submitted, by its own clock, so this time
//! is converted to slurmctld's clock before the two are compared.

/// How much earlier or later than its credential a job may seem to be submitted, in seconds: sbatch waits for a busy slurmctld, and no
/// clock is measured exactly.
pub const SUBMISSION_SLACK: u64 = 120;

/// Longest time after its credential in which a submission can be made, in seconds: by a loop that shares it, or of what `mytokenctl attach`
/// has printed.
pub const LONGEST_SUBMISSION: u64 = 3_600;

/// The same after the time in which submissions share a credential. sbatch tries again for 120 s and the time of its requests (SLURM-74),
/// and a node does not see the commands that do. Enough for the usual `MessageTimeout` of 10 s; see [`with_attempts`].
const SHARED_SLACK: u64 = 300;

/// How often sbatch asks at most, with pauses of so many seconds altogether (SLURM-74).
const ATTEMPTS: (u64, u64) = (16, 120);

/// How much longer its attempts may last.
const ATTEMPTS_MARGIN: u64 = 20;

/// The longest `MessageTimeout` that Slurm accepts without a warning, in seconds.
const LONGEST_MESSAGE_TIMEOUT: u64 = 100;

/// After this time a command that still lives does not try to submit any more, in seconds: salloc, srun and `sbatch --wait` live as long
/// as their job. sbatch sleeps for 120 s between its attempts, and the longest `MessageTimeout` makes each of them last for 100 s.
const LONGEST_ATTEMPTS: u64 = 1_800;

/// How much later than the end of its command a job may seem to be submitted, in seconds.
const AFTER_COMMAND: u64 = 30;

/// How wrong a conversion may be while one of the clocks is not known, in seconds.
const UNKNOWN_CLOCK: u64 = 3_600;

/// Begin and end of the time in which jobs may have been submitted with a sub-token that was made at `made` and may be used for
/// `shared_for` seconds. Unix seconds.
#[must_use]
pub fn submission_time(made: u64, shared_for: u64) -> (u64, u64) {
    let slack = if shared_for == 0 { SUBMISSION_SLACK } else { SHARED_SLACK };
    (made.saturating_sub(SUBMISSION_SLACK), made.saturating_add(shared_for).saturating_add(slack))
}

/// Begin and end of the time in which jobs that share a credential may have been submitted, from [`submission_time`] and slurmctld's
/// `MessageTimeout` in seconds: the last command of a loop may wait that long for each answer. `None`: slurmctld does not tell it.
#[must_use]
pub fn with_attempts((begin, end): (u64, u64), message_timeout: Option<u64>) -> (u64, u64) {
    let ((requests, pauses), each) = (ATTEMPTS, message_timeout.unwrap_or(LONGEST_MESSAGE_TIMEOUT));
    let attempts = requests.saturating_mul(each).saturating_add(pauses);
    let more = attempts.saturating_add(ATTEMPTS_MARGIN).saturating_sub(SHARED_SLACK);
    (begin, end.saturating_add(more))
}

/// Whether one command submits with a credential: it is not shared.
#[must_use]
pub fn is_single((begin, end): (u64, u64)) -> bool {
    end <= begin.saturating_add(2 * SUBMISSION_SLACK)
}

/// When the jobs of a submission were submitted, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmissionTime {
    /// Its credential was made.
    pub made: u64,
    /// None of its jobs was submitted earlier.
    pub begin: u64,
    /// None was or will be submitted later.
    pub end: u64,
    /// One command submits with it.
    pub single: bool,
}

impl SubmissionTime {
    /// From [`submission_time`] and the time until which the command that submits has lived.
    #[must_use]
    pub fn of((begin, end): (u64, u64), command: Option<u64>) -> Self {
        let made = begin.saturating_add(SUBMISSION_SLACK);
        let tried = command.map(|lived| lived.min(made.saturating_add(LONGEST_ATTEMPTS)).saturating_add(AFTER_COMMAND));
        Self { made, begin, end: tried.map_or(end, |tried| tried.max(end)), single: is_single((begin, end)) }
    }

    /// The same by slurmctld's clock.
    #[must_use]
    pub fn by(self, clock: Conversion) -> Self {
        let (begin, end) = clock.convert((self.begin, self.end));
        Self { made: clock.point(self.made), begin, end, single: self.single }
    }
}

/// What slurmctld's clock shows, compared with the clock of a time that is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// Seconds by which slurmctld's clock is ahead.
    ahead: i64,
    /// Seconds by which that may be wrong.
    doubt: u64,
}

impl Conversion {
    /// `slurmctld` and `other` are the times of both clocks at the same moment, Unix seconds.
    #[must_use]
    pub fn measured(slurmctld: u64, other: u64) -> Self {
        let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        Self { ahead: seconds(slurmctld).saturating_sub(seconds(other)), doubt: 0 }
    }

    /// The same, but at least one of them is that of this host instead, because nobody has told it.
    #[must_use]
    pub fn unknown(slurmctld: u64, other: u64) -> Self {
        Self { doubt: UNKNOWN_CLOCK, ..Self::measured(slurmctld, other) }
    }

    /// A point in time.
    #[must_use]
    pub fn point(self, time: u64) -> u64 {
        time.saturating_add_signed(self.ahead)
    }

    /// Begin and end of a time. It is longer when a clock is not known.
    #[must_use]
    pub fn convert(self, (begin, end): (u64, u64)) -> (u64, u64) {
        (self.point(begin).saturating_sub(self.doubt), self.point(end).saturating_add(self.doubt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_lives_may_still_submit_for_half_an_hour() {
        let time = |command| SubmissionTime::of(submission_time(1_000, 0), command).end;
        for (command, end) in [
            (None, 1_120),
            (Some(1_001), 1_120),
            (Some(1_090), 1_120),
            (Some(1_300), 1_330),
            // An allocation of two days.
            (Some(173_800), 2_830),
        ] {
            assert_eq!(time(command), end, "{command:?}");
        }
        let (own, shared) = (submission_time(1_000, 0), submission_time(1_000, 60));
        assert_eq!((own, shared), ((880, 1_120), (880, 1_360)));
        let single = |time, command| SubmissionTime::of(time, command).single;
        assert!(single(own, None) && single(own, Some(5_000)) && !single(shared, None));
    }

    #[test]
    fn the_last_command_of_a_loop_waits_for_each_answer_as_long_as_slurm_says() {
        let shared = submission_time(1_000, 60);
        for (message_timeout, end) in [(Some(10), 1_360), (Some(5), 1_360), (Some(60), 2_160), (None, 2_800)] {
            assert_eq!(with_attempts(shared, message_timeout), (880, end), "{message_timeout:?}");
        }
        assert_eq!(with_attempts(shared, Some(u64::MAX)), (880, u64::MAX));
    }

    #[test]
    fn times_are_converted_to_slurmctlds_clock() {
        let time = SubmissionTime::of(submission_time(1_000, 0), None);
        let by = |clock| {
            let time = time.by(clock);
            (time.begin, time.made, time.end)
        };
        assert_eq!(by(Conversion::measured(2_000, 2_000)), (880, 1_000, 1_120));
        assert_eq!(by(Conversion::measured(2_300, 2_000)), (1_180, 1_300, 1_420));
        assert_eq!(by(Conversion::measured(1_700, 2_000)), (580, 700, 820));
        assert_eq!(by(Conversion::unknown(11_500, 12_000)), (0, 500, 4_220));
    }
}
