// SPDX-License-Identifier: MIT OR Apache-2.0
//! Submissions that were made on the agent's host.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::Secret;
use mytoken_wire::JobName;
use mytoken_wire::agent::{HandOver, JobStart, JobState, Replace, StatusQuery, Submitted};

use mytokend::agent::budget::ledger::Purpose;
use mytokend::agent::credential_service::{Charge, RequestFailure};

use crate::harness::{NOW, TestAgent, eventually, me, step};

const HANDLE: &str = "0123456789abcdef0123456789abcdef";

pub fn submitted() -> Submitted {
    Submitted {
        handle: HANDLE.into(),
        server: "main".into(),
        sub_token: Secret::new(mytoken()),
        exp: NOW + 2 * 86_400,
        made: NOW,
        shared_for: 0,
        age: 0,
        command: None,
        profile: "data".into(),
        job: None,
        settled: false,
    }
}

/// A mytoken as far as its form says.
fn mytoken() -> String {
    named_mytoken("")
}

fn named_mytoken(name: &str) -> String {
    let claims =
        format!(r#"{{"ver":"0.7","token_type":"mytoken","iss":"https://mt.example","jti":"j","name":"{name}"}}"#);
    format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES512","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims))
}

/// What brokers answer when they are told that a submission is over.
pub fn forget((told, failures): &mut (Vec<String>, usize), uid: u32, handle: &str) -> Result<(), String> {
    if *failures > 0 {
        *failures -= 1;
        return Err("a broker is away".to_owned());
    }
    told.push(format!("{uid} {handle}"));
    Ok(())
}

pub fn minutes(agent: &TestAgent, count: u32) {
    (0..count).for_each(|_| agent.advance(Duration::from_secs(60)));
}

#[test]
fn a_job_that_is_never_submitted_is_revoked_after_some_minutes() {
    let mut agent = TestAgent::new();
    agent.squeue_prints(&[]);
    agent.ask(&submitted()).unwrap();
    minutes(&agent, 1);
    assert_eq!(agent.revoked(), 0, "sbatch may be about to submit it");
    // It is kept over a restart.
    agent.end();
    agent.begin();
    minutes(&agent, 6);
    assert_eq!(agent.revoked(), 1);
    let queries = agent.queries();
    minutes(&agent, 30);
    assert_eq!((agent.queries(), agent.revoked()), (queries, 1));
}

#[test]
fn a_job_that_is_cancelled_in_the_queue_is_revoked_and_one_that_ran_after_its_nodes_had_the_time() {
    for (end, soon, purpose) in [
        (&[(7, "7", "CANCELLED", "")], 1, Purpose::UnverifiedRevocation),
        // Perhaps its node lacks the key of the cluster, or has lost what it had to revoke.
        (&[(7, "7", "COMPLETED", "n5")], 0, Purpose::LastRevocation),
    ] {
        let mut agent = TestAgent::new();
        agent.squeue_prints(&[(7, "7", "PENDING", "")]);
        agent.ask(&submitted()).unwrap();
        minutes(&agent, 90);
        assert_eq!(agent.revoked(), 0);
        agent.squeue_prints(end);
        minutes(&agent, 15);
        assert_eq!(agent.revoked(), soon, "{end:?}");
        // It is kept over a restart, and slurmctld has forgotten the job.
        agent.end();
        agent.begin();
        agent.squeue_prints(&[]);
        minutes(&agent, 120);
        assert_eq!(agent.services.with(|script| script.revoked.clone()), [mytoken()], "{end:?}");
        let charges = agent.services.with(|script| script.charges.clone());
        assert_eq!(charges, [Charge { uid: me().uid, purpose, job: None }], "{end:?}");
    }
}

