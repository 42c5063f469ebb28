// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which jobs get access tokens for a submission. A sealed text is no secret: each program of its user can read it, and root of each node. So
//! the broker believes slurmctld alone: the job runs now, on the node that asks, and is one of the submission.

use std::collections::BTreeSet;

use super::cluster_jobs::KnownJob;

/// The jobs that a submission has been given to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Ids of the jobs that lead the others. Empty: the first job that asks, and can be of the submission, binds it.
    pub leaders: BTreeSet<u32>,
    /// Leaders of jobs that nodes have named, and that may be jobs of other submissions. While one of them lives, the submission goes on.
    /// Their end does not prove that it is over.
    pub doubtful: BTreeSet<u32>,
    /// A job that can be of the submission has asked for a token on its node, or was named where it was submitted. Until then, `leaders`
    /// has only what the time of submission says.
    pub has_own_job: bool,
    /// Begin and end of the time in which its jobs were submitted, Unix seconds of slurmctld's clock, if several submissions share the
    /// credential. They then have a leader each.
    pub submitted: Option<(u64, u64)>,
}

impl Binding {
    /// Takes note of the leader of a job that a node has named.
    pub fn learn(&mut self, leader: u32, is_sure: bool) {
        if is_sure {
            self.leaders.insert(leader);
            self.doubtful.remove(&leader);
            self.has_own_job = true;
        } else if !self.leaders.contains(&leader) {
            self.doubtful.insert(leader);
        }
    }

    /// Takes note of leaders of which the time of submission says that they share the credential.
    pub fn see(&mut self, leaders: &BTreeSet<u32>) {
        self.leaders.extend(leaders.difference(&self.doubtful));
    }

    /// Another job that has the credential, if `leader` is doubtful: as long as no job is sure, one that lives is the only one. Otherwise
    /// any number of jobs could use a copy before the own one begins. A sure one gets it all the same.
    pub fn holder(&self, leader: u32, is_live: impl Fn(u32) -> bool) -> Option<u32> {
        let is_open = self.submitted.is_none() && self.leaders.is_empty();
        self.doubtful.iter().copied().find(|other| is_open && *other != leader && is_live(*other))
    }

    /// All leaders that were named.
    #[must_use]
    pub fn named(&self) -> BTreeSet<u32> {
        self.leaders.union(&self.doubtful).copied().collect()
    }

    /// Whether a leader that shares the credential has a number between those of the others. A requeue changes the time of submission, and
    /// keeps the number.
    fn is_between(&self, leader: u32) -> bool {
        let ends = self.leaders.first().zip(self.leaders.last());
        self.submitted.is_some() && ends.is_some_and(|(first, last)| (*first..=*last).contains(&leader))
    }
}

/// A node asks for a job's access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The job.
    pub job: u32,
    /// The user of the credential. It stands inside the sealed text.
    pub uid: u32,
    /// The node, from its certificate.
    pub node: &'a str,
}

/// Why a job gets no access token. A sentence for the job's owner and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingRefusal {
    /// slurmctld does not know it.
    #[error("slurmctld knows no job {job}")]
    Unknown {
        /// The job.
        job: u32,
    },
    /// It is another user's.
    #[error("job {job} belongs to another user than the credential; a copied SLURM_MYTOKEN cannot be used")]
    OtherUser {
        /// The job.
        job: u32,
    },
    /// It does not run there.
    #[error("slurmctld says that job {job} does not run on {node}")]
    Elsewhere {
        /// The job.
        job: u32,
        /// The node that asked.
        node: String,
    },
    /// Its credential belongs to another job.
    #[error(
        "the credential belongs to job {first}; job {job} has a copy of it, and gets no access token. Submit with --mytoken"
    )]
    Copied {
        /// The job.
        job: u32,
        /// The first job with this credential.
        first: u32,
    },
}

impl BindingRefusal {
    /// Whether a newer answer of slurmctld may say otherwise: the job has started since then.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Elsewhere { .. })
    }
}

/// Whether a job gets access tokens for a submission, and under which leader.
///
/// # Errors
/// [`BindingRefusal`].
pub fn judge(job: Option<&KnownJob>, asked: Asked<'_>, bound: &Binding) -> Result<u32, BindingRefusal> {
    let Asked { job: id, uid, node } = asked;
    let job = job.ok_or(BindingRefusal::Unknown { job: id })?;
    if job.uid != uid {
        return Err(BindingRefusal::OtherUser { job: id });
    }
    if !job.is_on(node) {
        return Err(BindingRefusal::Elsewhere { job: id, node: node.to_owned() });
    }
    let Some(first) = bound.leaders.first().copied().filter(|_| !bound.leaders.contains(&job.leader)) else {
        return Ok(job.leader);
    };
    let is_in_time = |(from, to): (u64, u64)| job.submitted.is_none_or(|time| (from..=to).contains(&time));
    let shares = bound.is_between(job.leader) || bound.submitted.is_some_and(is_in_time);
    if shares { Ok(job.leader) } else { Err(BindingRefusal::Copied { job: id, first }) }
}

/// Whether a job that gets tokens binds the submission: other jobs get none then, and the submission is over with it. `time` is when jobs
/// with this credential were submitted, by slurmctld's clock.
///
/// A node that was stolen has the texts of its jobs, and can bring one for another job of the same user. If that was submitted at another
/// time it binds nothing. Nor does a job of which the time says nothing: one that was requeued has a new one (SLURM-28), and to one that
/// runs `mytokenctl replace` brings a credential that is newer than the job.
#[must_use]
pub fn is_sure(job: &KnownJob, bound: &Binding, time: (u64, u64)) -> bool {
    bound.leaders.contains(&job.leader) || job.was_submitted_in(time) || bound.is_between(job.leader)
}

