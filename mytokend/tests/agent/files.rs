// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs with several token files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::Secret;
use mytoken_wire::agent::{Condition, EventKind, FileStatus, JobState, Renew, Replace, Started};
use mytoken_wire::{FileName, JobName};
use mytokend::agent::credential_service::{IssuedToken, RequestFailure};
use mytokend::agent::lease::AdmittedFile;

use crate::harness::{EXPIRY, LIFETIME, NOW, RENEWAL, SETTLE, TestAgent, eventually, me, outage, revocation};

/// What a fake service does for further files.
#[derive(Default)]
pub struct FileScript {
    /// Names of the files of new credentials. One whose name begins with `no` is not allowed.
    names: Vec<&'static str>,
    /// Every request for the token of this file fails with this; of each file if the name is empty.
    pub failure: Option<(&'static str, RequestFailure)>,
    /// What the main file fails with is not for these.
    apart: bool,
    /// Requests wait while this is set.
    pub held: bool,
    /// The next request waits while this is set, and no other one.
    pub hold_first: bool,
    is_first_held: bool,
    /// The next request panics.
    pub panics: bool,
    /// Of each request, the file.
    requests: Vec<String>,
}

impl FileScript {
    /// The names of the files of new credentials.
    pub fn name(&mut self, names: &[&'static str]) {
        self.names = names.to_vec();
    }

    pub fn admitted(&self) -> Vec<AdmittedFile> {
        let refused = |name: &str| name.starts_with("no").then(|| "the mytoken does not allow it".to_owned());
        let file = |name: &&str| AdmittedFile {
            name: FileName::parse(name).unwrap(),
            windows: Vec::new(),
            refused: refused(name),
        };
        self.names.iter().map(file).collect()
    }

    /// How many requests were answered.
    pub fn answered(&self) -> usize {
        self.requests.len()
    }

    /// Whether that one has come.
    pub const fn holds_first(&self) -> bool {
        self.is_first_held
    }

    /// Whether a request that comes now is the one that [`Self::hold_first`] means.
    pub fn is_first(&mut self) -> bool {
        let is_first = self.hold_first && !self.is_first_held;
        self.is_first_held |= is_first;
        is_first
    }

    /// The tokens are `NAME-1`, `NAME-2` and so on.
    pub fn token(&mut self, name: &FileName, failure: Option<RequestFailure>) -> Result<IssuedToken, RequestFailure> {
        self.requests.push(name.to_string());
        let number = self.requests.iter().filter(|own| *own == name.as_str()).count();
        let own =
            self.failure.clone().filter(|(file, _)| [name.as_str(), ""].contains(file)).map(|(_, failure)| failure);
        own.or(failure.filter(|_| !self.apart)).map_or(Ok(()), Err)?;
        Ok(IssuedToken {
            token: Secret::new(format!("{name}-{number}")),
            left: Duration::from_secs(LIFETIME),
            lifetime: LIFETIME,
        })
    }
}

const TWO: [&str; 2] = ["ce", "tape"];

pub fn agent_with(files: &[&'static str]) -> TestAgent {
    let agent = TestAgent::new();
    agent.services.with(|script| script.files.names = files.to_vec());
    agent
}

fn path(agent: &TestAgent, job: u32, name: &str) -> PathBuf {
    agent.token(job).with_file_name(format!("bt_u{}-{name}", me().uid))
}

fn read(agent: &TestAgent, job: u32, name: &str) -> Option<String> {
    fs::read_to_string(path(agent, job, name)).ok()
}

fn file(agent: &TestAgent, job: u32, name: &str) -> FileStatus {
    agent.status(job).files.into_iter().find(|file| file.name.as_str() == name).unwrap()
}

fn requests(agent: &TestAgent) -> Vec<String> {
    let mut requests = agent.services.with(|script| script.files.requests.clone());
    requests.sort();
    requests
}

#[test]
fn each_file_has_a_token_of_its_own_from_one_request_until_the_end() {
    let agent = agent_with(&TWO);
    let started = agent.start(7, "h1");
    let files: Vec<_> = started.files.iter().map(|file| (file.name.as_str(), file.reason.as_deref())).collect();
    assert_eq!((started.state, files), (JobState::Ready, vec![("ce", None), ("tape", None)]));
    assert_eq!(read(&agent, 7, "ce").as_deref(), Some("ce-1"));
    assert_eq!(fs::metadata(path(&agent, 7, "tape")).unwrap().permissions().mode() & 0o7777, 0o400);
    // Further steps and jobs of the submission cost nothing.
    assert_eq!(agent.start(7, "h1"), Started { is_first: false, ..started });
    agent.start(8, "h1");
    assert_eq!((read(&agent, 8, "tape").as_deref(), agent.token_requests()), (Some("tape-1"), 1));
    assert_eq!(requests(&agent), TWO);
    let status = file(&agent, 8, "ce");
    assert_eq!((status.condition, status.token_until), (Condition::Valid, Some(NOW + EXPIRY.as_secs())));
    assert_eq!(status.file, path(&agent, 8, "ce").display().to_string());
    agent.advance(RENEWAL);
    for job in [7, 8] {
        assert_eq!(read(&agent, job, "ce").as_deref(), Some("ce-2"));
        assert_eq!(read(&agent, job, "tape").as_deref(), Some("tape-2"));
    }
    agent.squeue_prints(&[]);
    agent.finish(7);
    assert!(!path(&agent, 7, "ce").exists() && path(&agent, 8, "ce").exists());
    agent.finish(8);
    assert!(!path(&agent, 8, "ce").parent().unwrap().exists());
    for _ in 0..8 {
        agent.advance(SETTLE * 8);
    }
    assert_eq!(
        (agent.revoked(), requests(&agent).len()),
        (1, 4),
        "one sub-token, one revocation, nothing after the end"
    );
}

#[test]
fn a_refused_file_costs_neither_the_main_file_nor_the_other_ones() {
    let agent = agent_with(&TWO);
    agent.services.with(|script| script.files.failure = Some(("ce", revocation())));
    let started = agent.start(7, "required");
    assert_eq!((started.state, started.required), (JobState::Ready, true));
    assert_eq!(started.files[0].reason.as_deref(), Some("the token was revoked"));
    assert_eq!(started.files[1].reason, None);
    assert_eq!(read(&agent, 7, "ce"), None);
    let status = file(&agent, 7, "ce");
    assert_eq!((status.condition, status.reason.as_deref()), (Condition::Refused, Some("the token was revoked")));
    let event = agent.status(7).events.into_iter().rfind(|event| event.text.contains("-ce: ")).unwrap();
    assert_eq!(event.kind, EventKind::File);
    assert!(event.text.ends_with("-ce: refused: the token was revoked"), "{event:?}");
    assert_eq!(
        (agent.status(7).condition, file(&agent, 7, "tape").condition),
        (Some(Condition::Valid), Condition::Valid)
    );
    agent.advance(RENEWAL);
    assert_eq!((agent.read_token(7).as_str(), read(&agent, 7, "tape").as_deref()), ("token-2", Some("tape-2")));
    assert_eq!(requests(&agent), ["ce", "tape", "tape"], "a refused file is not asked for again");
}

#[test]
fn a_refused_main_file_does_not_cost_the_other_ones() {
    let agent = agent_with(&TWO);
    agent.start(7, "h1");
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(RENEWAL);
    assert_eq!(agent.status(7).condition, Some(Condition::Refused));
    assert_eq!(file(&agent, 7, "ce").condition, Condition::Refused);
    let agent = agent_with(&TWO);
    agent.services.with(|script| (script.files.apart, script.failure) = (true, Some(revocation())));
    agent.start(7, "h1");
    // The step has its answer with that about the main file.
    agent.wait_until_idle();
    assert_eq!(read(&agent, 7, "ce").as_deref(), Some("ce-1"));
    agent.advance(RENEWAL);
    assert_eq!((agent.status(7).condition, read(&agent, 7, "ce").as_deref()), (Some(Condition::Refused), Some("ce-2")));
    assert_eq!(file(&agent, 7, "ce").condition, Condition::Valid);
    let agent = agent_with(&TWO);
    agent.start(7, "h1");
    agent.services.with(|script| script.files.failure = Some(("ce", outage())));
    agent.advance(RENEWAL);
    let status = file(&agent, 7, "ce");
    assert_eq!((status.condition, agent.status(7).condition), (Condition::Outage, Some(Condition::Valid)));
    assert!(status.reason.is_some_and(|reason| reason.contains("the old access token stays")));
    assert!(status.since.is_some());
    agent.advance(EXPIRY - RENEWAL);
    assert_eq!(
        (read(&agent, 7, "ce"), read(&agent, 7, "tape").as_deref()),
        (None, Some("tape-2")),
        "its expired token went"
    );
    agent.services.with(|script| script.files.failure = None);
    agent.advance(Duration::from_secs(300));
    assert!(read(&agent, 7, "ce").is_some());
}

#[test]
fn what_happens_to_other_files_does_not_hide_what_happened_to_the_main_file() {
    let agent = agent_with(&TWO);
    agent.services.with(|script| script.files.failure = Some(("", outage())));
    agent.start(7, "short");
    // Each failure is an event, and only the last ones are kept.
    let fail = || (0..60).for_each(|_| agent.advance(Duration::from_secs(10)));
    fail();
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(RENEWAL - Duration::from_secs(600));
    let status = agent.status(7);
    assert!(status.reason.as_ref().unwrap().starts_with("the credential itself has expired"), "{status:?}");
    fail();
    let status = agent.status(7);
    assert!(status.events.iter().all(|event| event.kind != EventKind::Refused), "{:?}", status.events);
    // Its last token is in the file: it has not expired yet.
    assert_eq!(status.condition, Some(Condition::Refused));
}

#[test]
fn a_file_that_the_sub_token_does_not_allow_costs_no_request() {
    let agent = agent_with(&["nothing", "tape"]);
    let started = agent.start(7, "h1");
    assert_eq!(started.files[0].reason.as_deref(), Some("the mytoken does not allow it"));
    assert_eq!(requests(&agent), ["tape"]);
    assert_eq!(file(&agent, 7, "nothing").condition, Condition::Refused);
    assert!(
        agent
            .status(7)
            .events
            .iter()
            .any(|event| event.text.ends_with("-nothing: refused: the mytoken does not allow it"))
    );
}

#[test]
fn a_missing_file_is_told_and_written_again() {
    let agent = agent_with(&TWO);
    agent.start(7, "h1");
    fs::remove_file(path(&agent, 7, "ce")).unwrap();
    assert_eq!(file(&agent, 7, "ce").condition, Condition::FileMissing);
    assert_eq!(agent.status(7).condition, Some(Condition::Valid));
    agent.ask(&Renew { job: None, all: false }).unwrap();
    assert!(read(&agent, 7, "ce").is_some());
    assert_eq!(file(&agent, 7, "ce").condition, Condition::Valid);
    agent.wait_until_idle();
    assert_eq!(read(&agent, 7, "tape").as_deref(), Some("tape-2"), "renew means all files");
}

#[test]
fn a_restart_keeps_the_files_and_asks_for_nothing() {
    let mut agent = agent_with(&TWO);
    agent.start(7, "h1");
    agent.end();
    let stored = agent.dir.path().join(format!("mytoken/state/submission-{}-h1.json", me().uid));
    let text = fs::read_to_string(&stored).unwrap();
    assert!(!text.contains("ce-1"), "the token is not in the state: {text}");
    agent.begin();
    agent.start(8, "h1");
    assert_eq!((read(&agent, 8, "ce").as_deref(), requests(&agent).len()), (Some("ce-1"), 2));
    agent.advance(RENEWAL);
    assert_eq!(read(&agent, 7, "ce").as_deref(), Some("ce-2"));
    // An agent of an earlier release stores the lease without its files.
    agent.end();
    let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&stored).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("files").is_some());
    fs::write(&stored, state.to_string()).unwrap();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!(read(&agent, 7, "tape").as_deref(), Some("tape-3"));
    assert_eq!(file(&agent, 8, "tape").condition, Condition::Valid);
}

#[test]
fn without_a_lease_each_file_stays_until_its_token_expires() {
    let mut agent = agent_with(&TWO);
    agent.start(7, "h1");
    agent.end();
    fs::remove_dir_all(agent.dir.path().join("mytoken/state")).unwrap();
    fs::remove_file(agent.token(7)).unwrap();
    let payload = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{}}}", NOW + 100));
    for name in TWO {
        fs::remove_file(path(&agent, 7, name)).unwrap();
        fs::write(path(&agent, 7, name), format!("eyJhbGciOiJFUzI1NiJ9.{payload}.c2ln")).unwrap();
        fs::set_permissions(path(&agent, 7, name), fs::Permissions::from_mode(0o400)).unwrap();
    }
    agent.begin();
    assert!(path(&agent, 7, "ce").exists(), "a named file alone keeps the directory");
    let until = file(&agent, 7, "ce").token_until.unwrap();
    agent.advance(Duration::from_secs(until - agent.clock.now()));
    eventually("the removal of the expired tokens", || !path(&agent, 7, "ce").exists());
}

