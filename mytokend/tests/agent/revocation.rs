// SPDX-License-Identifier: MIT OR Apache-2.0
//! Revocations at a server that hangs, and over a restart.

use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobState};

use crate::harness::{RENEWAL, SETTLE, TestAgent, eventually};

fn all_print(agent: &TestAgent, state: &str) {
    let shown: Vec<_> = (1..140).map(|job| (job, job.to_string())).collect();
    let lines: Vec<_> = shown.iter().map(|(job, shown)| (*job, shown.as_str(), state, "n1")).collect();
    agent.squeue_prints(&lines);
}

/// The credentials of these jobs are from the server `a`, which hangs when it revokes, and from `b`.
fn with_hanging_revocations(jobs_of_a: std::ops::Range<u32>, job_of_b: u32) -> TestAgent {
    let agent = TestAgent::new();
    agent.services.with(|script| (script.lane, script.hold_revocations) = ("a op".into(), Some("at-a")));
    jobs_of_a.clone().for_each(|job| drop(agent.start(job, &format!("{job}-at-a"))));
    agent.services.with(|script| script.lane = "b op".into());
    agent.start(job_of_b, "at-b");
    all_print(&agent, "COMPLETED");
    jobs_of_a.clone().for_each(|job| agent.finish(job));
    agent.move_clock(SETTLE);
    eventually("revocations at a", || agent.services.with(|script| script.revocation_requests) == 2);
    // The others wait behind these, and no answer of slurmctld comes later.
    eventually("all answers of slurmctld", || !agent.agent().asks_slurmctld());
    agent
}

#[test]
fn a_server_that_hangs_delays_no_revocation_at_another_one_and_no_question() {
    let agent = with_hanging_revocations(100..140, 7);
    assert_eq!(agent.start(8, "at-b").state, JobState::Ready);
    [7, 8].into_iter().for_each(|job| agent.finish(job));
    agent.move_clock(SETTLE);
    eventually("the revocation at b", || agent.last_event(7) == EventKind::Revoked);
    assert_eq!(agent.revoked(), 1);
    assert_eq!(agent.services.with(|script| script.revocation_requests), 3, "two at a time at the server that hangs");
    // When it answers again, everything is done.
    agent.services.with(|script| script.hold_revocations = None);
    eventually("all revocations", || agent.revoked() == 41);
    agent.wait_until_idle();
    assert_eq!((agent.last_event(139), agent.revoked()), (EventKind::Revoked, 41));
}

#[test]
fn a_job_that_comes_back_before_its_revocation_was_sent_keeps_its_credential() {
    let agent = with_hanging_revocations(100..104, 7);
    // Those of two jobs wait behind the others.
    let sent = |job: u32| agent.has_event(job, &EventKind::Revoked);
    (100..104).for_each(|job| assert_eq!(agent.start(job, &format!("{job}-at-a")).state, JobState::Ready));
    all_print(&agent, "RUNNING");
    agent.move_clock(RENEWAL);
    eventually("renewals, although revocations hang", || {
        (100..104).all(|job| agent.has_event(job, &EventKind::Renewed))
    });
    agent.services.with(|script| script.hold_revocations = None);
    agent.wait_until_idle();
    assert_eq!(agent.revoked(), 2, "those that were under way");
    assert!(!(100..104).any(sent));
}

#[test]
fn a_revocation_that_was_sent_before_a_restart_is_not_sent_again() {
    let mut agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.services.with(|script| script.revocation_time = Duration::from_millis(1_200));
    agent.move_clock(SETTLE);
    eventually("the request", || agent.services.with(|script| script.revocation_requests == 1));
    agent.end();
    agent.begin();
    agent.advance(SETTLE * 4);
    assert_eq!(
        (agent.last_event(7), agent.services.with(|script| script.revocation_requests)),
        (EventKind::Revoked, 1)
    );
}

#[test]
fn a_revocation_that_fails_after_a_long_wait_is_soon_tried_again() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.squeue_prints(&[(7, "7_1", "COMPLETED", "n1"), (8, "7_2", "RUNNING", "n2")]);
    agent.finish(7);
    // Two hours of questions about the other task.
    (0..120).for_each(|_| agent.advance(Duration::from_secs(60)));
    agent.services.with(|script| script.revocation_failure = Some(crate::harness::outage()));
    agent.squeue_prints(&[(7, "7_1", "COMPLETED", "n1"), (8, "7_2", "COMPLETED", "n1")]);
    let requests = || agent.services.with(|script| script.revocation_requests);
    while requests() == 0 {
        agent.advance(Duration::from_secs(10));
    }
    agent.services.with(|script| script.revocation_failure = None);
    agent.advance(SETTLE * 2);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_revocation_that_was_not_sent_does_not_count_for_the_next_run_of_its_job() {
    let agent = with_hanging_revocations(100..104, 7);
    // Those of two jobs wait behind the others. All jobs run again, end again, and are in the queue for a third run.
    (100..104).for_each(|job| assert_eq!(agent.start(job, &format!("{job}-at-a")).state, JobState::Ready));
    (100..104).for_each(|job| agent.finish(job));
    all_print(&agent, "PENDING");
    agent.services.with(|script| script.hold_revocations = None);
    agent.wait_until_idle();
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 2, "those that were under way");
    (100..104).for_each(|job| assert_eq!(agent.last_event(job), EventKind::Requeued));
}
