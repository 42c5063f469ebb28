// SPDX-License-Identifier: MIT OR Apache-2.0
//! Login sessions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::Secret;
use mytoken_login::Process;
use mytoken_wire::agent::{
    Condition, JobState, RenewalCredential, SessionEnd, SessionPlace, SessionStart, StatusQuery,
};
use mytokend::agent::file_queue::FilePlace;

use crate::hanging_files::Gate;
use crate::harness::{BEFORE_RENEWAL, EXPIRY, LIFETIME, NOW, RENEWAL, SWEEP, TestAgent, eventually, me, outage};
use crate::processes::FakeProcesses;
use crate::reload::configured;

pub const ID: &str = "0123456789abcdef0123456789abcdef";

/// The files that the PAM module makes, and a process in place of sshd's monitor.
pub struct TestSession {
    pub directory: PathBuf,
    processes: FakeProcesses,
    pub monitor: u32,
}

impl TestSession {
    pub fn new(agent: &TestAgent) -> Self {
        let uid = me().uid;
        let directory = agent.dir.path().join(format!("mytoken/sessions/{uid}/{ID}"));
        fs::create_dir_all(&directory).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&agent.dir.path().join("mytoken/sessions"), 0o711);
        mode(directory.parent().unwrap(), 0o700);
        mode(&directory, 0o700);
        for name in ["bt", "mt"] {
            fs::write(directory.join(format!("{name}_u{uid}")), "first").unwrap();
        }
        Self { directory, processes: agent.processes.clone(), monitor: agent.processes.start() }
    }

    /// A start with an access token that was issued just now.
    pub fn start(&self, mytoken: Option<&str>) -> SessionStart {
        SessionStart {
            session: ID.into(),
            uid: me().uid,
            gid: me().gid,
            pid: self.monitor,
            renewal: mytoken.map(|mytoken| RenewalCredential {
                server: "testbed".into(),
                mytoken: Secret::new(mytoken),
                scope: "a".into(),
                audience: "b".into(),
            }),
            exp: NOW + LIFETIME,
            lifetime: LIFETIME,
            told: false,
            revoke_at_end: false,
            linger: false,
            retain: false,
            place: SessionPlace::Run,
        }
    }

    fn token(&self) -> PathBuf {
        self.directory.join(format!("bt_u{}", me().uid))
    }

    fn read_token(&self) -> String {
        fs::read_to_string(self.token()).expect("there is a token file at every moment")
    }

    pub fn end_monitor(&self) {
        self.processes.end(self.monitor);
    }
}

/// Its directory.
pub fn place() -> FilePlace {
    FilePlace::Session { uid: me().uid, gid: me().gid, session: ID.into(), place: SessionPlace::Run }
}

pub fn send(agent: &TestAgent, start: &SessionStart) {
    agent.ask(start).unwrap();
}

fn until(agent: &TestAgent) -> Option<u64> {
    agent.ask(&StatusQuery::default()).unwrap().jobs[0].until
}

pub fn state_file(agent: &TestAgent) -> PathBuf {
    agent.dir.path().join(format!("mytoken/state/session-{ID}.json"))
}

#[test]
fn the_token_is_renewed_in_place_and_removed_with_the_session() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    agent.advance(RENEWAL);
    assert!(session.read_token().starts_with("token-"));
    assert_eq!(fs::metadata(session.token()).unwrap().permissions().mode() & 0o7777, 0o600);
    agent.ask(&SessionEnd { session: ID.into() }).unwrap();
    assert!(!session.directory.exists());
    assert!(!fs::read_to_string(state_file(&agent)).unwrap().contains("m.y.t"), "the mytoken is forgotten");
}

#[test]
fn a_token_whose_write_was_not_recorded_stays_after_a_restart() {
    for is_ended in [false, true] {
        let mut agent = TestAgent::new();
        let session = TestSession::new(&agent);
        send(&agent, &session.start(Some("m.y.t")));
        agent.services.with(|script| script.failure = Some(outage()));
        agent.end();
        let mut stored: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(state_file(&agent)).unwrap()).unwrap();
        stored.as_object_mut().unwrap().remove("held").unwrap();
        fs::write(state_file(&agent), stored.to_string()).unwrap();
        let written = Duration::from_secs(if is_ended { 0 } else { agent.clock.now() });
        let token = fs::File::options().read(true).open(session.token()).unwrap();
        token.set_modified(std::time::UNIX_EPOCH + written).unwrap();
        agent.begin();
        agent.wait_until_idle();
        assert_eq!(session.token().exists(), !is_ended);
    }
}