#[test]
fn a_credential_without_the_files_removes_them() {
    let agent = agent_with(&TWO);
    agent.start(7, "h1");
    agent.services.with(|script| script.files.names = vec!["tape"]);
    let begun = fs::read_to_string(path(&agent, 7, "ce"));
    assert_eq!(begun.unwrap(), "ce-1");
    let request = Replace { job: JobName::Job(7), sealed: format!("{}:h2", me().uid) };
    agent.ask(&request).unwrap();
    agent.wait_until_idle();
    assert_eq!((read(&agent, 7, "ce"), read(&agent, 7, "tape").as_deref()), (None, Some("tape-2")));
}

#[test]
fn a_request_for_new_tokens_has_its_pause_also_while_the_main_files_one_hangs() {
    let agent = agent_with(&["ce"]);
    agent.start(7, "h1");
    agent.services.with(|script| script.hold_tokens = true);
    agent.move_clock(RENEWAL);
    // When its token is there: while the request has no answer, no other one is sent.
    eventually("the renewal of the other file", || read(&agent, 7, "ce").as_deref() == Some("ce-2"));
    let renew = || agent.ask(&Renew { job: Some(JobName::Job(7)), all: false });
    std::thread::scope(|scope| {
        scope.spawn(renew);
        eventually("the first one", || requests(&agent).len() == 3 && read(&agent, 7, "ce").as_deref() == Some("ce-3"));
        // Then the agent knows that it is written.
        eventually("the end of the write", || !agent.agent().works_on_files());
        fs::remove_file(path(&agent, 7, "ce")).unwrap();
        scope.spawn(renew);
        eventually("the second one, which writes the file", || read(&agent, 7, "ce").is_some());
        agent.services.with(|script| script.hold_tokens = false);
    });
    agent.wait_until_idle();
    assert_eq!(requests(&agent).len(), 3);
}

