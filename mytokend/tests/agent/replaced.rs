// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a credential that has replaced another one: its job is requeued, and brings the old one again.

use std::time::Duration;

use mytoken_wire::JobName;
use mytoken_wire::agent::{EventKind, JobEnd, JobState, OldCredential, Replace, Retire};
use mytokend::agent::credential_service::{Admitted, CredentialService as _};

use crate::files::agent_with;
use crate::harness::{NOW, SETTLE, TestAgent, eventually, me, revocation, step};

/// Longer than all pauses of an end.
const LATER: Duration = Duration::from_secs(3_600);

/// Job 7 has the credential `new` in place of `old`, and this node revokes `old`.
fn replaced(agent: &TestAgent, old: &str, new: &str) {
    agent.ask(&Replace { job: JobName::Job(7), sealed: text(new) }).unwrap();
    agent.ask(&Retire { job: JobName::Job(7), old: OldCredential::Revoke }).unwrap();
    assert_eq!(agent.services.with(|script| script.revoked.pop()), Some(text(old)));
}

fn text(handle: &str) -> String {
    format!("{}:{handle}", me().uid)
}

fn revoked(agent: &TestAgent) -> Vec<String> {
    agent.services.with(|script| script.revoked.clone())
}

fn requeue(agent: &TestAgent, nodes: &str) {
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.ask(&JobEnd { job: 7, nodes: Some(nodes.to_owned()), at: None }).unwrap();
    agent.advance(SETTLE);
    assert_eq!(agent.last_event(7), EventKind::Requeued);
}

#[test]
fn a_broker_is_asked_for_the_running_job_and_tells_what_its_new_credential_says() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    let own = agent.services.admit(&step(7), &text("new")).unwrap();
    let opened = Admitted { exp: NOW + 9 * 86_400, profile: "newer".into(), ..own };
    agent.services.with(|script| script.learned = Some(opened));
    agent.ask(&Replace { job: JobName::Job(7), sealed: text("new") }).unwrap();
    let asked = agent.services.with(|script| script.charges.last().map(|charge| charge.job));
    assert_eq!(asked, Some(Some(7)), "a broker gives tokens to jobs only");
    let status = agent.status(7);
    assert_eq!((status.until, status.profile.as_str()), (Some(NOW + 9 * 86_400), "newer"));
}

fn finish(agent: &TestAgent, nodes: &str) {
    agent.squeue_prints(&[(7, "7", "COMPLETED", nodes)]);
    agent.ask(&JobEnd { job: 7, nodes: Some(nodes.to_owned()), at: None }).unwrap();
}

#[test]
fn files_of_the_old_credential_are_removed_also_when_the_first_token_of_the_new_one_has_expired() {
    let agent = agent_with(&["ce"]);
    agent.start(7, "old");
    agent.wait_until_idle();
    let further = agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid));
    assert!(further.exists());
    agent.services.with(|script| {
        script.files.name(&[]);
        script.left = Some(-100);
    });
    agent.ask(&Replace { job: JobName::Job(7), sealed: text("new") }).unwrap();
    eventually("the removal", || !further.exists());
    assert_eq!(agent.read_token(7), "token-1", "it is still valid");
}

#[test]
fn a_requeued_job_begins_with_the_credential_that_replaced_its_own() {
    for restart in [false, true] {
        let mut agent = TestAgent::new();
        agent.start(7, "required-old");
        replaced(&agent, "required-old", "new");
        // A second replacement: the environment still has the first credential.
        agent.advance(Duration::from_secs(11));
        replaced(&agent, "new", "newest");
        requeue(&agent, "n1");
        if restart {
            agent.end();
            agent.begin();
        }
        let requests = agent.token_requests();
        let started = agent.start(7, "required-old");
        assert_eq!((started.state, started.required), (JobState::Ready, true));
        assert_eq!(agent.token_requests(), requests + usize::from(restart), "of the new one, which has a token");
        finish(&agent, "n1");
        agent.advance(LATER);
        assert_eq!(revoked(&agent), [text("newest")], "each once");
    }
}