#[test]
fn an_agent_that_was_away_at_the_submission_finds_the_job_that_was_submitted_then() {
    for (state, revoked) in [("RUNNING", 0), ("CANCELLED", 1)] {
        let agent = TestAgent::new();
        // Submitted at the begin of the test.
        agent.squeue_prints(&[(7, "7", state, if revoked == 0 { "n5" } else { "" })]);
        minutes(&agent, 5);
        agent.ask(&Submitted { age: 300, ..submitted() }).unwrap();
        minutes(&agent, 30);
        assert_eq!(agent.revoked(), revoked, "{state}");
    }
}

#[test]
fn a_job_that_ran_is_left_to_the_brokers() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.handed = Some(HandOver::Held));
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n5")]);
    agent.ask(&submitted()).unwrap();
    minutes(&agent, 90);
    assert_eq!(agent.revoked(), 0);
}

#[test]
fn a_job_that_is_requeued_after_its_end_keeps_its_credential() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "RUNNING", "n5")]);
    agent.ask(&submitted()).unwrap();
    minutes(&agent, 30);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n5")]);
    minutes(&agent, 10);
    for (state, nodes) in [("PENDING", ""), ("RUNNING", "n6")] {
        agent.squeue_prints(&[(7, "7", state, nodes)]);
        minutes(&agent, 60);
        assert_eq!(agent.revoked(), 0, "{state}");
    }
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n6")]);
    minutes(&agent, 60);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_job_that_starts_on_the_same_host_takes_the_submission_over() {
    // Also if this host is one of its last nodes: no other one follows the submission.
    for (nodes, soon) in [("n1", 1), ("m[1-9],n1", 0)] {
        let agent = TestAgent::new();
        agent.squeue_prints(&[(7, "7", "RUNNING", nodes)]);
        agent.ask(&submitted()).unwrap();
        assert_eq!(agent.start(7, HANDLE).state, JobState::Ready);
        agent.squeue_prints(&[(7, "7", "COMPLETED", nodes)]);
        agent.finish(7);
        minutes(&agent, 15);
        assert_eq!(agent.revoked(), soon, "{nodes}");
        minutes(&agent, 45);
        assert_eq!(agent.services.with(|script| script.revoked.clone()), [format!("{}:{HANDLE}", me().uid)]);
    }
}

#[test]
fn a_credential_that_cannot_be_opened_on_the_host_of_its_submission_is_revoked_after_all_jobs() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "RUNNING", "n[1-2]")]);
    agent.ask(&submitted()).unwrap();
    let start = JobStart { sealed: Some("damaged".into()), handle: Some(HANDLE.into()), ..step(7) };
    assert_eq!(agent.start_with(&start).state, JobState::Failed);
    // Another node may have opened it.
    minutes(&agent, 60);
    assert_eq!(agent.revoked(), 0);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n[1-2]")]);
    minutes(&agent, 15);
    assert_eq!(agent.revoked(), 0, "that node comes first");
    minutes(&agent, 15);
    assert_eq!(agent.services.with(|script| script.revoked.clone()), [mytoken()]);
}

#[test]
fn what_a_user_says_about_a_submission_is_checked_and_limited() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[]);
    for wrong in [
        Submitted { handle: "../../etc".into(), ..submitted() },
        Submitted { server: "https://evil.example".into(), ..submitted() },
        Submitted { sub_token: Secret::new(""), ..submitted() },
        Submitted { sub_token: Secret::new("not.a.mytoken"), ..submitted() },
        Submitted { profile: "a\nb".into(), ..submitted() },
        Submitted { exp: NOW, ..submitted() },
        Submitted { shared_for: u64::MAX, ..submitted() },
        Submitted { age: u64::MAX, ..submitted() },
        Submitted { age: 60, exp: NOW + 60, ..submitted() },
    ] {
        assert!(agent.ask(&wrong).is_err(), "{wrong:?}");
    }
    let told = |number: u128, sub_token: String| {
        let sub_token = Secret::new(sub_token);
        agent.ask(&Submitted { handle: format!("{number:032x}"), sub_token, ..submitted() }).is_ok()
    };
    // A user has 4 MiB. The small ones take 2 KiB each, the large ones 10.
    assert!((0..300).all(|number| told(number, mytoken())));
    let large = named_mytoken(&"x".repeat(5_900));
    let accepted = (300..900).take_while(|number| told(*number, large.clone())).count();
    assert!((300..400).contains(&accepted), "{accepted}");
    assert!(agent.ask(&StatusQuery::default()).unwrap().jobs.is_empty(), "they are no jobs of this node");
}

