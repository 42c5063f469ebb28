// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users and root ask for with `mytokenctl renew` and `mytokenctl revoke`.

use std::fs;
use std::time::Duration;

use mytoken_wire::JobName;
use mytoken_wire::agent::{
    Answer, Condition, EventKind, JobStart, JobState, OldCredential, Renew, Replace, Request, Retire, Revoke, Status,
};

use mytokend::agent::budget::ledger::Purpose;
use mytokend::agent::credential_service::RequestFailure;

use crate::harness::{
    BEFORE_RENEWAL, LIFETIME, NOW, RENEWAL, SETTLE, TestAgent, eventually, me, outage, revocation, step,
};

/// Another user.
const STRANGER: u32 = 4_242;

const RENEW: Renew = Renew { job: Some(JobName::Job(7)), all: false };
const REVOKE: Revoke = Revoke { job: JobName::Job(7) };

fn conditions(status: &Status) -> Vec<Condition> {
    status.jobs.iter().filter_map(|job| job.condition.clone()).collect()
}

#[test]
fn a_token_is_renewed_on_request_and_a_lost_file_is_written() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.start(8, "h2");
    // A token that expires in the same second is as good.
    agent.move_clock(Duration::from_secs(1));
    let answer = agent.ask(&RENEW).unwrap();
    assert_eq!((conditions(&answer), agent.read_token(7).as_str()), (vec![Condition::Valid], "token-3"));
    // Too soon for another request, but the file is written.
    fs::remove_file(agent.token(7)).unwrap();
    assert_eq!(conditions(&agent.ask(&RENEW).unwrap()), [Condition::Valid]);
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-3", 3));
    agent.move_clock(Duration::from_secs(11));
    let all = agent.ask(&Renew { job: None, all: false }).unwrap();
    assert_eq!((conditions(&all).len(), agent.token_requests()), (2, 5));
    // The pause is elapsed time.
    agent.set_clock(-3_600);
    // All tokens are renewed soon after a jump.
    agent.advance(Duration::from_secs(300));
    let before = agent.token_requests();
    agent.ask(&RENEW).unwrap();
    assert_eq!(agent.token_requests(), before + 1);
}

#[test]
fn a_token_that_comes_again_is_no_renewal() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.advance(Duration::from_secs(60));
    let brings_the_first_one =
        |left: i64| agent.services.with(|script| (script.token_requests, script.left) = (0, Some(left)));
    let lifetime = i64::try_from(LIFETIME).unwrap();
    // A broker gives the token that it has while half of its life is left.
    brings_the_first_one(lifetime - 60);
    assert_eq!(conditions(&agent.ask(&RENEW).unwrap()), [Condition::Valid]);
    assert_eq!(agent.events(7), [EventKind::Opened, EventKind::Started, EventKind::Unchanged]);
    let told = agent.status(7).events.pop().unwrap().text;
    assert!(told.starts_with("the same access token as before in "), "{told}");
    assert_eq!((agent.read_token(7).as_str(), agent.status(7).token_until), ("token-1", Some(NOW + LIFETIME)));
    // Its life was prolonged.
    agent.advance(Duration::from_secs(11));
    brings_the_first_one(lifetime);
    agent.ask(&RENEW).unwrap();
    assert_eq!((agent.last_event(7), agent.read_token(7).as_str()), (EventKind::Renewed, "token-1"));
    agent.advance(Duration::from_secs(11));
    agent.ask(&RENEW).unwrap();
    assert_eq!((agent.last_event(7), agent.read_token(7).as_str()), (EventKind::Renewed, "token-2"));
}

