// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes squeue's output about the jobs of a submission. Users choose the name of the host that submits.
#![no_main]

use fuzz::{NOW, read_number, split_input};
use libfuzzer_sys::fuzz_target;
use mytokend::jobs::submission_end::{
    EndDecision, FollowDecision, HeldSubmission, Progress, decide_end, follow, gone, learn, shows,
};
use mytokend::jobs::{KnownNodes, SubmissionTime};

fuzz_target!(|data: &[u8]| {
    let Some([output, node, numbers]) = split_input(data) else { return };
    let mut numbers = numbers.lines().map(|line| u32::try_from(read_number(line)).unwrap_or(7));
    let (job, leader) = (numbers.next().unwrap_or(7), numbers.next().unwrap_or(7));
    let (from, to) = (numbers.next().map_or(0, u64::from), numbers.next().map_or(NOW, u64::from));
    let mut known = KnownNodes::default();
    known.remember_own(job, node, node, from % 2 == 0);
    let held = HeldSubmission {
        jobs: [job].into(),
        leaders: [leader].into(),
        submitted: (from <= to).then_some((from, to)),
        complete: from % 3 == 0,
        followed: node.len() % 2 == 1,
        made_here: node.len() % 3 == 1,
        known,
        replaces: to % 3 == 0,
    };
    let held = HeldSubmission { known: learn(output, &held), ..held };
    let (_, leaders) = decide_end(output, &held, node, NOW);
    assert!(leaders.is_superset(&held.leaders));
    assert!(gone(output, &held.jobs).iter().all(|job| held.jobs.contains(job)));
    let submitted = SubmissionTime { made: from, begin: from, end: to, single: to % 2 == 0 };
    let (_, progress, _) = follow(output, submitted, &held.leaders, Progress::Waiting, NOW);
    assert!(progress >= Progress::Waiting, "what was seen once is not forgotten");
    // Whatever else squeue prints: a submission with a job that runs keeps its sub-token.
    let running = format!("{output}\n{job}|{job}|RUNNING|{from}|n[1-2]|n1");
    let (decision, _) = decide_end(&running, &held, node, NOW);
    assert!(!matches!(decision, EndDecision::Revoke { .. } | EndDecision::Leave), "{decision:?}");
    if shows(&running, &held) {
        let at = SubmissionTime { end: from, ..submitted };
        let (decision, ..) = follow(&running, at, &held.leaders, Progress::Nothing, NOW);
        assert!(!matches!(decision, FollowDecision::Revoke | FollowDecision::RevokeLast), "{decision:?}");
    }
});