#[test]
fn what_is_over_and_not_yet_revoked_leaves_room_for_what_waits() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n5")]);
    let no_permit = RequestFailure { unsent: true, ..RequestFailure::temporary("your share is used up") };
    agent.services.with(|script| script.revocation_failure = Some(no_permit));
    let mut number = 0_u128;
    let mut accepted = || {
        let next = |_: &u32| {
            number += 1;
            let sub_token = Secret::new(named_mytoken(&"x".repeat(5_900)));
            agent.ask(&Submitted { handle: format!("{number:032x}"), sub_token, ..submitted() }).is_ok()
        };
        let count = (0..450).filter(next).count();
        minutes(&agent, 10);
        count
    };
    let counts = [(); 3].map(|()| accepted());
    // Of 10 KiB each.
    assert!(counts[..2].iter().all(|count| (400..420).contains(count)), "{counts:?}");
    assert!(counts[2] <= 1, "in all, each user has a limit: {counts:?}");
}

#[test]
fn what_nobody_has_verified_is_revoked_from_the_users_share_and_never_lost() {
    let mut agent = TestAgent::new();
    agent.squeue_prints(&[]);
    let no_permit = RequestFailure {
        unsent: true,
        retry_after: Some(Duration::from_secs(200)),
        ..RequestFailure::temporary("your share is used up")
    };
    agent.services.with(|script| script.revocation_failure = Some(no_permit));
    for number in 0..128_u128 {
        agent.ask(&Submitted { handle: format!("{number:032x}"), ..submitted() }).unwrap();
    }
    minutes(&agent, 60);
    let all_his = |agent: &TestAgent| {
        let his = Charge { uid: me().uid, purpose: Purpose::UnverifiedRevocation, job: None };
        agent.services.with(|script| script.charges.iter().all(|charge| *charge == his) && !script.charges.is_empty())
    };
    assert!(all_his(&agent) && agent.revoked() == 0);
    agent.end();
    agent.begin();
    agent.services.with(|script| script.revocation_failure = None);
    minutes(&agent, 10);
    assert!(all_his(&agent));
    assert_eq!(agent.revoked(), 128);
}

#[test]
fn what_has_given_an_access_token_is_revoked_before_it() {
    let mut agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1")]);
    agent.start(7, HANDLE);
    agent.end();
    agent.begin();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    minutes(&agent, 1);
    let last = agent.services.with(|script| script.charges.pop());
    assert_eq!(last, Some(Charge { uid: me().uid, purpose: Purpose::Revocation, job: Some(7) }));
}

#[test]
fn one_answer_of_slurmctld_serves_all_submissions_of_a_user_that_wait() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    for number in 0..100_u128 {
        agent.ask(&Submitted { handle: format!("{number:032x}"), ..submitted() }).unwrap();
    }
    minutes(&agent, 60);
    let queries = agent.queries();
    assert!(queries <= 120, "{queries} questions in an hour");
    // That they are over is asked for anew.
    agent.squeue_prints(&[(7, "7", "CANCELLED", "")]);
    minutes(&agent, 10);
    assert_eq!(agent.revoked(), 100);
}

fn for_job(settled: bool) -> Submitted {
    Submitted { job: Some(7), settled, ..submitted() }
}

