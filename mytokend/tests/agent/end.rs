// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a job.

use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobEnd, JobStart, JobState};

use mytokend::agent::credential_service::RequestFailure;

use crate::harness::{MISSING, RENEWAL, SETTLE, SWEEP, TestAgent, eventually, me, step};
use crate::skipped::skip;

/// Longer than all pauses between the queries about a job, and shorter than the time for which a finished lease is kept.
const LATER: Duration = Duration::from_secs(12 * 3_600);

/// How much later than the node before it a node revokes.
const RANK_DELAY: Duration = Duration::from_secs(600);

/// Longest pause between two questions about a submission.
const LONGEST_PAUSE: Duration = Duration::from_secs(240);

#[test]
fn the_end_of_a_job_removes_its_file_and_revokes_its_sub_token() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETING", "n1")]);
    agent.start(7, "h1");
    agent.finish(7);
    assert!(!agent.token(7).parent().unwrap().exists());
    agent.advance(SETTLE);
    assert_eq!((agent.queries(), agent.revoked()), (1, 0), "a completing job may still be requeued");
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n[1-3]")]);
    agent.advance(SETTLE * 2);
    assert_eq!((agent.queries(), agent.revoked()), (2, 1));
    assert_eq!(agent.events(7), [EventKind::Opened, EventKind::Started, EventKind::Removed, EventKind::Revoked]);
    assert_eq!(agent.status(7).state, JobState::Failed);
    agent.finish(7);
    agent.advance(LATER);
    assert_eq!((agent.queries(), agent.revoked()), (2, 1));
}

#[test]
fn nodes_revoke_one_after_the_other() {
    let agent = TestAgent::new();
    // The third node from the first.
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n[00,0,1-3]")]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!((agent.last_event(7), agent.revoked()), (EventKind::Left, 0));
    agent.advance(RANK_DELAY * 2 - Duration::from_secs(2));
    assert_eq!(agent.revoked(), 0);
    agent.advance(Duration::from_secs(2));
    assert_eq!((agent.last_event(7), agent.revoked()), (EventKind::Revoked, 1));
    assert_eq!(agent.queries(), 2, "it has asked again before the revocation");
}

#[test]
fn most_nodes_of_a_large_job_leave_the_sub_token_to_others() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "m[1-5],n[1-30]")]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    agent.advance(LATER);
    assert_eq!((agent.last_event(7), agent.revoked(), agent.queries()), (EventKind::Left, 0, 1));
}

#[test]
fn a_requeued_job_keeps_its_credential_and_starts_again() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!(agent.last_event(7), EventKind::Requeued);
    agent.advance(Duration::from_secs(3_600 * 3));
    assert_eq!((agent.revoked(), agent.last_event(7)), (0, EventKind::Requeued));
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
    use EventKind::{Expired, Joined, Opened, Removed, Renewed, Requeued, Revoked, Started};
    let mut events = agent.events(7);
    events.retain(|event| ![Renewed, Expired].contains(event));
    assert_eq!(events, [Opened, Started, Removed, Requeued, Joined, Started, Removed, Revoked]);
}

