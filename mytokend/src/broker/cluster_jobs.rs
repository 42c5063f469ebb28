// SPDX-License-Identifier: MIT OR Apache-2.0
//! All jobs that slurmctld knows, from one answer of squeue.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use crate::jobs::host_list;
use crate::jobs::submission_end::{self, JobPhase};

/// The format for `squeue`: the user's number, the time at which the present run began (SLURM-87), then the fields of
/// [`submission_end::FORMAT`].
#[must_use]
pub fn format() -> String {
    format!("%U|%S|{}", submission_end::FORMAT)
}

/// A job, as far as it decides about a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownJob {
    /// The job's user.
    pub uid: u32,
    /// Id of the job that leads it: of an array the array job, of a heterogeneous job the first component.
    pub leader: u32,
    /// It has nodes now: it runs or completes.
    pub is_on_nodes: bool,
    /// When it was submitted, Unix seconds of slurmctld's clock. A requeue changes it.
    pub submitted: Option<u64>,
    /// When its present run began, Unix seconds of slurmctld's clock. Of a job in the queue: when slurmctld expects it to begin.
    pub started: Option<u64>,
    nodes: String,
}

impl KnownJob {
    /// Whether the job has this node, or had it in its last run.
    #[must_use]
    pub fn had(&self, node: &str) -> bool {
        host_list::contains(&self.nodes, node)
    }

    /// Whether the job was submitted between these times, Unix seconds of slurmctld's clock.
    #[must_use]
    pub fn was_submitted_in(&self, (from, to): (u64, u64)) -> bool {
        self.submitted.is_some_and(|time| (from..=to).contains(&time))
    }

    /// Whether the job has this node now.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        self.is_on_nodes && self.had(node)
    }
}

/// The jobs of one answer.
#[derive(Debug, Clone, Default)]
pub struct ClusterJobs {
    jobs: HashMap<u32, KnownJob>,
    by_user: HashMap<u32, UserJobs>,
}

#[derive(Debug, Clone, Default)]
struct UserJobs {
    lines: String,
    ids: Vec<u32>,
    /// Where in `lines` the jobs of a leader are.
    of_leader: HashMap<u32, Vec<Range<usize>>>,
    /// Leaders of jobs that are not final.
    live: BTreeSet<u32>,
    /// When these jobs were submitted.
    live_times: BTreeSet<u64>,
}