#[test]
fn a_replacing_credential_of_which_nobody_knows_whether_a_node_has_it_is_revoked_after_its_job() {
    let mut agent = TestAgent::new();
    // Job 9 was submitted when the credential was made, and has another one.
    agent.squeue_prints(&[(7, "7", "RUNNING", "n5"), (9, "9", "RUNNING", "n6")]);
    agent.ask(&for_job(false)).unwrap();
    minutes(&agent, 90);
    agent.end();
    agent.begin();
    minutes(&agent, 30);
    assert_eq!(agent.revoked(), 0);
    // It is requeued.
    agent.squeue_prints(&[(7, "7", "PENDING", ""), (9, "9", "RUNNING", "n6")]);
    minutes(&agent, 30);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n5"), (9, "9", "RUNNING", "n6")]);
    minutes(&agent, 30);
    assert_eq!(agent.services.with(|script| script.revoked.clone()), [mytoken()]);
    minutes(&agent, 60);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_replacing_credential_that_nodes_have_is_revoked_after_they_had_the_time() {
    let agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "RUNNING", "n5")]);
    agent.ask(&for_job(false)).unwrap();
    minutes(&agent, 5);
    agent.ask(&for_job(true)).unwrap();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n5")]);
    minutes(&agent, 15);
    assert_eq!(agent.revoked(), 0);
    minutes(&agent, 75);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn the_host_where_a_replacing_credential_is_made_may_be_a_node_of_the_job() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    let new = Replace { job: JobName::Job(7), sealed: format!("{}:{HANDLE}", me().uid) };
    agent.ask(&for_job(false)).unwrap();
    agent.ask(&new).unwrap();
    // The answer may have been lost.
    agent.ask(&new).unwrap();
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-2", 2));
    agent.ask(&for_job(true)).unwrap();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    minutes(&agent, 90);
    assert_eq!(agent.revoked(), 2, "the old one, which was not retired, and the new one");
}

/// Waits until the brokers were told that the submission is over.
fn until_forgotten(agent: &TestAgent) {
    let own = format!("{} {HANDLE}", me().uid);
    eventually("the brokers are told", || agent.services.with(|script| script.forgotten.0 == [own.clone()]));
}

#[test]
fn the_brokers_are_told_when_a_submission_of_this_host_is_over() {
    // It was never submitted; it was cancelled; it ran elsewhere.
    for end in [&[][..], &[(7, "7", "CANCELLED", "")], &[(7, "7", "COMPLETED", "n5")]] {
        let agent = TestAgent::new();
        agent.squeue_prints(&[(7, "7", "PENDING", "")]);
        agent.ask(&submitted()).unwrap();
        minutes(&agent, 30);
        assert!(agent.services.with(|script| script.forgotten.0.is_empty()), "its job waits");
        agent.squeue_prints(end);
        minutes(&agent, 60);
        until_forgotten(&agent);
        assert_eq!(agent.revoked(), 1, "{end:?}");
    }
}

#[test]
fn the_brokers_are_told_too_when_the_job_ran_on_the_host_of_its_submission() {
    let mut agent = TestAgent::new();
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1"), (8, "8", "RUNNING", "n1")]);
    agent.ask(&submitted()).unwrap();
    agent.start(7, HANDLE);
    agent.start(8, "submitted-elsewhere");
    // It is kept over a restart.
    agent.end();
    agent.begin();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1"), (8, "8", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.finish(8);
    minutes(&agent, 30);
    until_forgotten(&agent);
    assert_eq!(agent.revoked(), 2);
}

#[test]
fn a_broker_that_is_away_is_told_later() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.forgotten.1 = 2);
    agent.squeue_prints(&[]);
    agent.ask(&submitted()).unwrap();
    minutes(&agent, 10);
    eventually("a first attempt", || agent.services.with(|script| script.forgotten.1 < 2));
    // The pauses are 30 s and 60 s.
    eventually("the brokers are told", || {
        minutes(&agent, 1);
        agent.services.with(|script| script.forgotten.0.len() == 1)
    });
    minutes(&agent, 60);
    until_forgotten(&agent);
}
