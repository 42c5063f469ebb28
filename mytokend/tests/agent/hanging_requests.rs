// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests for an access token that have no answer while others are sent.

use std::time::Duration;

use mytoken_wire::agent::EventKind;

use crate::files::agent_with;
use crate::harness::{RENEWAL, TestAgent, eventually, me, outage, revocation};

/// The first renewal of its token has no answer.
fn renewal_hangs() -> TestAgent {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the first request", || agent.token_requests() == 2);
    agent
}

#[test]
fn one_request_that_hangs_does_not_cost_the_token() {
    let agent = renewal_hangs();
    // The second one is sent while the first is under way, and is answered.
    agent.move_clock(Duration::from_secs(10));
    eventually("the next token", || agent.read_token(7) == "token-3");
    agent.services.with(|script| script.hold_first = false);
    agent.wait_until_idle();
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-3", 3), "the late one is not newer");
}

#[test]
fn a_late_refusal_does_not_end_what_another_request_has_renewed() {
    let agent = renewal_hangs();
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
    let agent = renewal_hangs();
    agent.services.with(|script| script.failure = Some(outage()));
    agent.move_clock(Duration::from_secs(10));
    eventually("the second request", || agent.services.with(|script| script.token_failures) == 1);
    agent.services.with(|script| script.failure = None);
    // The pause begins when the agent knows of the failure. In all this is much shorter than the deadline of the first request.
    let mut seconds = 0..9;
    eventually("the next token", || {
        let is_there = agent.read_token(7) == "token-4";
        if !is_there {
            seconds.by_ref().take(1).for_each(|_| agent.move_clock(Duration::from_secs(1)));
            std::thread::sleep(Duration::from_millis(200));
        }
        is_there
    });
    agent.services.with(|script| script.hold_first = false);
    agent.wait_until_idle();
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-4", 4));
}

#[test]
fn a_request_for_a_further_file_that_hangs_does_not_hold_up_its_renewal() {
    let agent = agent_with(&["ce"]);
    let read = || std::fs::read_to_string(agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid))).ok();
    let token = |text: &str| eventually(text, || read().as_deref() == Some(text));
    agent.start(7, "h1");
    token("ce-1");
    agent.services.with(|script| script.files.hold_first = true);
    agent.move_clock(RENEWAL);
    // The second request is sent, and answered, while the first one hangs.
    eventually("the first request", || agent.services.with(|script| script.files.holds_first()));
    agent.move_clock(Duration::from_secs(10));
    token("ce-2");
    agent.move_clock(RENEWAL);
    token("ce-3");
    agent.services.with(|script| script.files.hold_first = false);
    agent.wait_until_idle();
}

#[test]
fn a_request_for_a_further_file_that_fails_beside_one_that_hangs_is_repeated_at_once() {
    let agent = agent_with(&["ce"]);
    agent.start(7, "h1");
    agent.services.with(|script| script.files.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the first request", || agent.services.with(|script| script.files.holds_first()));
    agent.services.with(|script| script.files.failure = Some(("ce", outage())));
    agent.move_clock(Duration::from_secs(10));
    eventually("the second request", || agent.services.with(|script| script.files.answered()) == 2);
    agent.services.with(|script| script.files.failure = None);
    agent.move_clock(Duration::from_secs(3));
    eventually("the third request", || agent.services.with(|script| script.files.answered()) == 3);
    agent.services.with(|script| script.files.hold_first = false);
    agent.wait_until_idle();
}