#[test]
fn a_requeued_job_that_is_cancelled_in_the_queue_is_revoked() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    agent.advance(Duration::from_secs(3_600));
    agent.squeue_prints(&[(7, "7", "CANCELLED", "")]);
    agent.advance(LONGEST_PAUSE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_shared_credential_stays_for_a_job_that_was_requeued_elsewhere() {
    let agent = TestAgent::new();
    // Both jobs are of one loop, and have one credential.
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1"), (8, "8", "RUNNING", "n2")]);
    agent.start(7, "shared");
    agent.advance(Duration::from_secs(90));
    // No further job can take the credential, so the agent learns which jobs have it.
    let stored = agent.dir.path().join(format!("mytoken/state/submission-{}-shared.json", me().uid));
    let is_learned = || std::fs::read_to_string(&stored).is_ok_and(|lease| lease.contains(r#""leaders":[7,8]"#));
    eventually("the jobs of the loop", is_learned);
    agent.advance(Duration::from_secs(20));
    assert_eq!(agent.queries(), 1, "once");
    // A requeue gives job 8 a new time of submission.
    let (ended, requeued) = ("7|7|COMPLETED|1800000000|1800000000|n1|n1", "8|8|PENDING|1800003600|N/A||n/a");
    agent.services.with(|script| script.squeue = Some(format!("{ended}\n{requeued}\n")));
    agent.finish(7);
    agent.advance(SETTLE * 10);
    assert_eq!(agent.revoked(), 0);
    agent.squeue_prints(&[(8, "8", "CANCELLED", "")]);
    agent.advance(LONGEST_PAUSE);
    agent.advance(LATER);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn one_node_of_a_requeued_job_revokes_first_when_it_is_cancelled() {
    for (nodes, revoked) in [("n[1-8]", 1), ("m1,n[1-8]", 0), ("m[1-3],n1", 0)] {
        let mut agent = TestAgent::new();
        agent.squeue_prints(&[(7, "7", "PENDING", "")]);
        agent.start(7, "h1");
        agent.ask(&JobEnd { job: 7, nodes: Some(nodes.into()), at: None }).unwrap();
        agent.advance(SETTLE);
        // What the node knows is kept over a restart.
        agent.end();
        agent.begin();
        agent.squeue_prints(&[(7, "7", "CANCELLED", "")]);
        agent.advance(LONGEST_PAUSE);
        assert_eq!(agent.revoked(), revoked, "{nodes}");
        let later = usize::from(nodes != "m[1-3],n1");
        agent.advance(LATER);
        assert_eq!(agent.revoked(), later, "{nodes}");
    }
}

#[test]
fn a_job_that_starts_again_before_the_decision_is_not_revoked() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETING", "n1")]);
    agent.start(7, "h1");
    agent.finish(7);
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    assert_eq!(agent.token_requests(), 1, "the token of the first run is still good");
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.advance(SETTLE * 4);
    assert_eq!((agent.queries(), agent.revoked()), (0, 0));
}

#[test]
fn an_array_has_one_token_and_is_revoked_with_its_last_task() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(11, "10_1", "RUNNING", "n1"), (12, "10_2", "RUNNING", "n1")]);
    let sealed = Some(format!("{}:array", me().uid));
    for job in [11, 12] {
        let started = agent.start_with(&JobStart { array_job: Some(10), sealed: sealed.clone(), ..step(job) });
        assert_eq!((started.state, started.path), (JobState::Ready, agent.token(job).display().to_string()));
        assert_eq!(agent.read_token(job), "token-1");
    }
    assert_eq!(agent.token_requests(), 1);
    agent.advance(RENEWAL);
    assert_eq!(
        (agent.read_token(11), agent.read_token(12), agent.token_requests()),
        ("token-2".into(), "token-2".into(), 2)
    );
    agent.finish(11);
    assert!(!agent.token(11).exists() && agent.token(12).exists());
    let before = agent.queries();
    agent.advance(SETTLE);
    assert_eq!((agent.queries() - before, agent.revoked()), (0, 0), "a task still runs here");
    agent.squeue_prints(&[
        (11, "10_1", "COMPLETED", "n1"),
        (12, "10_2", "COMPLETED", "n1"),
        (10, "10_[3-9]", "PENDING", ""),
    ]);
    agent.finish(12);
    agent.advance(SETTLE);
    assert_eq!((agent.last_event(12), agent.revoked()), (EventKind::Requeued, 0));
    // slurmctld has forgotten the tasks of this node; the last ones are cancelled in the queue.
    agent.squeue_prints(&[(10, "10_[3-9]", "CANCELLED", "")]);
    agent.advance(LONGEST_PAUSE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_thousand_tasks_end_with_one_question_and_one_revocation() {
    let agent = TestAgent::new();
    let sealed = Some(format!("{}:array", me().uid));
    for first in (1_000..2_000).step_by(50) {
        for job in first..first + 50 {
            agent.start_with(&JobStart { array_job: Some(1_000), sealed: sealed.clone(), ..step(job) });
        }
        (first..first + 50).for_each(|job| agent.finish(job));
    }
    assert_eq!(agent.token_requests(), 1);
    agent.squeue_prints(&[(1_999, "1000_999", "COMPLETED", "n1")]);
    agent.advance(SETTLE);
    agent.advance(LATER);
    assert_eq!((agent.queries(), agent.revoked()), (1, 1));
}

#[test]
fn the_components_of_a_heterogeneous_job_are_one_submission() {
    let agent = TestAgent::new();
    agent.start(20, "het");
    agent.start(21, "het");
    agent.squeue_prints(&[(20, "20+0", "COMPLETED", "n1"), (21, "20+1", "RUNNING", "n1")]);
    agent.finish(20);
    agent.advance(SETTLE);
    assert_eq!((agent.queries(), agent.revoked()), (0, 0));
    // A third component runs on another node.
    agent.squeue_prints(&[(21, "20+1", "CANCELLED", "n1"), (22, "20+2", "RUNNING", "n2")]);
    agent.finish(21);
    agent.advance(SETTLE);
    assert_eq!((agent.last_event(21), agent.revoked()), (EventKind::Requeued, 0));
    agent.squeue_prints(&[(20, "20+0", "COMPLETED", "n1"), (22, "20+2", "COMPLETED", "n2")]);
    agent.advance(LONGEST_PAUSE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_component_that_is_alone_on_its_node_remembers_its_leader() {
    let agent = TestAgent::new();
    agent.start(21, "het");
    agent.squeue_prints(&[(20, "20+0", "RUNNING", "n2"), (21, "20+1", "CANCELLED", "n1")]);
    agent.finish(21);
    agent.advance(SETTLE);
    // slurmctld has forgotten this component.
    agent.squeue_prints(&[(20, "20+0", "RUNNING", "n2")]);
    (0..6).for_each(|_| agent.advance(LONGEST_PAUSE));
    assert_eq!((agent.last_event(21), agent.revoked()), (EventKind::Requeued, 0));
}

#[test]
fn a_refused_submission_is_revoked_too() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.failure = Some(RequestFailure::permanent("the scope is not allowed")));
    assert_eq!(agent.start(7, "h1").state, JobState::Failed);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_list_without_the_job_that_just_ended_is_doubted() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!((agent.queries(), agent.revoked()), (1, 0));
    (0..3).for_each(|_| agent.advance(Duration::from_secs(20)));
    assert_eq!((agent.queries(), agent.revoked()), (4, 1));
}

#[test]
fn a_job_that_stays_undecided_is_asked_about_until_the_sub_token_expires() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.server_clock = Some(agent.clock.clone()));
    agent.squeue_prints(&[(7, "7", "COMPLETING", "n1")]);
    agent.start(7, "h1");
    agent.finish(7);
    for _ in 0..30 {
        agent.advance(LONGEST_PAUSE);
    }
    assert!((20..=40).contains(&agent.queries()), "{}", agent.queries());
    agent.advance(Duration::from_secs(2 * 86_400));
    agent.advance(LONGEST_PAUSE);
    let queries = agent.queries();
    agent.advance(LATER);
    assert_eq!((agent.queries(), agent.revoked(), agent.last_event(7)), (queries, 0, EventKind::Kept));
}