#[test]
fn further_files_whose_requests_hang_delay_no_main_file() {
    let agent = agent_with(&["ce", "disk", "tape"]);
    agent.start(7, "h1");
    agent.services.with(|script| script.files.held = true);
    // These are as many requests as a user has at the same time at a provider.
    for token in ["token-2", "token-3"] {
        agent.move_clock(RENEWAL);
        eventually("the next token of the main file", || agent.read_token(7) == token);
    }
    agent.services.with(|script| script.files.held = false);
    agent.wait_until_idle();
    // The first or the second request was answered first.
    let tape = read(&agent, 7, "tape");
    assert!(tape.as_ref().is_some_and(|token| ["tape-2", "tape-3"].contains(&token.as_str())), "{tape:?}");
}

/// Job 7 has one further file. The request for its next token hangs, and a second one is sent and answered.
fn with_a_request_that_hangs(answer: Option<RequestFailure>) -> TestAgent {
    let agent = agent_with(&["ce"]);
    agent.start(7, "h1");
    agent.services.with(|script| script.files.hold_first = true);
    agent.move_clock(RENEWAL);
    eventually("the first request", || agent.services.with(|script| script.files.is_first_held));
    agent.services.with(|script| script.files.failure = answer.map(|failure| ("ce", failure)));
    agent.move_clock(Duration::from_secs(10));
    eventually("the second request", || requests(&agent).len() == 2);
    agent
}