impl ClusterJobs {
    /// Reads the output of squeue in [`format()`]. `None` when a line is not of that form: half an answer would look like ended jobs.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let mut found = Self::default();
        for line in output.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (uid, rest) = line.split_once('|')?;
            let uid = uid.trim().parse().ok()?;
            let (started, rest) = rest.split_once('|')?;
            let started = started.trim().parse().ok().filter(|started| *started > 0);
            let row = submission_end::row(rest)?;
            let is_on_nodes = matches!(row.phase, JobPhase::Active | JobPhase::Completing);
            let nodes = row.nodes.to_owned();
            let (leader, is_final) = (row.leader, row.phase == JobPhase::Final);
            let submitted = row.submitted;
            let job = KnownJob { uid, leader, is_on_nodes, submitted, started, nodes };
            found.jobs.insert(row.job, job);
            let UserJobs { lines, ids, of_leader, live, live_times } = found.by_user.entry(uid).or_default();
            let begin = lines.len();
            lines.push_str(rest);
            lines.push('\n');
            of_leader.entry(leader).or_default().push(begin..lines.len());
            ids.push(row.job);
            if !is_final {
                live.insert(leader);
                live_times.extend(submitted);
            }
        }
        Some(found)
    }

    /// The job with this id.
    #[must_use]
    pub fn job(&self, id: u32) -> Option<&KnownJob> {
        self.jobs.get(&id)
    }

    /// The lines about a user's jobs, in [`submission_end::FORMAT`].
    #[must_use]
    pub fn of_user(&self, uid: u32) -> &str {
        self.by_user.get(&uid).map_or("", |jobs| jobs.lines.as_str())
    }

    /// Those of these lines that are about `jobs`, which are jobs or leaders, and about the jobs that have the same leader. A user with
    /// thousands of submissions has as many other lines, and each submission is judged at each answer.
    #[must_use]
    pub fn about(&self, uid: u32, jobs: &BTreeSet<u32>) -> String {
        let Some(own) = self.by_user.get(&uid) else { return String::new() };
        let leader = |job: &u32| self.jobs.get(job).filter(|job| job.uid == uid).map(|job| job.leader);
        let with_leaders = |jobs: &BTreeSet<u32>| -> BTreeSet<u32> {
            jobs.iter().copied().chain(jobs.iter().filter_map(leader)).collect()
        };
        // Twice: a leader is a job, too.
        let leaders = with_leaders(&with_leaders(jobs));
        let places = leaders.iter().filter_map(|leader| own.of_leader.get(leader)).flatten();
        places.filter_map(|place| own.lines.get(place.clone())).collect()
    }

    /// The lines about a user's jobs but for those of these leaders.
    #[must_use]
    pub fn without(&self, uid: u32, leaders: &BTreeSet<u32>) -> String {
        let Some(own) = self.by_user.get(&uid) else { return String::new() };
        let others = own.of_leader.iter().filter(|(leader, _)| !leaders.contains(leader));
        let mut places: Vec<&Range<usize>> = others.flat_map(|(_, places)| places).collect();
        places.sort_unstable_by_key(|place| place.start);
        places.into_iter().filter_map(|place| own.lines.get(place.clone())).collect()
    }

    /// The leaders of a user's jobs that are not final.
    pub fn live_leaders(&self, uid: u32) -> impl Iterator<Item = u32> {
        self.by_user.get(&uid).into_iter().flat_map(|jobs| jobs.live.iter().copied())
    }

    /// Whether a user's job that is not final was submitted between these times, Unix seconds of slurmctld's clock.
    #[must_use]
    pub fn has_live_in(&self, uid: u32, (from, to): (u64, u64)) -> bool {
        // A range that ends before it begins is a panic.
        from <= to && self.by_user.get(&uid).is_some_and(|own| own.live_times.range(from..=to).next().is_some())
    }

    /// Whether a job that this one leads is not final. `None`: none is shown.
    #[must_use]
    pub fn is_live(&self, uid: u32, leader: u32) -> Option<bool> {
        let own = self.by_user.get(&uid)?;
        own.of_leader.contains_key(&leader).then(|| own.live.contains(&leader))
    }

    /// Those of `jobs` that are a user's. An array that has run for a day has many more than slurmctld shows.
    #[must_use]
    pub fn shown(&self, uid: u32, jobs: &BTreeSet<u32>) -> BTreeSet<u32> {
        let shown = self.by_user.get(&uid).map_or(&[][..], |jobs| &jobs.ids);
        if jobs.len() < shown.len() {
            let is_own = |job: &&u32| self.jobs.get(job).is_some_and(|job| job.uid == uid);
            return jobs.iter().filter(is_own).copied().collect();
        }
        shown.iter().copied().filter(|job| jobs.contains(job)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
2001|1003|7|7|RUNNING|1000|N/A|n[1-3]|n1
2001|1004|9|8_1|COMPLETING|1001|1100|n2|n2
2002|N/A|12|12|PENDING|1002|N/A||
2002|1002|13|12+1|COMPLETED|1002|1003|n4|n4
";

    #[test]
    fn a_job_is_where_slurmctld_says() {
        let jobs = ClusterJobs::parse(OUTPUT).unwrap();
        let on = |job: u32, node: &str| jobs.job(job).is_some_and(|job| job.is_on(node));
        assert!(on(7, "n1") && on(7, "n3") && on(9, "n2"));
        assert!(!on(7, "n4") && !on(12, "n1"), "another node, or none");
        assert!(!on(13, "n4"), "it has ended");
        let had = |job: u32, node: &str| jobs.job(job).is_some_and(|job| job.had(node));
        assert!(had(13, "n4") && had(7, "n1") && !had(13, "n1") && !had(12, "n1"));
        let job = jobs.job(9).unwrap();
        assert_eq!((job.uid, job.leader, job.submitted, job.started), (2001, 8, Some(1001), Some(1004)));
        assert_eq!(jobs.job(12).map(|job| job.started), Some(None));
        assert_eq!(jobs.job(13).map(|job| job.leader), Some(12));
        assert_eq!(jobs.job(8), None);
        assert_eq!(jobs.of_user(2001).lines().count(), 2);
        assert_eq!(jobs.of_user(2003), "");
        for asked in [&[9][..], &[1, 9, 12]] {
            assert_eq!(jobs.shown(2001, &asked.iter().copied().collect()), BTreeSet::from([9]));
        }
        assert_eq!(jobs.live_leaders(2001).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(jobs.live_leaders(2002).collect::<Vec<_>>(), [12]);
        assert_eq!(jobs.live_leaders(2003).count(), 0);
        let live_in = |uid, time| jobs.has_live_in(uid, time);
        assert!(live_in(2001, (1001, 1005)) && live_in(2002, (0, 1002)));
        assert!(!live_in(2001, (1002, 1005)) && !live_in(2003, (0, 1005)) && !live_in(2001, (1001, 1000)));
        assert_eq!([jobs.is_live(2001, 7), jobs.is_live(2002, 7), jobs.is_live(2003, 7)], [Some(true), None, None]);
    }

    #[test]
    fn a_submission_has_the_lines_of_its_jobs_and_of_those_with_the_same_leader() {
        let jobs = ClusterJobs::parse(OUTPUT).unwrap();
        let about = |uid, asked: &[u32]| jobs.about(uid, &asked.iter().copied().collect());
        let seven = "7|7|RUNNING|1000|N/A|n[1-3]|n1\n";
        let nine = "9|8_1|COMPLETING|1001|1100|n2|n2\n";
        let het = "12|12|PENDING|1002|N/A||\n13|12+1|COMPLETED|1002|1003|n4|n4\n";
        for (uid, asked, expected) in [
            (2001, &[7][..], seven.to_owned()),
            (2001, &[8], nine.to_owned()),
            (2001, &[9], nine.to_owned()),
            (2001, &[7, 9], format!("{seven}{nine}")),
            (2002, &[13], het.to_owned()),
            (2002, &[7], String::new()),
            (2003, &[7], String::new()),
            (2001, &[], String::new()),
        ] {
            assert_eq!(about(uid, asked), expected, "{uid} {asked:?}");
        }
        let without = |uid, leaders: &[u32]| jobs.without(uid, &leaders.iter().copied().collect());
        assert_eq!((without(2001, &[8]), without(2001, &[7])), (seven.to_owned(), nine.to_owned()));
        assert_eq!((without(2001, &[9]), without(2002, &[12])), (format!("{seven}{nine}"), String::new()));
    }

    #[test]
    fn half_an_answer_is_none() {
        for wrong in ["2001|5|7|7|RUNNING|1000", "alice|5|7|7|RUNNING|1|2|n1|n1", "squeue: error", "2001"] {
            assert!(ClusterJobs::parse(&format!("{OUTPUT}{wrong}\n")).is_none(), "{wrong}");
        }
        assert!(ClusterJobs::parse("").is_some(), "no job is an answer");
    }
}
