// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a job.

use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobStart, JobState};

use crate::harness::{MISSING, SETTLE, SWEEP, TestAgent, eventually, me, step};
use crate::skipped::skip;

/// Longer than all pauses between the queries about a job, and shorter than the time for which a finished lease is kept.
const LATER: Duration = Duration::from_secs(12 * 3_600);

#[test]
fn the_end_of_a_job_removes_its_file_and_revokes_its_sub_token() {
    let agent = TestAgent::new();
    agent.squeue_prints("7|COMPLETING|n1");
    agent.start(7, "h1");
    agent.finish(7);
    assert!(!agent.token(7).parent().unwrap().exists());
    agent.advance(SETTLE);
    assert_eq!((agent.queries(), agent.revoked()), (1, 0), "a completing job may still be requeued");
    agent.squeue_prints("7|COMPLETED|n[1-3]");
    agent.advance(SETTLE * 2);
    assert_eq!((agent.queries(), agent.revoked()), (2, 1));
    assert_eq!(agent.events(7), [EventKind::Opened, EventKind::Started, EventKind::Removed, EventKind::Revoked]);
    assert_eq!(agent.status(7).state, JobState::Failed);
    agent.finish(7);
    agent.advance(LATER);
    assert_eq!((agent.queries(), agent.revoked()), (2, 1));
}

#[test]
fn only_the_first_node_of_a_job_revokes_its_sub_token() {
    let agent = TestAgent::new();
    agent.squeue_prints("7|COMPLETED|n[0-3]");
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!(agent.last_event(7), EventKind::Left);
    assert_eq!(agent.revoked(), 0);
}

#[test]
fn a_requeued_job_keeps_its_credential_and_starts_again() {
    let agent = TestAgent::new();
    agent.squeue_prints("7|PENDING|");
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!(agent.last_event(7), EventKind::Requeued);
    assert_eq!(agent.revoked(), 0);
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    assert_eq!(
        agent.events(7),
        [
            EventKind::Opened,
            EventKind::Started,
            EventKind::Removed,
            EventKind::Requeued,
            EventKind::Opened,
            EventKind::Started
        ]
    );
}

#[test]
fn a_job_that_starts_again_before_the_decision_is_not_revoked() {
    let agent = TestAgent::new();
    agent.squeue_prints("7|COMPLETING|n1");
    agent.start(7, "h1");
    agent.finish(7);
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.squeue_prints("7|COMPLETED|n1");
    agent.advance(SETTLE * 4);
    assert_eq!((agent.queries(), agent.revoked()), (0, 0));
}

#[test]
fn the_sub_token_of_an_array_is_revoked_with_its_last_task() {
    let agent = TestAgent::new();
    let sealed = Some(format!("{}:array", me().uid));
    for job in [11, 12] {
        agent.start_with(&JobStart { array_job: Some(10), sealed: sealed.clone(), ..step(job) });
    }
    agent.squeue_prints("11|COMPLETED|n1\n12|RUNNING|n1");
    agent.finish(11);
    agent.advance(SETTLE);
    assert_eq!((agent.last_event(11), agent.revoked()), (EventKind::Left, 0));
    agent.squeue_prints("11|COMPLETED|n1\n12|COMPLETED|n1");
    agent.finish(12);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn jobs_of_one_submission_do_not_revoke_each_other() {
    let agent = TestAgent::new();
    agent.start(20, "het");
    agent.start(21, "het");
    agent.squeue_prints("20|COMPLETED|n1");
    agent.finish(20);
    agent.advance(SETTLE);
    assert_eq!((agent.last_event(20), agent.revoked()), (EventKind::Left, 0));
    agent.squeue_prints("21|COMPLETED|n1");
    agent.finish(21);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn without_a_final_state_the_queries_end_and_the_sub_token_is_kept() {
    let agent = TestAgent::new();
    agent.squeue_prints("7|COMPLETING|n1");
    agent.start(7, "h1");
    agent.finish(7);
    // 19 pauses that double up to an hour.
    for _ in 0..20 {
        agent.advance(SETTLE * (1 << 11));
    }
    assert_eq!((agent.queries(), agent.revoked()), (20, 0));
    assert_eq!(agent.last_event(7), EventKind::Kept);
}

#[test]
fn an_ended_job_is_settled_after_a_restart() {
    let mut agent = TestAgent::new();
    agent.squeue_prints("7|COMPLETING|n1");
    agent.start(7, "h1");
    agent.finish(7);
    agent.end();
    agent.squeue_prints("7|COMPLETED|n1");
    agent.begin();
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_job_that_ended_without_an_epilog_is_found() {
    let agent = TestAgent::new();
    agent.squeue_prints("7|COMPLETED|n1");
    agent.start(7, "h1");
    agent.move_clock(MISSING);
    eventually("the removal", || !agent.token(7).exists());
    assert!(agent.has_event(7, &EventKind::Missed));
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_running_job_without_a_process_here_keeps_its_token() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.move_clock(MISSING);
    eventually("a query", || agent.queries() == 1);
    agent.advance(SWEEP);
    assert!(agent.token(7).exists());
    assert_eq!((agent.queries(), agent.events(7)), (1, vec![EventKind::Opened, EventKind::Started]));
}

#[test]
fn a_job_that_ends_during_its_request_gets_no_file() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_tokens = true);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| agent.start(7, "h1"));
        eventually("the request", || agent.token_requests() == 1);
        agent.move_clock(Duration::from_secs(2));
        assert_eq!(started.join().unwrap().state, JobState::Pending);
    });
    agent.finish(7);
    agent.services.with(|script| script.hold_tokens = false);
    eventually("the late token", || agent.last_event(7) == EventKind::Dropped);
    assert!(!agent.token(7).parent().unwrap().exists());
}

#[test]
fn a_hanging_slurmctld_delays_no_token() {
    let agent = TestAgent::new();
    for job in 1..=12 {
        agent.start(job, "h1");
    }
    agent.services.with(|script| script.hold_squeue = true);
    (1..=12).for_each(|job| agent.finish(job));
    agent.move_clock(SETTLE);
    eventually("queries by all threads of the queue", || agent.queries() == 2);
    assert_eq!(agent.start(20, "h2").state, JobState::Ready);
}

#[test]
fn a_copied_handle_does_not_prevent_the_revocation() {
    if me().uid != 0 {
        return skip("only root can start another user's job").unwrap();
    }
    let agent = TestAgent::new();
    agent.start(20, "h1");
    let copied = JobStart { uid: 54_321, gid: 54_321, sealed: Some("54321:h1".into()), ..step(21) };
    assert_eq!(agent.start_with(&copied).state, JobState::Ready);
    agent.squeue_prints("20|COMPLETED|n1");
    agent.finish(20);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}