#[test]
fn while_one_request_for_a_file_may_be_answered_the_failure_of_another_says_nothing() {
    let agent = with_a_request_that_hangs(Some(outage()));
    agent.services.with(|script| (script.files.failure, script.files.hold_first) = (None, false));
    agent.wait_until_idle();
    assert_eq!(read(&agent, 7, "ce").as_deref(), Some("ce-3"));
    let told = agent.status(7).events.into_iter().find(|event| event.text.contains("tries again"));
    assert_eq!(told, None);
}

#[test]
fn a_late_refusal_does_not_end_a_file_that_another_request_has_renewed() {
    let agent = with_a_request_that_hangs(None);
    eventually("the next token", || read(&agent, 7, "ce").as_deref() == Some("ce-2"));
    agent.services.with(|script| {
        (script.files.failure, script.files.hold_first) = (Some(("ce", revocation())), false);
    });
    agent.wait_until_idle();
    assert_eq!(file(&agent, 7, "ce").condition, Condition::Valid);
}

#[test]
fn a_file_that_cannot_be_written_is_written_later_and_then_told_as_valid() {
    let agent = agent_with(&["ce"]);
    // A file in the place of the job's directory: the write fails as on a full file system.
    let directory = agent.token(7).parent().unwrap().to_owned();
    fs::write(&directory, "").unwrap();
    let started = agent.start(7, "h1");
    assert!(started.files[0].reason.as_ref().unwrap().contains("could not be written"), "{started:?}");
    fs::remove_file(&directory).unwrap();
    agent.advance(Duration::from_secs(6));
    let status = file(&agent, 7, "ce");
    assert_eq!((status.condition, status.reason), (Condition::Valid, None));
    assert_eq!((read(&agent, 7, "ce").as_deref(), requests(&agent).len()), (Some("ce-1"), 1));
}