#[test]
fn the_token_of_a_session_whose_record_is_damaged_stays_until_it_expires() {
    let mut agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    agent.end();
    fs::write(state_file(&agent), "{").unwrap();
    let token = fs::File::options().read(true).open(session.token()).unwrap();
    token.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(agent.clock.now())).unwrap();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!((session.read_token().as_str(), agent.token_requests()), ("first", 0));
    // A token that does not say when it ends is removed after six hours.
    agent.advance(Duration::from_secs(6 * 3600 + 60));
    assert!(!session.token().exists() && session.directory.exists());
}

#[test]
fn a_session_that_ends_while_its_file_is_written_leaves_none_and_delays_no_job() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(place());
    agent.move_clock(RENEWAL);
    gate.wait_until_it_hangs();
    assert_eq!((session.read_token().as_str(), agent.token_requests()), ("first", 1));
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    let runs =
        || agent.ask(&StatusQuery::default()).unwrap().jobs.iter().any(|job| job.session.is_some() && job.running);
    assert!(runs());
    std::thread::scope(|scope| {
        scope.spawn(|| agent.ask(&SessionEnd { session: ID.into() }).unwrap());
        eventually("the end", || !runs());
        gate.release();
    });
    assert!(!session.directory.exists());
    agent.wait_until_idle();
    assert!(!session.directory.exists());
}

#[test]
fn a_token_that_ends_before_it_is_written_is_not_written_and_another_one_is_requested() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(place());
    agent.move_clock(RENEWAL);
    gate.wait_until_it_hangs();
    agent.services.with(|script| script.failure = Some(outage()));
    agent.move_clock(EXPIRY);
    eventually("a further request", || agent.token_requests() > 1);
    gate.release();
    agent.wait_until_idle();
    assert!(!session.token().exists(), "what was written late had expired");
    agent.services.with(|script| script.failure = None);
    agent.advance(RENEWAL);
    assert!(session.read_token().starts_with("token-"));
}

#[test]
fn the_files_of_a_session_whose_removal_hangs_are_removed_after_a_restart() {
    let mut agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(place());
    session.end_monitor();
    agent.move_clock(SWEEP);
    gate.wait_until_it_hangs();
    agent.end();
    assert!(session.token().exists());
    agent.begin();
    agent.wait_until_idle();
    assert!(!session.directory.exists());
    assert!(!fs::read_to_string(state_file(&agent)).unwrap().contains("removing"));
}

#[test]
fn the_files_of_a_session_that_could_not_be_removed_are_removed_later() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    let mode = |mode| fs::set_permissions(&session.directory, fs::Permissions::from_mode(mode)).unwrap();
    // The agent does not work in a directory with another mode than the PAM module gives it.
    mode(0o750);
    agent.ask(&SessionEnd { session: ID.into() }).unwrap();
    assert!(session.token().exists());
    mode(0o700);
    agent.advance(SWEEP);
    assert!(!session.directory.exists());
}

#[test]
fn what_a_user_has_put_into_his_sessions_directory_stays_and_no_token() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    fs::write(session.directory.join("notes"), "").unwrap();
    agent.ask(&SessionEnd { session: ID.into() }).unwrap();
    let left: Vec<PathBuf> = fs::read_dir(&session.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [session.directory.join("notes")]);
    assert!(!fs::read_to_string(state_file(&agent)).unwrap().contains("removing"), "there is nothing left to do");
}

#[test]
fn a_status_does_not_wait_for_a_session_whose_directory_hangs() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("mt")));
    agent.wait_until_idle();
    let mut short = configured(&agent.services);
    short.intervals.look_patience = Duration::from_millis(50);
    agent.agent().configure(short);
    let gate = Gate::of(&agent);
    gate.hold(place());
    fs::write(session.token(), "").unwrap();
    let condition = || agent.ask(&StatusQuery::default()).unwrap().jobs.remove(0).condition;
    assert_eq!(condition(), Some(Condition::Valid), "as the lease says");
    gate.wait_until_it_hangs();
    gate.release();
    eventually("a look at the file", || condition() == Some(Condition::FileMissing));
}

#[test]
fn the_condition_of_a_session_is_what_is_in_its_file() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("mt")));
    let condition = || agent.ask(&StatusQuery::default()).unwrap().jobs.remove(0).condition;
    assert_eq!(condition(), Some(Condition::Valid));
    for text in ["", "what a program of the user wrote"] {
        fs::write(session.token(), text).unwrap();
        assert_eq!(condition(), Some(Condition::FileMissing), "{text}");
    }
}

#[test]
fn a_session_ends_with_its_process_also_after_a_restart() {
    let mut agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(Some("m.y.t")));
    agent.end();
    assert_eq!(fs::metadata(state_file(&agent)).unwrap().permissions().mode() & 0o7777, 0o600);
    agent.begin();
    assert!(session.directory.exists());
    session.end_monitor();
    agent.move_clock(SWEEP);
    eventually("the removal", || !session.directory.exists());
}

