// SPDX-License-Identifier: MIT OR Apache-2.0
//! The submissions of a soak: their shapes, when they are submitted, how long they run.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::plan::Plan;
use super::task::RECORDS;
use crate::site::plan::TESTBED_INSIDE;

/// The users of a soak. Each has a mytoken of its own.
pub(super) const USERS: [&str; 2] = ["alice", "bob"];

/// The shape of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Batch,
    TwoNodes,
    Array,
    Heterogeneous,
    Srun,
    Salloc,
    /// `sbatch --export=NONE`.
    NoExport,
    /// A job that submits another one.
    Nested,
    /// A job that is requeued while it runs.
    Requeued,
}

const SHORT: [Shape; 9] = [
    Shape::Batch,
    Shape::Array,
    Shape::Srun,
    Shape::Heterogeneous,
    Shape::NoExport,
    Shape::Salloc,
    Shape::Nested,
    Shape::TwoNodes,
    Shape::Requeued,
];

const LONG: [Shape; 5] = [Shape::TwoNodes, Shape::Array, Shape::Heterogeneous, Shape::Salloc, Shape::Batch];

/// One submission.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Submission {
    /// Its name in the records of its tasks.
    pub tag: String,
    pub user: &'static str,
    pub shape: Shape,
    /// When it is submitted, after the begin of the soak.
    pub at: Duration,
    /// How long each task runs.
    pub seconds: u32,
}

impl Submission {
    /// Number of tasks that must reach their end.
    pub fn tasks(&self) -> usize {
        match self.shape {
            Shape::Array => 3,
            Shape::TwoNodes | Shape::Heterogeneous | Shape::Nested => 2,
            _ => 1,
        }
    }

    /// The shell command that submits it. Those of srun and salloc last as long as the job.
    pub fn command(&self) -> String {
        let task = format!("{TESTBED_INSIDE} soak-task {} {}", self.tag, self.seconds);
        // What Slurm's programs say, for a job that is lost. Without `-vv` a step that srun ends has no cause.
        let output = format!("{RECORDS}/{}.%j.out", self.tag);
        let script = match self.shape {
            Shape::Heterogeneous => format!("srun -vv --het-group=0,1 {task}"),
            Shape::Nested => {
                format!("sbatch --mytoken --time=60 -n1 -o {output} --wrap 'srun -vv {task}'; srun -vv {task}")
            }
            _ => format!("srun -vv {task}"),
        };
        let path = format!("{RECORDS}/{}.sh", self.tag);
        let batch = |options: &str| {
            format!(
                "cat >{path} <<'END' && sbatch --mytoken --time=60 -o {output} {options} {path}\n#!/bin/bash\n{script}\nEND"
            )
        };
        match self.shape {
            Shape::Batch | Shape::Nested => batch("-n1"),
            Shape::TwoNodes => batch("-N2 --ntasks-per-node=1"),
            Shape::Array => batch("-n1 --array=1-3"),
            Shape::Heterogeneous => batch("-n1 : -n1"),
            Shape::NoExport => batch("-n1 --export=NONE"),
            Shape::Requeued => batch("-n1 --requeue"),
            Shape::Srun => format!("srun --mytoken --time=60 -n1 {task}"),
            Shape::Salloc => format!("salloc --mytoken --time=60 -n1 {script}"),
        }
    }
}

/// All submissions, in the order of their times.
pub(super) fn submissions(plan: &Plan) -> Vec<Submission> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let length = f64::from(plan.seconds);
    let mut all = Vec::new();
    for (number, shape) in (0..plan.long_jobs).zip(LONG.into_iter().cycle()) {
        // In the first tenth, so that they see every trouble.
        let at = Duration::from_secs_f64(length * 0.1 * f64::from(number) / f64::from(plan.long_jobs.max(1)));
        let seconds = plan.seconds.saturating_sub(u32::try_from(at.as_secs()).unwrap_or_default());
        all.push((format!("long{number}"), shape, at, seconds));
    }
    for (number, shape) in (0..plan.short_jobs).zip(SHORT.into_iter().cycle()) {
        let at = Duration::from_secs_f64(length * f64::from(number) / f64::from(plan.short_jobs.max(1)));
        all.push((format!("short{number}"), shape, at, random.random_range(5..=20)));
    }
    all.sort_by_key(|(_, _, at, _)| *at);
    all.into_iter()
        .zip(USERS.into_iter().cycle())
        .map(|((tag, shape, at, seconds), user)| Submission { tag, user, shape, at, seconds })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_occurs_and_the_order_is_that_of_the_times() {
        let plan = Plan::short();
        let all = submissions(&plan);
        assert_eq!(all.len(), 28);
        assert!(all.is_sorted_by_key(|submission| submission.at));
        for shape in SHORT.iter().chain(&LONG) {
            assert!(all.iter().any(|submission| submission.shape == *shape), "{shape:?}");
        }
        assert_eq!(all, submissions(&plan), "the same seed makes the same jobs");
    }

    #[test]
    fn a_heterogeneous_job_runs_a_task_in_each_component() {
        let submission =
            Submission { tag: "t".into(), user: "alice", shape: Shape::Heterogeneous, at: Duration::ZERO, seconds: 5 };
        let command = submission.command();
        assert!(
            command.contains("-n1 : -n1 soak/t.sh\n") && command.contains("srun -vv --het-group=0,1 "),
            "{command}"
        );
        assert_eq!(submission.tasks(), 2);
    }
}