#[test]
fn a_new_token_on_request_is_of_the_users_share_and_leaves_the_planned_renewal() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.advance(Duration::from_secs(60));
    agent.services.with(|script| {
        script.failure = Some(RequestFailure { unsent: true, ..RequestFailure::temporary("your share is used up") });
    });
    assert_eq!(conditions(&agent.ask(&RENEW).unwrap()), [Condition::Valid]);
    assert_eq!(agent.last_event(7), EventKind::Retry);
    agent.services.with(|script| script.failure = None);
    // The token is renewed when it would have been renewed, and not before.
    agent.advance(BEFORE_RENEWAL - Duration::from_secs(60));
    assert_eq!(agent.token_requests(), 2);
    agent.advance(RENEWAL - BEFORE_RENEWAL);
    assert_eq!(purposes(&agent), [Purpose::FirstToken, Purpose::Asked, Purpose::Token]);
    assert_eq!(agent.status(7).condition, Some(Condition::Valid));
}

fn file_requests(agent: &TestAgent) -> usize {
    agent.services.with(|script| script.files.answered())
}

fn purposes(agent: &TestAgent) -> Vec<Purpose> {
    agent.services.with(|script| script.charges.iter().map(|of| of.purpose).collect())
}

#[test]
fn a_renewal_under_way_is_not_the_users_wish() {
    let agent = TestAgent::new();
    // For this file there is something to ask for while the request for the main file is under way.
    agent.services.with(|script| script.files.name(&["ce"]));
    agent.start(7, "h1");
    agent.services.with(|script| script.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the planned renewal", || agent.token_requests() == 2);
    // When its token is there: while the request has no answer, no other one is sent.
    let ce = agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid));
    eventually("that of the other file", || fs::read_to_string(&ce).is_ok_and(|token| token == "ce-2"));
    std::thread::scope(|scope| {
        scope.spawn(|| agent.ask(&RENEW));
        eventually("the asked one of the other file", || file_requests(&agent) == 3);
        // A second request is sent for the renewal that hangs.
        agent.move_clock(Duration::from_secs(10));
        eventually("the second request", || agent.token_requests() == 3);
        agent.services.with(|script| script.hold_first = false);
    });
    agent.wait_until_idle();
    // Which of the two files had the first token is left open.
    assert_eq!(purposes(&agent)[1..], [Purpose::Token, Purpose::Token]);
}

#[test]
fn the_next_renewal_after_an_internal_error_is_not_the_users_wish() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.panics = 1);
    agent.move_clock(Duration::from_secs(1));
    agent.ask(&RENEW).unwrap();
    agent.advance(RENEWAL);
    assert_eq!(purposes(&agent)[..3], [Purpose::FirstToken, Purpose::Asked, Purpose::Token]);
}

#[test]
fn the_next_renewal_of_a_further_file_after_an_internal_error_is_not_the_users_wish() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.files.name(&["ce"]));
    agent.start(7, "h1");
    agent.services.with(|script| script.files.panics = true);
    agent.move_clock(Duration::from_secs(1));
    agent.ask(&RENEW).unwrap();
    agent.wait_until_idle();
    let unsent = RequestFailure { unsent: true, ..RequestFailure::temporary("your share is used up") };
    agent.services.with(|script| script.failure = Some(unsent));
    agent.advance(RENEWAL);
    let events = agent.status(7).events;
    assert!(events.iter().any(|event| event.text.contains("ce: your share is used up")), "{events:?}");
    assert!(!events.iter().any(|event| event.text.contains("not renewed on request")), "{events:?}");
}

#[test]
fn a_refused_credential_is_tried_again_on_request() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.start(7, "h1");
    assert_eq!(agent.status(7).condition, Some(Condition::Refused));
    agent.services.with(|script| script.failure = None);
    assert_eq!(conditions(&agent.ask(&RENEW).unwrap()), [Condition::Valid]);
    agent.start_with(&step(20));
    let without = agent.ask(&Renew { job: Some(JobName::Job(20)), all: false }).unwrap_err().to_string();
    assert!(without.starts_with("nothing can be renewed: "), "{without}");
}

