// SPDX-License-Identifier: MIT OR Apache-2.0
//! A job starts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use mytoken_wire::agent::{EventKind, JobStart, JobState};
use mytokend::agent::authority::Failure;

use crate::play::{Stage, eventually, me, outage, step};
use crate::skipped::skip;

#[test]
fn the_first_step_gets_a_token_and_the_others_the_same_answer() {
    let stage = Stage::new(3600);
    let first = stage.start(7, "h1");
    assert_eq!((first.state, first.reason.as_deref()), (JobState::Ready, None));
    assert_eq!(first.path, stage.token(7).display().to_string());
    assert_eq!(fs::read_to_string(&first.path).unwrap(), "token-1");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&stage.token(7)), mode(stage.token(7).parent().unwrap())), (0o400, 0o711));
    assert_eq!(stage.start(7, "h1"), first);
    assert_eq!(stage.start_with(&step(7)), first, "a step without the credential is the known job's");
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
    assert_eq!(stage.words(7), ["opened", "started"]);
}

#[test]
fn a_hundred_steps_at_once_cause_one_exchange() {
    let stage = Stage::new(3600);
    stage.script.with(|script| script.delay = Duration::from_millis(200));
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert_eq!(stage.start(7, "h1").state, JobState::Ready));
        }
    });
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
}

#[test]
fn a_slow_server_does_not_hold_up_the_step() {
    let stage = Stage::new(3600);
    stage.script.with(|script| script.delay = Duration::from_millis(1500));
    let begin = Instant::now();
    let started = stage.start(7, "required");
    assert!(begin.elapsed() < Duration::from_millis(1200), "{:?}", begin.elapsed());
    assert_eq!((started.state, started.required), (JobState::Pending, true));
    assert_eq!(started.path, stage.token(7).display().to_string(), "the path is known already");
    eventually("the token", || stage.token(7).exists());
}

#[test]
fn an_outage_at_the_start_is_told_at_once_and_mended_later() {
    let stage = Stage::new(3600);
    stage.script.with(|script| script.failure = Some(outage()));
    let started = stage.start(7, "h1");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("provider is down"));
    stage.script.with(|script| script.failure = None);
    eventually("the token", || stage.token(7).exists());
    assert_eq!(stage.status(7).state, JobState::Ready);
}

#[test]
fn a_copied_credential_gives_nothing_and_says_why() {
    let stage = Stage::new(3600);
    let started = stage.start_with(&JobStart { sealed: Some("54321:h1".into()), ..step(8) });
    assert_eq!((started.state, started.required), (JobState::Failed, false));
    assert!(started.reason.unwrap().contains("made for user 54321"));
    assert_eq!(stage.script.with(|script| script.exchanges), 0);
    assert!(!stage.token(8).exists());
    assert_eq!(stage.words(8), ["refused"]);
}

#[test]
fn a_lost_credential_is_explained_and_a_later_step_may_bring_it() {
    let stage = Stage::new(3600);
    let started = stage.start_with(&JobStart { handle: Some("ab".into()), ..step(9) });
    assert_eq!(started.state, JobState::Failed);
    assert!(started.reason.unwrap().contains("--export-file"));
    assert_eq!(stage.start(9, "h1").state, JobState::Ready);
}

#[test]
fn a_refused_token_is_not_asked_for_again() {
    let stage = Stage::new(3600);
    let refusal = Failure { text: "the token was revoked".into(), temporary: false, retry_after: None };
    stage.script.with(|script| script.failure = Some(refusal));
    assert_eq!(stage.start(7, "h1").state, JobState::Failed);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
    assert_eq!(stage.start(7, "h1").reason.as_deref(), Some("the token was revoked"));
}

#[test]
fn another_user_with_the_same_job_id_is_another_job() {
    let stage = Stage::new(3600);
    stage.start(7, "h1");
    let started = stage.start_with(&JobStart { uid: 54_321, sealed: Some("1:h".into()), ..step(7) });
    assert_eq!(started.state, JobState::Failed);
    assert!(
        stage.status(7).events.iter().all(|event| event.kind == EventKind::Refused),
        "nothing of the other user's is shown"
    );
}

#[test]
fn the_file_belongs_to_the_jobs_user_and_its_directory_to_root() {
    if me().uid != 0 {
        return skip("only root can give files away").unwrap();
    }
    let stage = Stage::new(3600);
    let started = stage.start_with(&JobStart { uid: 62_001, gid: 62_002, sealed: Some("62001:h1".into()), ..step(7) });
    let file = fs::metadata(&started.path).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (62_001, 62_002, 0o400));
    let directory = fs::metadata(std::path::Path::new(&started.path).parent().unwrap()).unwrap();
    assert_eq!((directory.uid(), directory.mode() & 0o7777), (0, 0o711));
}
