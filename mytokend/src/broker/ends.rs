// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides from slurmctld's answer whether a submission is over. It is asked once for all submissions.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::binding::Binding;
use super::cluster_jobs::ClusterJobs;
use crate::jobs::submission_end::{EndDecision, HeldSubmission, decide_end, shows};

/// What an answer of slurmctld means for a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A job of it runs, waits, or may still come.
    GoesOn,
    /// slurmctld shows no job of it: it has forgotten them, or does not know them yet.
    NotShown,
    /// All its jobs are final.
    Over,
}

/// What is known of a submission's jobs.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The user.
    pub uid: u32,
    /// Jobs that asked for a token, or whose ends were told.
    pub jobs: &'a BTreeSet<u32>,
    /// Their leaders, and when they were submitted.
    pub binding: &'a Binding,
    /// slurmctld was asked after the end of that time.
    pub complete: bool,
    /// When jobs with this credential were submitted, Unix seconds of slurmctld's clock.
    pub time: (u64, u64),
    /// A node has asked for one of its jobs, or told an end.
    pub is_told: bool,
    /// A job of this user that is not final belongs to no submission whose leaders are known: [`unclaimed`].
    pub unclaimed: bool,
    /// Leaders whose jobs have another credential now. Submissions of a loop share one, and each has a leader.
    pub replaced: &'a BTreeSet<u32>,
}

/// Whether a job of a user that is not final has none of these leaders, which are those of all submissions of the user.
#[must_use]
pub fn unclaimed(jobs: &ClusterJobs, uid: u32, leaders: &BTreeSet<u32>) -> bool {
    jobs.live_leaders(uid).any(|leader| !leaders.contains(&leader))
}

/// Judges a submission at `now`, Unix seconds of slurmctld's clock. The second value are the leaders of those that share its credential, as
/// this answer shows them. Of a credential that is not shared a node proves the leader, and no answer does.
#[must_use]
pub fn judge(jobs: &ClusterJobs, known: Known<'_>, now: u64) -> (Standing, BTreeSet<u32>) {
    let (standing, leaders) = judge_named(jobs, known, now);
    (if may_be_held(jobs, known) { Standing::GoesOn } else { standing }, leaders)
}

/// Whether a job of which no node has proven that it has the credential may have it. A node can name a wrong job: that this one has ended
/// must not revoke what another one needs. A node that was stolen can also bring a text of its own for a job, which then has a submission;
/// so each job counts that was submitted when this one was.
fn may_be_held(jobs: &ClusterJobs, known: Known<'_>) -> bool {
    if known.binding.has_own_job || known.binding.submitted.is_some() && !known.is_told {
        return false;
    }
    known.unclaimed || known.is_told && jobs.has_live_in(known.uid, known.time)
}

