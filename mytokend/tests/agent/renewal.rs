// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job runs.

use std::fs;
use std::time::Duration;

use mytoken_wire::agent::JobState;
use mytokend::agent::authority::Failure;

use crate::play::{Stage, eventually, outage};

#[test]
fn the_token_is_replaced_before_it_expires() {
    let stage = Stage::new(2);
    stage.start(7, "h1");
    let mut seen = vec![fs::read_to_string(stage.token(7)).unwrap()];
    eventually("three tokens", || {
        let now = fs::read_to_string(stage.token(7)).expect("there is a file at every moment");
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        seen.len() == 3
    });
    assert_eq!(seen, ["token-1", "token-2", "token-3"]);
    // Events with the same text are told as one.
    let mut words = stage.words(7);
    words.dedup();
    assert_eq!(words, ["opened", "started", "renewed"]);
}

#[test]
fn an_outage_keeps_the_old_token_until_it_expires_and_ends_by_itself() {
    let stage = Stage::new(3);
    stage.start(7, "h1");
    stage.script.with(|script| script.failure = Some(outage()));
    eventually("a failed renewal", || stage.words(7).contains(&"retry".to_owned()));
    assert_eq!(fs::read_to_string(stage.token(7)).unwrap(), "token-1");
    let status = stage.status(7);
    assert!(status.events.last().unwrap().text.contains("the old access token stays"), "{status:?}");
    assert_eq!(status.state, JobState::Ready);
    eventually("its removal", || !stage.token(7).exists());
    assert!(stage.words(7).contains(&"expired".to_owned()));
    assert_eq!(stage.status(7).state, JobState::Pending);
    stage.script.with(|script| script.failure = None);
    eventually("a new token", || stage.token(7).exists());
}

#[test]
fn a_revoked_sub_token_leaves_the_access_token_until_it_expires() {
    let stage = Stage::new(2);
    stage.start(7, "h1");
    let refusal = Failure { text: "the token was revoked".into(), temporary: false, retry_after: None };
    stage.script.with(|script| script.failure = Some(refusal));
    eventually("the refusal", || stage.words(7).contains(&"refused".to_owned()));
    assert!(stage.token(7).exists());
    eventually("its removal", || !stage.token(7).exists());
    assert_eq!(stage.status(7).state, JobState::Failed);
}

#[test]
fn a_restart_keeps_the_schedule_and_asks_for_nothing_more() {
    let mut stage = Stage::new(3600);
    stage.start(7, "h1");
    stage.end();
    assert!(stage.token(7).exists());
    let state = fs::read_to_string(stage.dir.path().join("mytoken/state/job-7.json")).unwrap();
    assert!(!state.contains("token-1"), "the access token is not in the state");
    stage.begin();
    assert_eq!(stage.start(7, "h1").state, JobState::Ready);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
}

#[test]
fn a_renewal_that_was_due_while_the_agent_was_down_is_made_up_for() {
    let mut stage = Stage::new(2);
    stage.start(7, "h1");
    stage.end();
    std::thread::sleep(Duration::from_millis(2300));
    stage.begin();
    eventually("the next token", || fs::read_to_string(stage.token(7)).is_ok_and(|token| token != "token-1"));
}

#[test]
fn damaged_state_is_dropped_and_the_rest_lives_on() {
    let mut stage = Stage::new(3600);
    stage.start(7, "h1");
    stage.start(8, "h2");
    stage.end();
    fs::write(stage.dir.path().join("mytoken/state/job-8.json"), "{\"key\":{\"job\":").unwrap();
    fs::write(stage.dir.path().join("mytoken/state/rubbish"), "x").unwrap();
    stage.begin();
    assert_eq!(stage.status(7).state, JobState::Ready);
    assert!(!stage.token(8).exists(), "nobody would renew or remove it");
    assert_eq!(stage.start(8, "h2").state, JobState::Ready);
}

#[test]
fn when_the_sub_token_ends_so_does_the_renewal() {
    let stage = Stage::new(2);
    stage.start(7, "short");
    eventually("the end", || stage.words(7).contains(&"refused".to_owned()));
    assert!(stage.status(7).events.iter().any(|event| event.text.contains("credential itself has expired")));
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
}

#[test]
fn a_token_with_little_life_left_is_not_asked_for_again_and_again() {
    let stage = Stage::new(3600);
    // The node's clock is fifty minutes ahead.
    stage.script.with(|script| script.left = Some(600));
    assert_eq!(stage.start(7, "h1").state, JobState::Ready);
    std::thread::sleep(Duration::from_millis(1600));
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
}

#[test]
fn a_token_that_comes_expired_is_a_failure_and_says_so() {
    let stage = Stage::new(3600);
    stage.script.with(|script| script.left = Some(-100));
    let started = stage.start(7, "h1");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("clock"), "{:?}", stage.status(7));
    assert!(!stage.token(7).exists());
    stage.script.with(|script| script.left = None);
    eventually("a good one", || stage.token(7).exists());
}

#[test]
fn a_token_is_renewed_while_slurmctld_is_asked_about_its_job() {
    let stage = Stage::with_doubt(2, Duration::from_millis(200));
    stage.script.with(|script| script.squeue_delay = Duration::from_secs(6));
    stage.start(7, "h1");
    eventually("the next token", || {
        fs::read_to_string(stage.token(7)).expect("there is a file at every moment") == "token-3"
    });
}

#[test]
fn a_panic_costs_one_attempt_and_no_worker() {
    let stage = Stage::new(3600);
    stage.script.with(|script| script.panics = 6);
    for job in 1..=6 {
        assert_eq!(stage.start(job, "h1").state, JobState::Pending);
    }
    assert_eq!(stage.start(7, "h1").state, JobState::Ready);
    eventually("the token of the first", || stage.token(1).exists());
}
