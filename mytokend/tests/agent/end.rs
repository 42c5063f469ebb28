// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job ends.

use std::time::Duration;

use mytoken_wire::agent::{JobStart, JobState};

use crate::play::{Stage, eventually, me, step};
use crate::skipped::skip;

fn said(stage: &Stage, lines: &str) {
    stage.script.with(|script| script.lines = Some(lines.to_owned()));
}

fn revoked(stage: &Stage) -> usize {
    stage.script.with(|script| script.revoked.len())
}

#[test]
fn the_file_goes_at_once_and_the_sub_token_is_revoked() {
    let stage = Stage::new(3600);
    said(&stage, "7|COMPLETING|n1");
    stage.start(7, "h1");
    stage.finish(7);
    assert!(!stage.token(7).parent().unwrap().exists());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(revoked(&stage), 0, "completing may still become a requeue");
    said(&stage, "7|COMPLETED|n[1-3]");
    eventually("the revocation", || revoked(&stage) == 1);
    eventually("its telling", || stage.words(7) == ["opened", "started", "removed", "revoked"]);
    assert_eq!(stage.status(7).state, JobState::Failed);
    stage.finish(7);
    assert_eq!(revoked(&stage), 1);
}

#[test]
fn another_node_of_the_job_leaves_it_to_the_first() {
    let stage = Stage::new(3600);
    said(&stage, "7|COMPLETED|n[0-3]");
    stage.start(7, "h1");
    stage.finish(7);
    eventually("the decision", || stage.words(7).contains(&"left".to_owned()));
    assert_eq!(revoked(&stage), 0);
}

#[test]
fn a_requeued_job_keeps_its_credential_and_starts_again() {
    let stage = Stage::new(3600);
    said(&stage, "7|PENDING|");
    stage.start(7, "h1");
    stage.finish(7);
    eventually("the decision", || stage.words(7).contains(&"requeued".to_owned()));
    assert_eq!(revoked(&stage), 0);
    assert_eq!(stage.start(7, "h1").state, JobState::Ready);
    assert_eq!(stage.words(7), ["opened", "started", "removed", "requeued", "opened", "started"]);
}

#[test]
fn a_job_that_starts_again_before_the_decision_is_not_revoked() {
    let stage = Stage::new(3600);
    said(&stage, "7|COMPLETING|n1");
    stage.start(7, "h1");
    stage.finish(7);
    assert_eq!(stage.start(7, "h1").state, JobState::Ready);
    said(&stage, "7|COMPLETED|n1");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(revoked(&stage), 0);
}

#[test]
fn an_array_is_revoked_with_its_last_task() {
    let stage = Stage::new(3600);
    let sealed = Some(format!("{}:array", me().uid));
    for job in [11, 12] {
        stage.start_with(&JobStart { array_job: Some(10), sealed: sealed.clone(), ..step(job) });
    }
    said(&stage, "11|COMPLETED|n1\n12|RUNNING|n1");
    stage.finish(11);
    eventually("the decision", || stage.words(11).contains(&"left".to_owned()));
    said(&stage, "11|COMPLETED|n1\n12|COMPLETED|n1");
    stage.finish(12);
    eventually("the revocation", || revoked(&stage) == 1);
}

#[test]
fn jobs_of_one_submission_do_not_revoke_each_other() {
    let stage = Stage::new(3600);
    stage.start(20, "het");
    stage.start(21, "het");
    said(&stage, "20|COMPLETED|n1");
    stage.finish(20);
    eventually("the decision", || stage.words(20).contains(&"left".to_owned()));
    assert_eq!(revoked(&stage), 0);
    said(&stage, "21|COMPLETED|n1");
    stage.finish(21);
    eventually("the revocation", || revoked(&stage) == 1);
}

#[test]
fn an_ended_job_is_settled_after_a_restart() {
    let mut stage = Stage::new(3600);
    said(&stage, "7|COMPLETING|n1");
    stage.start(7, "h1");
    stage.finish(7);
    stage.end();
    said(&stage, "7|COMPLETED|n1");
    stage.begin();
    eventually("the revocation", || revoked(&stage) == 1);
}

#[test]
fn a_missed_end_is_found_out() {
    let stage = Stage::with_doubt(3600, Duration::from_millis(300));
    said(&stage, "7|COMPLETED|n1");
    stage.start(7, "h1");
    eventually("the removal", || !stage.token(7).exists());
    eventually("the revocation", || revoked(&stage) == 1);
    assert!(stage.words(7).contains(&"missed".to_owned()));
}

#[test]
fn a_running_job_without_a_process_here_keeps_its_token() {
    let stage = Stage::with_doubt(3600, Duration::from_millis(300));
    said(&stage, "7|RUNNING|n1");
    stage.start(7, "h1");
    std::thread::sleep(Duration::from_millis(700));
    assert!(stage.token(7).exists());
}

#[test]
fn a_job_that_ends_while_its_token_is_on_its_way_gets_no_file() {
    let stage = Stage::new(3600);
    said(&stage, "7|RUNNING|n1");
    stage.script.with(|script| script.delay = Duration::from_millis(900));
    assert_eq!(stage.start(7, "h1").state, JobState::Pending);
    stage.finish(7);
    eventually("the late token", || stage.words(7).last().is_some_and(|word| word == "dropped"));
    assert!(!stage.token(7).parent().unwrap().exists());
}

#[test]
fn a_slurmctld_that_hangs_holds_up_no_token() {
    let stage = Stage::new(3600);
    for job in 1..=12 {
        stage.start(job, "h1");
    }
    stage.script.with(|script| script.squeue_delay = Duration::from_secs(2));
    (1..=12).for_each(|job| stage.finish(job));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stage.start(20, "h2").state, JobState::Ready);
}

#[test]
fn a_forged_handle_keeps_nobody_elses_credential_alive() {
    if me().uid != 0 {
        return skip("only root can start another user's job").unwrap();
    }
    let stage = Stage::new(3600);
    stage.start(20, "h1");
    let forged = JobStart { uid: 54_321, gid: 54_321, sealed: Some("54321:h1".into()), ..step(21) };
    assert_eq!(stage.start_with(&forged).state, JobState::Ready);
    said(&stage, "20|COMPLETED|n1");
    stage.finish(20);
    eventually("the revocation", || revoked(&stage) == 1);
}
