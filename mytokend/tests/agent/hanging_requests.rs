// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests for an access token that have no answer while others are sent.

use std::time::Duration;

use mytoken_wire::agent::EventKind;

use crate::harness::{RENEWAL, TestAgent, eventually, outage, revocation};

#[test]
fn one_request_that_hangs_does_not_cost_the_token() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the first request", || agent.token_requests() == 2);
    // The second one is sent while the first is under way, and is answered.
    agent.move_clock(Duration::from_secs(10));
    eventually("the next token", || agent.read_token(7) == "token-3");
    agent.services.with(|script| script.hold_first = false);
    agent.wait_until_idle();
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-3", 3), "the late one is not newer");
}

#[test]
fn a_late_refusal_does_not_end_what_another_request_has_renewed() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the first request", || agent.token_requests() == 2);
    agent.move_clock(Duration::from_secs(10));
    eventually("the next token", || agent.read_token(7) == "token-3");
    agent.services.with(|script| (script.failure, script.hold_first) = (Some(revocation()), false));
    agent.wait_until_idle();
    agent.services.with(|script| script.failure = None);
    assert!(!agent.has_event(7, &EventKind::Refused), "{:?}", agent.status(7));
    agent.advance(RENEWAL);
    assert_eq!(agent.read_token(7), "token-4");
}

#[test]
fn a_request_that_hangs_does_not_hold_up_the_renewal_of_what_another_one_has_brought() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_first = true);
    std::thread::scope(|scope| {
        scope.spawn(|| agent.start(7, "h1"));
        eventually("the first request", || agent.token_requests() == 1);
        agent.move_clock(Duration::from_secs(2));
    });
    eventually("the first token", || agent.token(7).exists() && agent.read_token(7) == "token-2");
    agent.move_clock(RENEWAL);
    eventually("its renewal", || agent.read_token(7) == "token-3");
    agent.services.with(|script| (script.failure, script.hold_first) = (Some(outage()), false));
    agent.wait_until_idle();
    agent.services.with(|script| script.failure = None);
    assert!(!agent.has_event(7, &EventKind::Retry), "{:?}", agent.status(7));
    agent.advance(RENEWAL);
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-4", 4));
}

#[test]
fn a_request_that_fails_beside_one_that_hangs_is_repeated_at_once() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the first request", || agent.token_requests() == 2);
    agent.services.with(|script| script.failure = Some(outage()));
    agent.move_clock(Duration::from_secs(10));
    eventually("the second request", || agent.token_requests() == 3);
    agent.services.with(|script| script.failure = None);
    // Longer than the first pause, and much shorter than the deadline of the first request.
    agent.move_clock(Duration::from_secs(3));
    eventually("the next token", || agent.read_token(7) == "token-4");
    agent.services.with(|script| script.hold_first = false);
    agent.wait_until_idle();
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-4", 4));
}