#[test]
fn a_requeued_job_whose_own_credential_cannot_be_opened_any_more_has_the_new_one() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    replaced(&agent, "old", "new");
    requeue(&agent, "n1");
    let start = |handle: &str| mytoken_wire::agent::JobStart {
        sealed: Some("other:old".to_owned()),
        handle: Some(handle.to_owned()),
        ..crate::harness::step(7)
    };
    assert_eq!(agent.start_with(&start("another")).state, JobState::Failed);
    requeue_of_refused(&agent);
    assert_eq!(agent.start_with(&start("old")).state, JobState::Ready);
}

fn requeue_of_refused(agent: &TestAgent) {
    agent.finish(7);
    agent.advance(SETTLE);
}

#[test]
fn a_replaced_credential_that_was_not_retired_is_what_a_requeued_job_begins_with() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    agent.ask(&Replace { job: JobName::Job(7), sealed: text("new") }).unwrap();
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.finish(7);
    agent.advance(SETTLE);
    assert_eq!(revoked(&agent), [text("new")], "perhaps no other node has it");
    assert_eq!(agent.start(7, "old").state, JobState::Ready);
    finish(&agent, "n1");
    agent.advance(LATER);
    assert_eq!(revoked(&agent), [text("new"), text("old")]);
}

#[test]
fn the_nodes_that_had_the_new_credential_revoke_it_wherever_the_job_ran_last() {
    for (last, here) in [("m[1-9]", false), ("m[1-9],n1", true), ("n2,n1", true), ("n[2-9]", false)] {
        let agent = TestAgent::new();
        agent.start(7, "old");
        replaced(&agent, "old", "new");
        requeue(&agent, "n[1-2]");
        if here {
            assert_eq!(agent.start(7, "old").state, JobState::Ready);
            finish(&agent, last);
        } else {
            agent.squeue_prints(&[(7, "7", "COMPLETED", last)]);
        }
        agent.advance(Duration::from_secs(241));
        assert_eq!(revoked(&agent), [text("new")], "{last}: this node is the first that had it");
    }
}

#[test]
fn on_a_node_that_never_had_it_the_old_credential_is_refused() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.failure = Some(revocation()));
    let started = agent.start(7, "required-old");
    assert_eq!((started.state, started.required), (JobState::Failed, true));
}

#[test]
fn another_user_whose_job_has_the_same_number_and_handle_gets_nothing_of_it() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    replaced(&agent, "old", "new");
    requeue(&agent, "n1");
    let requests = agent.token_requests();
    // slurmctld has forgotten its jobs, and counts from 1 again.
    let stranger =
        mytoken_wire::agent::JobStart { uid: 54_321, sealed: Some("54321:old".to_owned()), ..crate::harness::step(7) };
    let started = agent.start_with(&stranger);
    assert!(started.path.ends_with("/7/bt_u54321"), "{started:?}");
    assert_eq!(agent.token_requests(), requests + 1, "with his own credential");
}

#[test]
fn a_job_gets_few_new_credentials_and_not_many_at_once() {
    let agent = TestAgent::new();
    agent.start(7, "h0");
    let replace = |number: usize| agent.ask(&Replace { job: JobName::Job(7), sealed: text(&format!("h{number}")) });
    replace(1).unwrap();
    // Each one is a lease, a file in /run and a request.
    let soon = replace(2).unwrap_err().to_string();
    assert!(soon.contains("wait 10 s"), "{soon}");
    let mut done = 1;
    let refused = loop {
        agent.advance(Duration::from_secs(11));
        match replace(done + 1) {
            Ok(_) if done < 100 => done += 1,
            Ok(_) => panic!("{done} new credentials"),
            Err(refused) => break refused.to_string(),
        }
    };
    assert!(refused.contains("has had 16 new credentials") && done == 16, "{done}: {refused}");
    assert_eq!(agent.token_requests(), 17, "a refusal costs no request");
    assert_eq!(agent.status(7).condition, Some(mytoken_wire::agent::Condition::Valid));
}
