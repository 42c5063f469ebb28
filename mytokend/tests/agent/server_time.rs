// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock of this host is wrong, and the agent knows the mytoken server's.

use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobState};
use mytokend::jobs::Window;

use crate::harness::{NOW, SETTLE, TestAgent, revocation};

const YEAR: i64 = 366 * 86_400;

/// An agent whose host's clock is ahead by this number of seconds. Its server has told its own time.
fn with_clock_ahead(seconds: i64) -> TestAgent {
    let agent = TestAgent::new();
    agent.services.with(|script| script.server_clock = Some(agent.clock.clone()));
    agent.set_clock(seconds);
    agent
}

#[test]
fn a_sub_token_is_revoked_although_this_clock_says_that_it_has_expired() {
    for seconds in [YEAR, -YEAR] {
        let agent = with_clock_ahead(seconds);
        assert_eq!(agent.start(7, "h1").state, JobState::Ready);
        agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
        agent.finish(7);
        agent.advance(SETTLE);
        assert_eq!((agent.last_event(7), agent.revoked()), (EventKind::Revoked, 1), "{seconds}");
    }
}

#[test]
fn a_sub_token_that_has_expired_at_its_server_is_not_revoked() {
    let agent = with_clock_ahead(-3_600);
    agent.start(7, "short");
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!((agent.last_event(7), agent.revoked()), (EventKind::Kept, 0));
}

#[test]
fn a_window_begins_by_the_clock_of_the_server() {
    for seconds in [3_600, -3_600] {
        let agent = with_clock_ahead(seconds);
        agent.services.with(|script| script.windows = vec![Window { nbf: Some(NOW + 900), exp: None }]);
        assert_eq!(agent.start(7, "h1").state, JobState::Pending, "{seconds}");
        agent.advance(Duration::from_secs(890));
        assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Pending, 0), "{seconds}");
        agent.advance(Duration::from_secs(18));
        assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Ready, 1), "{seconds}");
        // It is set right while the agent waits.
        agent.services.with(|script| script.windows = vec![Window { nbf: Some(NOW + 1_800), exp: None }]);
        agent.start(8, "h2");
        agent.set_clock(-seconds);
        agent.advance(Duration::from_secs(890));
        assert_eq!(agent.status(8).state, JobState::Pending, "{seconds}");
        agent.advance(Duration::from_secs(18));
        assert_eq!(agent.status(8).state, JobState::Ready, "{seconds}");
    }
}

#[test]
fn a_credential_that_the_server_refuses_after_its_end_has_expired() {
    let agent = TestAgent::new();
    agent
        .services
        .with(|script| (script.failure, script.server_clock) = (Some(revocation()), Some(agent.clock.clone())));
    agent.advance(Duration::from_secs(2));
    let started = agent.start(7, "short");
    assert_eq!(started.state, JobState::Failed);
    assert!(started.reason.unwrap().contains("expired at Unix time 1800000001 while the job waited in the queue"));
}

#[test]
fn what_has_expired_only_by_this_hosts_clock_is_revoked() {
    for (later, revoked) in [(3_600, 1), (2 * 86_400, 0)] {
        let agent = TestAgent::new();
        agent.start(7, "short");
        agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
        agent.finish(7);
        agent.set_clock(later);
        agent.advance(SETTLE);
        assert_eq!(agent.revoked(), revoked, "{later}");
    }
}
