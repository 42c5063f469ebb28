// SPDX-License-Identifier: MIT OR Apache-2.0
//! The renewal of a running job's token.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobState};

use crate::harness::{BEFORE_RENEWAL, EXPIRY, MISSING, RENEWAL, TestAgent, eventually, outage, revocation};

/// Longer than the first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(2);

#[test]
fn the_token_is_replaced_before_it_expires() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !finished.load(Ordering::Relaxed) {
                assert!(agent.read_token(7).starts_with("token-"));
            }
        });
        agent.advance(BEFORE_RENEWAL);
        let mut seen = vec![agent.read_token(7)];
        agent.advance(RENEWAL - BEFORE_RENEWAL);
        seen.push(agent.read_token(7));
        agent.advance(RENEWAL);
        seen.push(agent.read_token(7));
        finished.store(true, Ordering::Relaxed);
        assert_eq!(seen, ["token-1", "token-2", "token-3"]);
    });
    // Two events with the same text are one.
    let mut events = agent.events(7);
    events.dedup();
    assert_eq!(events, [EventKind::Opened, EventKind::Started, EventKind::Renewed]);
}

#[test]
fn during_an_outage_the_old_token_stays_until_it_expires_and_renewal_continues() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.failure = Some(outage()));
    agent.advance(RENEWAL);
    assert_eq!(agent.read_token(7), "token-1");
    let status = agent.status(7);
    assert_eq!(status.events.last().unwrap().kind, EventKind::Retry);
    assert!(status.events.last().unwrap().text.contains("the old access token stays"), "{status:?}");
    assert_eq!(status.state, JobState::Ready);
    agent.advance(EXPIRY - RENEWAL);
    assert!(!agent.token(7).exists() && agent.has_event(7, &EventKind::Expired));
    assert_eq!(agent.status(7).state, JobState::Pending);
    agent.services.with(|script| script.failure = None);
    agent.advance(Duration::from_secs(300));
    assert!(agent.token(7).exists());
}

#[test]
fn a_revoked_sub_token_leaves_the_access_token_until_it_expires() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(RENEWAL);
    assert!(agent.has_event(7, &EventKind::Refused) && agent.token(7).exists());
    agent.advance(EXPIRY - RENEWAL);
    assert!(!agent.token(7).exists());
    assert_eq!(agent.status(7).state, JobState::Failed);
}

#[test]
fn a_restart_keeps_the_schedule_and_sends_no_further_request() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.end();
    assert!(agent.token(7).exists());
    let state = fs::read_to_string(agent.dir.path().join("mytoken/state/job-7.json")).unwrap();
    assert!(!state.contains("token-1"), "the access token is not in the state");
    agent.begin();
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.advance(BEFORE_RENEWAL);
    assert_eq!(agent.token_requests(), 1);
    agent.advance(RENEWAL - BEFORE_RENEWAL);
    assert_eq!(agent.token_requests(), 2);
}

#[test]
fn a_renewal_that_was_due_while_the_agent_was_stopped_is_done_at_the_start() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.end();
    agent.move_clock(EXPIRY);
    agent.begin();
    agent.wait_until_idle();
    assert_eq!(agent.read_token(7), "token-2");
}

#[test]
fn damaged_state_is_removed_and_all_other_state_is_used() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.start(8, "h2");
    agent.end();
    fs::write(agent.dir.path().join("mytoken/state/job-8.json"), "{\"key\":{\"job\":").unwrap();
    fs::write(agent.dir.path().join("mytoken/state/rubbish"), "x").unwrap();
    agent.begin();
    assert_eq!(agent.status(7).state, JobState::Ready);
    assert!(!agent.token(8).exists(), "no lease would renew or remove it");
    assert_eq!(agent.start(8, "h2").state, JobState::Ready);
}

#[test]
fn an_expired_sub_token_ends_the_renewal() {
    let agent = TestAgent::new();
    agent.start(7, "short");
    agent.advance(RENEWAL);
    assert!(agent.has_event(7, &EventKind::Refused));
    assert!(agent.status(7).events.iter().any(|event| event.text.contains("credential itself has expired")));
    assert_eq!(agent.token_requests(), 1);
}

#[test]
fn an_old_token_is_renewed_by_its_remaining_lifetime() {
    let agent = TestAgent::new();
    // The node's clock is fifty minutes ahead.
    agent.services.with(|script| script.left = Some(600));
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.advance(Duration::from_secs(359));
    assert_eq!(agent.token_requests(), 1);
    agent.advance(Duration::from_secs(450 - 359));
    assert_eq!(agent.token_requests(), 2);
}

#[test]
fn a_new_token_that_is_expired_counts_as_a_failure() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.left = Some(-100));
    let started = agent.start(7, "h1");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("clock"), "{:?}", agent.status(7));
    assert!(!agent.token(7).exists());
    agent.services.with(|script| script.left = None);
    agent.advance(FIRST_RETRY);
    assert!(agent.token(7).exists());
}

#[test]
fn a_token_is_renewed_while_slurmctld_is_asked_about_its_job() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_squeue = true);
    agent.start(7, "h1");
    agent.move_clock(MISSING);
    eventually("the query", || agent.queries() == 1);
    for token in ["token-2", "token-3"] {
        agent.move_clock(RENEWAL);
        eventually("the next token", || agent.read_token(7) == token);
    }
}

#[test]
fn a_panic_fails_one_attempt_and_ends_no_thread() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.panics = 6);
    for job in 1..=6 {
        assert_eq!(agent.start(job, "h1").state, JobState::Pending);
    }
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.advance(FIRST_RETRY);
    assert!(agent.token(1).exists());
}
