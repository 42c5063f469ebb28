// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of large jobs to the mytoken server, in played time: nodes ask as agents do, slurmctld is asked once a minute.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

use mytoken::Clock;

use super::*;
use crate::jobs::renewal;

/// Life of access tokens in seconds.
const LIFE: u64 = 3600;

/// slurmctld forgets a job after this time, in seconds (`MinJobAge`).
const SHOWN: u64 = 300;

/// Id of the array, or of the only job.
const ARRAY: u32 = 1_000_000;

/// The time of day of the begin, Unix seconds.
const BEGIN: u64 = 1_800_000_000;

/// Time since the begin, which a test sets.
#[derive(Default)]
struct Played(Mutex<Duration>);

impl Clock for Played {
    fn now(&self) -> u64 {
        BEGIN + self.elapsed().as_secs()
    }
}

impl ScheduleClock for Played {
    fn unix_millis(&self) -> u64 {
        BEGIN * 1000 + millis(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// A job, or a task of an array, on one node or all. Times are seconds since the begin.
#[derive(Clone, Copy)]
struct Run {
    job: u32,
    begin: u64,
    end: u64,
}

/// What happens at a time, by kind in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// slurmctld is asked, as it is once a minute.
    Question,
    /// A node needs a token for this run.
    Token { run: usize, node: u32 },
    /// A node tells the end of this run.
    End { run: usize, node: u32 },
}

/// The credential of the submission, which was made at the begin.
fn sealed() -> String {
    format!("7:a@{BEGIN}")
}

/// Plays the runs on `nodes` nodes each, and returns the numbers of access tokens, revocations and requests of nodes for tokens.
fn play(runs: &[Run], nodes: u32) -> (usize, usize, usize) {
    let clock = Arc::new(Played::default());
    let test = TestBroker::with(Fakes { life: LIFE, ..Fakes::default() }, Arc::clone(&clock) as _);
    let last = runs.iter().map(|run| run.end).max().unwrap_or_default();
    let mut events: BinaryHeap<Reverse<(u64, Happens)>> = BinaryHeap::new();
    // The first questions after the last end revoke.
    events.extend((0..last / 60 + 3).map(|minute| Reverse((minute * 60_000, Happens::Question))));
    for (run, Run { begin, .. }) in runs.iter().enumerate() {
        events.extend((1..=nodes).map(|node| Reverse((begin * 1000, Happens::Token { run, node }))));
    }
    let mut requests = 0;
    while let Some(Reverse((now, happens))) = events.pop() {
        *clock.0.lock().unwrap() = Duration::from_millis(now);
        match happens {
            Happens::Question => {
                test.prints(Some(&squeue(runs, nodes, now / 1000)));
                let broker = &test.broker;
                broker
                    .questions
                    .ask(broker.controller.as_ref(), &|| clock.elapsed(), &|answered| broker.note(answered));
            }
            Happens::Token { run, node } => {
                requests += 1;
                let request =
                    TokenRequest { job: runs[run].job, uid: 7, sealed: sealed(), file: None, patience: 20_000 };
                let answer = test.runtime.block_on(test.broker.token(&format!("n{node}"), &request)).unwrap();
                let TokenOutcome::Token { left, lifetime, .. } = answer.outcome else { panic!("{:?}", answer.outcome) };
                assert!(left >= LIFE / 2, "{left} s are left");
                let plan = renewal::plan(now, Duration::from_secs(left), lifetime, rand::random());
                let end = runs[run].end * 1000;
                let next = if plan.renewal < end { Happens::Token { run, node } } else { Happens::End { run, node } };
                events.push(Reverse((plan.renewal.min(end), next)));
            }
            Happens::End { run, node } => {
                let ended = EndRequest { job: runs[run].job, uid: 7, sealed: sealed() };
                test.runtime.block_on(test.broker.end(&format!("n{node}"), &ended)).unwrap();
            }
        }
    }
    test.until("a revocation", || test.counts().1 > 0);
    let (tokens, revocations) = test.counts();
    (tokens, revocations, requests)
}

/// What slurmctld shows at `now` of runs that are sorted by begin. Runs of the coming minute run already, so that no node waits.
fn squeue(runs: &[Run], nodes: u32, now: u64) -> String {
    let waits = runs.partition_point(|run| run.begin <= now + 60);
    let gone = runs.partition_point(|run| run.end + SHOWN < now);
    let mut lines = String::new();
    for run in runs.get(gone..waits).unwrap_or_default() {
        let (job, task) = (run.job, run.job - ARRAY);
        let (state, end) =
            if run.end <= now { ("COMPLETED", (BEGIN + run.end).to_string()) } else { ("RUNNING", "N/A".into()) };
        let begin = BEGIN + run.begin;
        let _ = writeln!(lines, "7|{begin}|{job}|{ARRAY}_{task}|{state}|{BEGIN}|{end}|n[1-{nodes}]|n1");
    }
    if let Some(run) = runs.get(waits) {
        let _ = writeln!(lines, "7|N/A|{ARRAY}|{ARRAY}_[{}-{}]|PENDING|{BEGIN}|N/A||", run.job - ARRAY, runs.len());
    }
    lines
}

#[test]
fn an_array_of_a_hundred_thousand_tasks_over_a_day_needs_50_requests() {
    let tasks = 100_000;
    let begin = |task: u32| u64::from(task - 1) * (86_400 - 600) / u64::from(tasks);
    let runs: Vec<Run> =
        (1..=tasks).map(|task| Run { job: ARRAY + task, begin: begin(task), end: begin(task) + 600 }).collect();
    let (tokens, revocations, requests) = play(&runs, 1);
    assert!(requests >= 100_000);
    // The sub-token was made by sbatch: with it, slurm-spank.md 11.4 has 50.
    assert_eq!((tokens, revocations), (48, 1), "{requests} requests of nodes");
}

#[test]
fn ten_thousand_nodes_for_two_hours_need_6_requests() {
    let (tokens, revocations, requests) = play(&[Run { job: ARRAY + 1, begin: 0, end: 7200 }], 10_000);
    assert!((20_000..=60_000).contains(&requests), "{requests} requests of nodes");
    assert!(tokens <= 4 && revocations == 1, "{tokens} access tokens, {revocations} revocations");
}

#[test]
fn twelve_hours_on_one_node_need_22_requests() {
    let (tokens, revocations, requests) = play(&[Run { job: ARRAY + 1, begin: 0, end: 43_200 }], 1);
    // With the sub-token, slurm-spank.md 11.4 has at most 22. The node draws when it renews, after 60 to 75 % of each life.
    assert!((16..=20).contains(&tokens) && revocations == 1, "{tokens} access tokens, {revocations} revocations");
    assert_eq!(requests, tokens, "the node asks when the broker has no fresh token");
}
