// SPDX-License-Identifier: MIT OR Apache-2.0
//! New credentials of jobs that wait, which the brokers keep.

use mytoken_wire::agent::{EventKind, HandOver, ReplacePending, Submitted};
use mytokend::agent::credential_service::{Admitted, CredentialService as _};

use crate::harness::{NOW, RENEWAL, TestAgent, me, step};
use crate::submission::{minutes, submitted};

fn pending() -> ReplacePending {
    ReplacePending { job: 7, handle: submitted().handle, sealed: "mt1.00000000.AAAA".into() }
}

#[test]
fn a_new_credential_is_followed_here_unless_a_broker_has_it() {
    for (outcome, revoked) in [(HandOver::Held, 0), (HandOver::Unknown, 1), (HandOver::Refused, 1)] {
        let agent = TestAgent::new();
        agent.squeue_prints(&[(7, "7", "PENDING", "")]);
        agent.services.with(|script| script.handed = Some(outcome));
        agent.ask(&Submitted { job: Some(7), ..submitted() }).unwrap();
        assert_eq!(agent.ask(&pending()).unwrap().outcome, outcome);
        minutes(&agent, 10);
        agent.squeue_prints(&[(7, "7", "CANCELLED", "")]);
        minutes(&agent, 60);
        assert_eq!(agent.revoked(), revoked, "{outcome:?}");
    }
}

#[test]
fn only_a_sealed_credential_with_a_handle_is_given_to_the_brokers() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.handed = Some(HandOver::Held));
    for wrong in
        [ReplacePending { handle: "../x".into(), ..pending() }, ReplacePending { sealed: "mt1.x".into(), ..pending() }]
    {
        assert!(agent.ask(&wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(agent.ask(&pending()).unwrap().outcome, HandOver::Held);
}

#[test]
fn a_task_that_runs_takes_over_what_a_broker_tells_of_a_newer_credential() {
    let agent = TestAgent::new();
    agent.start(7, "a");
    let until = agent.status(7).until;
    let own = agent.services.admit(&step(7), &format!("{}:a", me().uid)).unwrap();
    assert_eq!(until, Some(own.exp));
    // The same again is nothing new.
    agent.services.with(|script| script.learned = Some(own.clone()));
    agent.advance(RENEWAL);
    assert!(!agent.has_event(7, &EventKind::Replaced));
    let newer = Admitted { exp: NOW + 9 * 86_400, profile: "newer".into(), ..own };
    agent.services.with(|script| script.learned = Some(newer));
    agent.advance(RENEWAL);
    let status = agent.status(7);
    assert_eq!((status.until, status.profile.as_str()), (Some(NOW + 9 * 86_400), "newer"));
    assert!(agent.has_event(7, &EventKind::Replaced));
}