#[test]
fn an_ended_job_is_settled_after_a_restart() {
    let mut agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETING", "n1")]);
    agent.start(7, "h1");
    agent.finish(7);
    agent.end();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.begin();
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_job_that_ended_without_an_epilog_is_found() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
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
    agent.wait_until_idle();
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
        agent.start(job, &format!("h{job}"));
    }
    agent.services.with(|script| script.hold_squeue = true);
    (1..=12).for_each(|job| agent.finish(job));
    agent.move_clock(SETTLE);
    eventually("queries by all threads of the queue", || agent.queries() == 2);
    assert_eq!(agent.start(20, "h20").state, JobState::Ready);
}

#[test]
fn a_job_that_comes_back_while_slurmctld_hangs_has_its_token_renewed() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_squeue = true);
    for job in 1..=3 {
        agent.start(job, &format!("h{job}"));
        agent.finish(job);
    }
    agent.move_clock(SETTLE);
    eventually("queries by all threads of the queue", || agent.queries() == 2);
    (1..=3).for_each(|job| assert_eq!(agent.start(job, &format!("h{job}")).state, JobState::Ready));
    agent.move_clock(RENEWAL);
    eventually("renewals", || (1..=3).all(|job| agent.has_event(job, &EventKind::Renewed)));
    agent.squeue_prints(&[(1, "1", "COMPLETED", "n1"), (2, "2", "COMPLETED", "n1"), (3, "3", "COMPLETED", "n1")]);
    agent.services.with(|script| script.hold_squeue = false);
    agent.wait_until_idle();
    assert_eq!(agent.revoked(), 0, "they run again");
    (1..=3).for_each(|job| agent.finish(job));
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 3);
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
    agent.squeue_prints(&[(20, "20+0", "COMPLETED", "n1")]);
    agent.finish(20);
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}