#[cfg(test)]
mod tests {
    use super::super::cluster_jobs::ClusterJobs;
    use super::*;

    const JOBS: &str = "\
2001|1000|7|7|RUNNING|1000|N/A|n[1-3]|n1
2001|1000|9|8_1|RUNNING|1001|N/A|n2|n2
2001|1000|10|8_2|RUNNING|1001|N/A|n3|n3
2001|1000|13|12+1|COMPLETING|1050|N/A|n4|n4
2001|1000|20|20|RUNNING|1500|N/A|n1|n1
2001|1000|21|21|PENDING|1500|N/A||
2002|1000|30|30|RUNNING|1000|N/A|n1|n1
";

    fn verdict(job: u32, node: &str, leaders: &[u32], submitted: Option<(u64, u64)>) -> Result<u32, BindingRefusal> {
        let jobs = ClusterJobs::parse(JOBS).unwrap();
        let leaders = leaders.iter().copied().collect();
        let bound = Binding { leaders, submitted, ..Binding::default() };
        judge(jobs.job(job), Asked { job, uid: 2001, node }, &bound)
    }

    #[test]
    fn only_a_job_of_the_submission_on_the_node_that_asks_gets_a_token() {
        let shared = Some((990, 1100));
        for (job, node, leaders, submitted, expected) in [
            (7, "n1", &[][..], None, Ok(7)),
            (7, "n3", &[7], None, Ok(7)),
            (10, "n3", &[8], None, Ok(8)),
            (13, "n4", &[12], None, Ok(12)),
            (20, "n1", &[7], None, Err(BindingRefusal::Copied { job: 20, first: 7 })),
            (9, "n2", &[7], None, Err(BindingRefusal::Copied { job: 9, first: 7 })),
            (9, "n2", &[7], shared, Ok(8)),
            (20, "n1", &[7], shared, Err(BindingRefusal::Copied { job: 20, first: 7 })),
            // It was requeued: its number is between those of the others.
            (20, "n1", &[7, 22], shared, Ok(20)),
            (7, "n4", &[], None, Err(BindingRefusal::Elsewhere { job: 7, node: "n4".to_owned() })),
            (21, "n1", &[], None, Err(BindingRefusal::Elsewhere { job: 21, node: "n1".to_owned() })),
            (30, "n1", &[], None, Err(BindingRefusal::OtherUser { job: 30 })),
            (99, "n1", &[], None, Err(BindingRefusal::Unknown { job: 99 })),
        ] {
            assert_eq!(verdict(job, node, leaders, submitted), expected, "job {job} on {node} of {leaders:?}");
        }
    }

    #[test]
    fn a_job_that_was_submitted_at_another_time_binds_nothing() {
        let jobs = ClusterJobs::parse(JOBS).unwrap();
        let (own, shared) = ((880, 1_120), Some((990, 1_100)));
        for (job, leaders, submitted, expected) in [
            (7, &[] as &[u32], None, true),
            (20, &[], None, false),
            // It was bound before its requeue.
            (20, &[20], None, true),
            (20, &[7, 22], None, false),
            (20, &[7, 22], shared, true),
            (20, &[], shared, false),
        ] {
            let bound = Binding { leaders: leaders.iter().copied().collect(), submitted, ..Binding::default() };
            assert_eq!(is_sure(jobs.job(job).unwrap(), &bound, own), expected, "job {job}, {leaders:?} {submitted:?}");
        }
    }

    #[test]
    fn of_doubtful_jobs_one_at_a_time_has_the_credential() {
        let mut bound = Binding::default();
        assert_eq!(bound.holder(9, |_| true), None);
        bound.learn(7, false);
        assert_eq!((bound.holder(7, |_| true), bound.holder(9, |_| true)), (None, Some(7)));
        assert_eq!(bound.holder(9, |leader| leader != 7), None, "that one has ended");
        let shared = Binding { submitted: Some((990, 1_100)), ..bound.clone() };
        assert_eq!(shared.holder(9, |_| true), None, "the jobs of a loop share it");
        bound.learn(8, true);
        assert_eq!(bound.holder(9, |_| true), None, "a job that is sure has it, and judge refuses the others");
    }

    #[test]
    fn what_is_doubtful_stays_so_until_it_is_sure() {
        let mut bound = Binding::default();
        bound.learn(7, false);
        bound.see(&BTreeSet::from([7, 8]));
        assert_eq!((bound.leaders.clone(), bound.doubtful.clone()), (BTreeSet::from([8]), BTreeSet::from([7])));
        assert!(!bound.has_own_job);
        bound.learn(7, true);
        bound.learn(7, false);
        assert_eq!((bound.leaders.clone(), bound.doubtful.clone()), (BTreeSet::from([7, 8]), BTreeSet::new()));
        assert!(bound.has_own_job);
        bound.learn(9, false);
        assert_eq!(bound.named(), BTreeSet::from([7, 8, 9]));
    }

    #[test]
    fn what_a_newer_answer_cannot_change_is_not_asked_again() {
        assert!(verdict(99, "n1", &[], None).unwrap_err().may_be_late());
        assert!(verdict(7, "n4", &[], None).unwrap_err().may_be_late());
        assert!(!verdict(30, "n1", &[], None).unwrap_err().may_be_late());
        assert!(!verdict(20, "n1", &[7], None).unwrap_err().may_be_late());
    }
}
