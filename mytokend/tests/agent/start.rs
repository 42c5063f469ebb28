// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a job.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Barrier;
use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobStart, JobState, Started};

use crate::harness::{EXPIRY, TestAgent, eventually, me, outage, revocation, step};
use crate::skipped::skip;

#[test]
fn the_first_step_gets_a_token_and_later_steps_the_same_answer() {
    let agent = TestAgent::new();
    let first = agent.start(7, "h1");
    assert_eq!((first.state, first.reason.as_deref()), (JobState::Ready, None));
    assert_eq!(first.path, agent.token(7).display().to_string());
    assert_eq!(fs::read_to_string(&first.path).unwrap(), "token-1");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&agent.token(7)), mode(agent.token(7).parent().unwrap())), (0o400, 0o711));
    let later = Started { is_first: false, ..first };
    assert_eq!(agent.start(7, "h1"), later);
    assert_eq!(agent.start_with(&step(7)), later, "a step without the credential belongs to the known job");
    assert_eq!(agent.token_requests(), 1);
    assert_eq!(agent.events(7), [EventKind::Opened, EventKind::Started]);
}

#[test]
fn a_job_with_a_credential_has_a_directory_before_its_token_and_without_one() {
    let agent = TestAgent::new();
    let directory = |job| agent.token(job).parent().unwrap().to_owned();
    agent.services.with(|script| script.failure = Some(outage()));
    assert_eq!(agent.start(7, "h1").state, JobState::Pending);
    assert!(directory(7).is_dir());
    let stolen = JobStart { sealed: Some("0:h".into()), uid: 1, ..step(8) };
    assert_eq!(agent.start_with(&stolen).state, JobState::Failed);
    assert!(directory(8).is_dir());
    agent.start_with(&step(9));
    assert!(!directory(9).exists(), "this job has no credential");
    agent.finish(7);
    assert!(!directory(7).exists());
}

#[test]
fn a_start_is_judged_by_the_time_of_day() {
    for seconds in [-3_600, 400 * 86_400] {
        let agent = TestAgent::new();
        agent.set_clock_unseen(seconds);
        agent.start(7, "h1");
        assert_eq!(agent.status(7).events[0].time, agent.clock.now(), "{seconds}");
    }
}

#[test]
fn a_hundred_steps_at_once_cause_one_request() {
    const STEPS: usize = 100;
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_tokens = true);
    let barrier = Barrier::new(STEPS + 1);
    std::thread::scope(|scope| {
        for _ in 0..STEPS {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(agent.start(7, "h1").state, JobState::Ready);
            });
        }
        barrier.wait();
        eventually("a request", || agent.token_requests() > 0);
        // Real time, so that most steps arrive at the agent during the request.
        std::thread::sleep(Duration::from_millis(100));
        agent.services.with(|script| script.hold_tokens = false);
    });
    assert_eq!(agent.token_requests(), 1);
}

#[test]
fn a_slow_server_does_not_delay_the_step_beyond_its_deadline() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_tokens = true);
    std::thread::scope(|scope| {
        let step = scope.spawn(|| agent.start(7, "required"));
        eventually("the request", || agent.token_requests() == 1);
        agent.move_clock(Duration::from_millis(1_999));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!step.is_finished(), "it waits for the server");
        agent.move_clock(Duration::from_millis(1));
        let started = step.join().unwrap();
        assert_eq!((started.state, started.required), (JobState::Pending, true));
        assert_eq!(started.path, agent.token(7).display().to_string(), "the path is known already");
    });
    agent.services.with(|script| script.hold_tokens = false);
    eventually("the token", || agent.token(7).exists());
}

#[test]
fn an_outage_at_the_start_is_reported_at_once_and_the_token_comes_later() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.failure = Some(outage()));
    let started = agent.start(7, "h1");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("provider is down"));
    agent.services.with(|script| script.failure = None);
    agent.advance(Duration::from_secs(2));
    assert!(agent.token(7).exists());
    assert_eq!(agent.status(7).state, JobState::Ready);
}

#[test]
fn a_copied_credential_is_refused_with_its_reason() {
    let agent = TestAgent::new();
    let started = agent.start_with(&JobStart { sealed: Some("54321:h1".into()), ..step(8) });
    assert_eq!((started.state, started.required), (JobState::Failed, false));
    assert!(started.reason.unwrap().contains("made for user 54321"));
    assert_eq!(agent.token_requests(), 0);
    assert!(!agent.token(8).exists());
    assert_eq!(agent.events(8), [EventKind::Refused]);
}

#[test]
fn a_lost_credential_is_explained_and_a_later_step_may_bring_it() {
    let agent = TestAgent::new();
    let started = agent.start_with(&JobStart { handle: Some("ab".into()), ..step(9) });
    assert_eq!(started.state, JobState::Failed);
    assert!(started.reason.unwrap().contains("--export-file"));
    assert_eq!(agent.start(9, "h1").state, JobState::Ready);
}

#[test]
fn the_first_step_of_a_job_on_a_node_is_told_that_it_is_the_first() {
    let mut agent = TestAgent::new();
    agent.services.with(|script| script.failure = Some(revocation()));
    assert_eq!([7, 7, 8].map(|job| agent.start(job, "h1").is_first), [true, false, true]);
    let refused = || JobStart { sealed: Some("54321:h1".into()), ..step(9) };
    assert_eq!([(); 2].map(|()| agent.start_with(&refused()).is_first), [true, false]);
    agent.end();
    agent.begin();
    assert!(!agent.start(7, "h1").is_first, "an agent that starts again knows its jobs");
}

#[test]
fn after_a_refusal_there_is_no_further_request() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.failure = Some(revocation()));
    assert_eq!(agent.start(7, "h1").state, JobState::Failed);
    agent.advance(EXPIRY);
    assert_eq!(agent.token_requests(), 1);
    assert_eq!(agent.start(7, "h1").reason.as_deref(), Some("the token was revoked"));
}

#[test]
fn another_user_with_the_same_job_id_is_another_job() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let started = agent.start_with(&JobStart { uid: 54_321, sealed: Some("1:h".into()), ..step(7) });
    assert_eq!(started.state, JobState::Failed);
    assert!(
        agent.status(7).events.iter().all(|event| event.kind == EventKind::Refused),
        "events of the other user are not shown"
    );
}

#[test]
fn the_file_belongs_to_the_jobs_user_and_its_directory_to_root() {
    if me().uid != 0 {
        return skip("only root can change the owner of a file").unwrap();
    }
    let agent = TestAgent::new();
    let started = agent.start_with(&JobStart { uid: 62_001, gid: 62_002, sealed: Some("62001:h1".into()), ..step(7) });
    let file = fs::metadata(&started.path).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (62_001, 62_002, 0o400));
    let directory = fs::metadata(std::path::Path::new(&started.path).parent().unwrap()).unwrap();
    assert_eq!((directory.uid(), directory.mode() & 0o7777), (0, 0o711));
}