#[test]
fn a_revoked_job_loses_its_file_and_its_sub_token_once() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.start(8, "h1");
    let answer = agent.ask(&REVOKE).unwrap();
    assert_eq!(conditions(&answer), [Condition::Revoked, Condition::Revoked], "both have this credential");
    assert!(!agent.token(7).exists() && !agent.token(8).exists());
    assert!(agent.token(7).parent().unwrap().exists(), "the job still runs");
    assert_eq!((agent.revoked(), agent.last_event(7)), (1, EventKind::Revoked));
    let step = agent.start(7, "h1");
    assert_eq!((step.state, step.reason.unwrap()), (JobState::Failed, "the credential was revoked on request".into()));
    assert_eq!(
        agent.ask(&RENEW).unwrap_err().to_string(),
        "nothing can be renewed: the credential was revoked on request"
    );
    assert_eq!(conditions(&agent.ask(&REVOKE).unwrap()), [Condition::Revoked, Condition::Revoked]);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.finish(8);
    agent.advance(SETTLE * 10);
    assert_eq!((agent.revoked(), agent.token_requests()), (1, 1));
}

#[test]
fn a_revocation_in_an_outage_is_tried_until_it_is_done() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.revocation_failure = Some(outage()));
    assert_eq!(conditions(&agent.ask(&REVOKE).unwrap()), [Condition::Revoking]);
    assert!(!agent.token(7).exists());
    // A further job of the submission neither gets a token nor stops the revocation.
    assert_eq!(agent.start(8, "h1").state, JobState::Failed);
    agent.end();
    agent.begin();
    agent.services.with(|script| script.revocation_failure = None);
    agent.move_clock(Duration::from_secs(60));
    eventually("the revocation", || agent.revoked() == 1);
    agent.wait_until_idle();
    assert_eq!((agent.status(7).condition, agent.token_requests()), (Some(Condition::Revoked), 1));
}

#[test]
fn users_act_on_their_own_jobs_and_root_on_all() {
    let agent = TestAgent::new();
    agent.start_with(&JobStart { name: "6_1".parse().ok(), sealed: Some(format!("{}:h1", me().uid)), ..step(7) });
    let told = |request: Request, trusted: bool| match agent.answer(request, STRANGER, trusted) {
        Answer::Error(reason) => reason,
        Answer::Status(status) => format!("{:?}", conditions(&status)),
        other => panic!("{other:?}"),
    };
    for request in [
        Request::Renew(RENEW),
        Request::Revoke(REVOKE),
        Request::Renew(Renew::default()),
        // Everybody can seal a credential of his own for another user.
        Request::Replace(REPLACE("forged")),
    ] {
        assert!(told(request, false).starts_with("no job "), "of another user");
    }
    assert!(told(Request::Renew(Renew { job: None, all: true }), false).starts_with("only root"));
    assert!(told(Request::Renew(Renew::default()), true).starts_with("no job "), "root has none");
    assert_eq!((agent.token_requests(), agent.revoked()), (1, 0));
    assert_eq!(told(Request::Renew(Renew { job: None, all: true }), true), "[Valid]");
    let task = Revoke { job: "6_1".parse().unwrap() };
    assert_eq!(told(Request::Revoke(task), true), "[Revoked]");
    assert_eq!((agent.token_requests(), agent.revoked()), (2, 1));
}

const REPLACE: fn(&str) -> Replace =
    |handle| Replace { job: JobName::Job(7), sealed: format!("{}:{handle}", me().uid) };

fn retire(old: OldCredential) -> Retire {
    Retire { job: JobName::Job(7), old }
}

#[test]
fn a_replaced_credential_is_revoked_once_after_the_new_one_gave_a_token() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    // The new access token ends in the same second as the old one.
    let answer = agent.ask(&REPLACE("new")).unwrap();
    assert_eq!(
        (conditions(&answer), agent.read_token(7).as_str(), agent.revoked()),
        (vec![Condition::Valid], "token-2", 0)
    );
    assert!(agent.has_event(7, &EventKind::Replaced));
    let foreign = agent.answer(Request::Retire(retire(OldCredential::Leave)), STRANGER, false);
    assert!(matches!(foreign, Answer::Error(reason) if reason.starts_with("no credential of job 7 was replaced")));
    agent.ask(&retire(OldCredential::Revoke)).unwrap();
    let revoked = || agent.services.with(|script| script.revoked.clone());
    let text = |handle: &str| format!("{}:{handle}", me().uid);
    assert_eq!(revoked(), [text("old")]);
    // A further step of the job brings the old credential.
    assert_eq!((agent.start(7, "old").state, agent.token_requests()), (JobState::Ready, 2));
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    agent.advance(SETTLE * 10);
    assert_eq!(revoked(), [text("old"), text("new")]);
}