/// Judges a submission by the jobs that were named.
fn judge_named(jobs: &ClusterJobs, known: Known<'_>, now: u64) -> (Standing, BTreeSet<u32>) {
    let (named, is_shared) = (known.binding.named(), known.binding.submitted.is_some());
    if named.is_empty() && !is_shared {
        return (Standing::NotShown, BTreeSet::new());
    }
    // All its jobs that are known have another credential.
    if !is_shared && named.is_subset(known.replaced) {
        return (Standing::Over, BTreeSet::new());
    }
    let has_own = |job: &u32| jobs.job(*job).is_none_or(|own| !known.replaced.contains(&own.leader));
    let held = HeldSubmission {
        jobs: jobs.shown(known.uid, known.jobs).into_iter().filter(has_own).collect(),
        leaders: named.difference(known.replaced).copied().collect(),
        submitted: known.binding.submitted,
        complete: known.complete,
        ..HeldSubmission::default()
    };
    // Of jobs that share a credential, the time decides which are of the submission.
    let lines = match held.submitted {
        Some(_) if known.replaced.is_empty() => Cow::from(jobs.of_user(known.uid)),
        Some(_) => Cow::from(jobs.without(known.uid, known.replaced)),
        None => Cow::from(jobs.about(known.uid, &held.jobs.union(&held.leaders).copied().collect())),
    };
    let (decision, leaders) = decide_end(&lines, &held, "", now);
    let standing = match decision {
        EndDecision::Requeued | EndDecision::Continues | EndDecision::Undecided => Standing::GoesOn,
        EndDecision::Revoke { .. } | EndDecision::Leave if shows(&lines, &held) => Standing::Over,
        EndDecision::Revoke { .. } | EndDecision::Leave => Standing::NotShown,
    };
    (standing, if is_shared { leaders } else { BTreeSet::new() })
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 2_000;

    fn standing(lines: &str, jobs: &[u32], leaders: &[u32], submitted: Option<(u64, u64)>, others: &[u32]) -> Standing {
        standing_beside(lines, jobs, leaders, submitted, (others, &[]))
    }

    fn standing_beside(
        lines: &str,
        jobs: &[u32],
        leaders: &[u32],
        submitted: Option<(u64, u64)>,
        (others, replaced): (&[u32], &[u32]),
    ) -> Standing {
        let jobs_here = ClusterJobs::parse(lines).unwrap();
        let has_own_job = !leaders.is_empty();
        let leaders_here = leaders.iter().copied().collect();
        let binding = Binding { leaders: leaders_here, has_own_job, submitted, ..Binding::default() };
        let jobs = jobs.iter().copied().collect();
        let unclaimed = unclaimed(&jobs_here, 7, &others.iter().chain(leaders).copied().collect());
        let replaced = replaced.iter().copied().collect();
        let known = Known {
            uid: 7,
            jobs: &jobs,
            binding: &binding,
            complete: true,
            time: (0, 0),
            is_told: true,
            unclaimed,
            replaced: &replaced,
        };
        judge(&jobs_here, known, NOW).0
    }

    #[test]
    fn a_submission_is_over_with_the_last_of_its_jobs() {
        let running = "7|1000|1|1|RUNNING|1000|N/A|n1|n1\n";
        let ended = "7|1000|1|1|COMPLETED|1000|1500|n1|n1\n";
        let array = "7|1000|3|2_1|COMPLETED|1000|1500|n1|n1\n7|1000|2|2_[2-9]|PENDING|1000|N/A||\n";
        let requeued = "7|1000|1|1|PENDING|1900|N/A||\n";
        for (lines, jobs, leaders, expected) in [
            (running, &[1][..], &[1][..], Standing::GoesOn),
            (ended, &[1], &[1], Standing::Over),
            ("7|1000|1|1|COMPLETING|1000|1500|n1|n1\n", &[1], &[1], Standing::GoesOn),
            (array, &[3], &[2], Standing::GoesOn),
            (requeued, &[1], &[1], Standing::GoesOn),
            ("", &[1], &[1], Standing::NotShown),
            // Another user's, and another job of the same user.
            ("8|1000|1|1|RUNNING|1000|N/A|n1|n1\n", &[1], &[1], Standing::NotShown),
            ("7|1000|9|9|RUNNING|1000|N/A|n1|n1\n", &[1], &[1], Standing::NotShown),
        ] {
            assert_eq!(standing(lines, jobs, leaders, None, &[]), expected, "{lines}");
        }
    }

    #[test]
    fn what_no_node_has_proven_waits_for_all_jobs_of_its_user() {
        let other = "7|1000|9|9|PENDING|1000|N/A||\n";
        assert_eq!(standing(other, &[1], &[], None, &[]), Standing::GoesOn, "it may be the one");
        assert_eq!(standing(other, &[1], &[], None, &[9]), Standing::NotShown, "it has another credential");
        assert_eq!(standing("", &[1], &[], None, &[]), Standing::NotShown);
        assert_eq!(standing("7|1000|1|1|COMPLETED|1000|1500|n1|n1\n", &[1], &[], None, &[]), Standing::NotShown);
    }

    #[test]
    fn the_end_of_a_job_that_is_not_proven_waits_for_all_that_may_have_the_credential() {
        let ended = "7|1000|2|2|COMPLETED|1000|1100|n1|n1\n";
        let live = |job, time| format!("{ended}7|1000|{job}|{job}|RUNNING|{time}|N/A|n1|n1\n");
        for (lines, submitted, is_told, unclaimed, expected) in [
            (live(1, 1_001), None, true, false, Standing::GoesOn),
            (live(1, 5_000), None, true, true, Standing::GoesOn),
            (live(1, 5_000), None, true, false, Standing::Over),
            (live(1, 1_001), None, false, false, Standing::Over),
            (live(1, 5_000), Some((990, 1_010)), true, true, Standing::GoesOn),
            (live(1, 5_000), Some((990, 1_010)), false, true, Standing::Over),
        ] {
            let jobs = ClusterJobs::parse(&lines).unwrap();
            let binding = Binding { doubtful: [2].into(), submitted, ..Binding::default() };
            let (none, replaced) = (BTreeSet::new(), BTreeSet::new());
            let known = Known {
                uid: 7,
                jobs: &none,
                binding: &binding,
                complete: true,
                time: (880, 1_120),
                is_told,
                unclaimed,
                replaced: &replaced,
            };
            assert_eq!(judge(&jobs, known, NOW).0, expected, "{lines} {submitted:?} {is_told} {unclaimed}");
        }
    }

    #[test]
    fn further_submissions_may_come_while_the_credential_is_shared() {
        let ended = "7|1000|1|1|COMPLETED|1000|1500|n1|n1\n";
        assert_eq!(standing(ended, &[1], &[1], Some((990, NOW + 1)), &[]), Standing::GoesOn);
        assert_eq!(standing(ended, &[1], &[1], Some((990, NOW - 1)), &[]), Standing::Over);
        let more = format!("{ended}7|1000|5|5|PENDING|1001|N/A||\n");
        assert_eq!(standing(&more, &[1], &[1], Some((990, NOW - 1)), &[]), Standing::GoesOn);
    }

    #[test]
    fn a_submission_whose_jobs_have_another_credential_is_over_unless_others_share_it() {
        let one = "7|1000|1|1|RUNNING|1000|N/A|n1|n1\n";
        let waits = "7|N/A|2|2_[1-9]|PENDING|1000|N/A||\n7|1000|3|2_1|RUNNING|1000|N/A|n1|n1\n";
        let standing = |lines: &str, jobs: &[u32], leaders: &[u32], submitted, replaced: &[u32]| {
            standing_beside(lines, jobs, leaders, submitted, (&[], replaced))
        };
        assert_eq!(standing(one, &[1], &[1], None, &[1]), Standing::Over);
        assert_eq!(standing(waits, &[3], &[2], None, &[2]), Standing::Over, "all tasks of an array have the new one");
        assert_eq!(standing(one, &[1], &[1], None, &[2]), Standing::GoesOn);
        let (both, time) = (format!("{one}{waits}"), Some((990, 1_010)));
        assert_eq!(standing(&both, &[1], &[1, 2], time, &[1]), Standing::GoesOn, "the array needs it");
        assert_eq!(standing(&both, &[1], &[1], time, &[1]), Standing::GoesOn, "the array has not asked yet");
        assert_eq!(standing(&both, &[1, 3], &[1, 2], time, &[1, 2]), Standing::NotShown);
        assert_eq!(standing(&both, &[1, 3], &[1, 2], Some((990, NOW + 1)), &[1, 2]), Standing::GoesOn);
        let ended = both.replace("PENDING", "CANCELLED").replace("3|2_1|RUNNING", "3|2_1|COMPLETED");
        assert_eq!(standing(&ended, &[1, 3], &[1, 2], time, &[1]), Standing::Over);
    }

    proptest! {
        /// The lines of a submission decide as all lines of the user do.
        #[test]
        fn other_submissions_of_the_user_change_nothing(
            rows in vec((1..9_u32, 0..3_u32, 0..6_usize), 0..12),
            jobs in btree_set(1..9_u32, 0..4),
            leaders in btree_set(1..9_u32, 1..3),
        ) {
            const STATES: [&str; 6] = ["RUNNING", "PENDING", "COMPLETING", "COMPLETED", "CANCELLED", "FAILED"];
            let mut lines = String::new();
            let mut seen = BTreeSet::new();
            for (job, leader, state) in rows {
                if !seen.insert(job) {
                    continue;
                }
                let (state, array) = (STATES[state], (job - job.min(leader)).max(1));
                let id = if array == job { job.to_string() } else { format!("{array}_{job}") };
                lines += &format!("7|1000|{job}|{id}|{state}|1000|1500|n1|n1\n");
            }
            let all = ClusterJobs::parse(&lines).unwrap();
            let held = HeldSubmission {
                jobs: all.shown(7, &jobs),
                leaders: leaders.clone(),
                complete: true,
                ..HeldSubmission::default()
            };
            let own = all.about(7, &held.jobs.union(&held.leaders).copied().collect());
            prop_assert_eq!(decide_end(&own, &held, "", NOW), decide_end(all.of_user(7), &held, "", NOW));
            prop_assert_eq!(shows(&own, &held), shows(all.of_user(7), &held));
        }
    }
}