#[test]
fn without_a_mytoken_the_files_are_removed_but_not_renewed() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &session.start(None));
    agent.advance(RENEWAL);
    assert_eq!(session.read_token(), "first");
    agent.advance(EXPIRY - RENEWAL);
    assert!(!session.token().exists(), "it has expired");
    assert_eq!(agent.token_requests(), 0);
    session.end_monitor();
    agent.move_clock(SWEEP);
    eventually("the removal", || !session.directory.exists());
}

/// A mytoken that ends at this Unix time.
fn mytoken_until(exp: u64) -> String {
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let claims = part(format!("{{\"iss\":\"https://mt\",\"exp\":{exp}}}"));
    format!("{}.{claims}.{}", part(r#"{"alg":"ES512","typ":"MT+JWT"}"#.into()), part("x".repeat(132)))
}

/// The access token is renewed when 25 to 40 percent of its lifetime are left: 900 to 1440 s of 3600 s.
#[test]
fn a_mytoken_is_kept_only_if_it_outlives_the_renewal() {
    for (before_the_end, renewed) in [(0, true), (890, true), (1_450, false), (3_000, false)] {
        let agent = TestAgent::new();
        let session = TestSession::new(&agent);
        let exp = NOW + LIFETIME;
        send(&agent, &session.start(Some(&mytoken_until(exp - before_the_end))));
        let expected = if renewed { exp - before_the_end } else { exp };
        assert_eq!(until(&agent), Some(expected), "{before_the_end}");
        let state = fs::read_to_string(state_file(&agent)).unwrap();
        assert_eq!(state.contains("will be renewed"), renewed, "{before_the_end}: {state}");
    }
}

#[test]
fn the_first_renewal_is_counted_from_the_login() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    // The access token is 1000 s old when the session begins.
    send(&agent, &SessionStart { exp: NOW + LIFETIME - 1_000, ..session.start(Some("m.y.t")) });
    agent.advance(BEFORE_RENEWAL - Duration::from_secs(1_000));
    assert_eq!((session.read_token().as_str(), agent.token_requests()), ("first", 0));
    agent.advance(RENEWAL - BEFORE_RENEWAL);
    assert_eq!((session.read_token().as_str(), agent.token_requests()), ("token-1", 1));
}

#[test]
fn a_mytoken_that_ends_before_the_renewal_is_not_used() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    let mytoken = mytoken_until(NOW + 300);
    let claims = mytoken.split('.').nth(1).unwrap().to_owned();
    send(&agent, &session.start(Some(&mytoken)));
    assert_eq!(until(&agent), Some(NOW + LIFETIME), "the session's credential lasts as long as its access token");
    let state = fs::read_to_string(state_file(&agent)).unwrap();
    assert!(state.contains("ends before its access token is due for renewal") && !state.contains(&claims), "{state}");
    agent.advance(RENEWAL);
    assert_eq!(session.read_token(), "first", "the access token of the login stays");
    assert_eq!(agent.token_requests(), 0);
    session.end_monitor();
    agent.move_clock(SWEEP);
    eventually("the removal", || !session.directory.exists());
}

#[test]
fn a_link_in_place_of_the_file_is_replaced_and_not_followed() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    let victim = agent.dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::remove_file(session.token()).unwrap();
    std::os::unix::fs::symlink(&victim, session.token()).unwrap();
    send(&agent, &session.start(Some("m.y.t")));
    agent.advance(RENEWAL);
    assert!(fs::symlink_metadata(session.token()).unwrap().is_file());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_session_id_that_is_a_path_is_refused() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    for id in ["../../etc/passwd0123456789abcdef0", "", "0123456789ABCDEF0123456789ABCDEF"] {
        let start = SessionStart { session: id.into(), ..session.start(None) };
        assert!(agent.ask(&start).is_err(), "{id}");
    }
}

/// Such a record stays if a login fails after its token was accepted, for example at another factor, and the account has no later login.
#[test]
fn the_records_of_logins_without_a_session_are_removed() {
    let agent = TestAgent::new();
    let directory = agent.dir.path().join("mytoken/handover/1001");
    fs::create_dir_all(&directory).unwrap();
    for directory in [directory.parent().unwrap(), &directory] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    // The name contains the time of the login and the process that may take the record.
    let Process { pid, start } = Process::own().unwrap();
    let [old, orphan, young] = [(1, start), (NOW, start + 1), (NOW, start)]
        .map(|(created, start)| directory.join(format!("{created}-{pid}.{start}-{}", "a".repeat(32))));
    for file in [&old, &orphan, &young] {
        fs::write(file, "").unwrap();
    }
    agent.advance(SWEEP);
    assert!(!old.exists() && !orphan.exists());
    assert!(young.exists(), "its session may be about to begin");
}