#[test]
fn a_replacement_that_gives_no_token_leaves_the_old_one() {
    let agent = TestAgent::new();
    agent.start(7, "old");
    agent.services.with(|script| script.failure = Some(outage()));
    let refused = agent.ask(&REPLACE("new")).unwrap_err().to_string();
    assert!(refused.contains("gives no access token, and the old one stays"), "{refused}");
    // Each attempt costs a request, and everybody can make a credential that the server refuses.
    let again = agent.ask(&REPLACE("forged")).unwrap_err().to_string();
    assert!(again.contains("wait 10 s"), "{again}");
    assert_eq!(agent.token_requests(), 2);
    let foreign = Replace { sealed: format!("{STRANGER}:new"), ..REPLACE("") };
    assert!(agent.ask(&foreign).unwrap_err().to_string().contains("made for user 4242"));
    assert!(agent.ask(&retire(OldCredential::Revoke)).unwrap_err().to_string().contains("was replaced"));
    agent.services.with(|script| script.failure = None);
    agent.advance(RENEWAL);
    assert_eq!((agent.status(7).condition, agent.revoked()), (Some(Condition::Valid), 0));
}

#[test]
fn a_credential_that_other_jobs_need_stays_until_the_submission_ends() {
    let mut agent = TestAgent::new();
    agent.start(7, "old");
    agent.start(8, "old");
    agent.move_clock(Duration::from_secs(1));
    agent.ask(&REPLACE("new")).unwrap();
    // The agent ends before the second request, which is why the new credential ends with its jobs here.
    agent.end();
    agent.begin();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1"), (8, "8", "RUNNING", "n1")]);
    agent.finish(7);
    agent.advance(SETTLE * 2);
    assert_eq!(agent.services.with(|script| script.revoked.clone()), [format!("{}:new", me().uid)]);
    assert_eq!(agent.status(8).condition, Some(Condition::Valid));
    let (request, stranger) = (Request::Replace(REPLACE("x")), Request::Retire(retire(OldCredential::Leave)));
    for request in [request, stranger] {
        assert!(matches!(agent.answer(request, STRANGER, false), Answer::Error(_)));
    }
}

#[test]
fn a_credential_that_submissions_share_stays_for_the_other_ones() {
    let agent = TestAgent::new();
    agent.start(7, "shared");
    // Job 8 is of another submission of the same loop, on another node.
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1"), (8, "8", "RUNNING", "n2")]);
    agent.advance(Duration::from_secs(300));
    agent.ask(&REPLACE("new")).unwrap();
    let kept = agent.ask(&retire(OldCredential::Revoke)).unwrap_err().to_string();
    assert!(kept.contains("other jobs"), "{kept}");
    agent.advance(SETTLE * 10);
    assert_eq!(agent.revoked(), 0);
    // Both end, and so do both credentials.
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1"), (8, "8", "COMPLETED", "n2")]);
    agent.finish(7);
    agent.advance(Duration::from_secs(3 * 3_600));
    assert_eq!(agent.revoked(), 2);
}

#[test]
fn the_task_with_the_number_of_its_array_gets_a_new_credential() {
    let agent = TestAgent::new();
    let task = |job, task| JobStart {
        name: Some(JobName::Task { array: 7, task }),
        array_job: Some(7),
        sealed: Some(format!("{}:old", me().uid)),
        ..step(job)
    };
    agent.start_with(&task(8, 1));
    agent.start_with(&task(7, 2));
    agent.ask(&REPLACE("new")).unwrap();
    assert!(agent.has_event(7, &EventKind::Replaced));
}
