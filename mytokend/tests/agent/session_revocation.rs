// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the end of a session leaves: revocations of mytokens, also of logins without a session, and files that are retained.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_login::handover::{Handover, Record};
use mytoken_login::{Accepted, Identity, LocalAccount, Process, SessionCredential};
use mytoken_wire::agent::{EventKind, RenewalCredential, SessionEnd, SessionStart, StatusQuery};
use mytoken_wire::clock::FixedClock;
use mytokend::agent::budget::ledger::Purpose;

use crate::hanging_files::Gate;
use crate::harness::{EXPIRY, LIFETIME, NOW, RENEWAL, SETTLE, SWEEP, TestAgent, eventually, me, outage, revocation};
use crate::session::{ID, TestSession, place, send, state_file};

const OTHER: &str = "fedcba9876543210fedcba9876543210";

fn revoked_at_end(session: &TestSession) -> SessionStart {
    SessionStart { revoke_at_end: true, ..session.start(Some("m.y.t")) }
}

/// Returns whether the session's files stay.
fn end(agent: &TestAgent, session: &str) -> Option<bool> {
    agent.ask(&SessionEnd { session: session.into() }).unwrap().lasts
}

fn revoked(agent: &TestAgent) -> Vec<String> {
    agent.services.with(|script| script.revoked.clone())
}

fn last_event(agent: &TestAgent) -> (EventKind, String) {
    let status = agent.ask(&StatusQuery::default()).unwrap();
    let event = status.jobs[0].events.last().unwrap();
    (event.kind.clone(), event.text.clone())
}

#[test]
fn the_module_hears_what_the_agent_will_do_with_a_session() {
    for (revoke_at_end, linger, retain) in [(true, true, false), (false, false, true), (false, false, false)] {
        let agent = TestAgent::new();
        let session = TestSession::new(&agent);
        let start = SessionStart { revoke_at_end, linger, retain, ..revoked_at_end(&session) };
        let started = agent.ask(&start).unwrap();
        assert_eq!((started.revoke_at_end, started.linger, started.retain), (revoke_at_end, linger, retain));
        assert_eq!(started.place, start.place);
    }
}

#[test]
fn the_mytoken_is_revoked_at_the_end_only_if_the_module_asked_for_it() {
    for revoke_at_end in [true, false] {
        let agent = TestAgent::new();
        let session = TestSession::new(&agent);
        send(&agent, &SessionStart { revoke_at_end, ..revoked_at_end(&session) });
        end(&agent, ID);
        assert!(!session.directory.exists());
        assert!(revoked(&agent).is_empty(), "the files come first");
        agent.advance(SETTLE);
        assert_eq!(revoked(&agent), if revoke_at_end { vec!["m.y.t"] } else { vec![] });
        assert!(!fs::read_to_string(state_file(&agent)).unwrap().contains("m.y.t"), "it is not kept after that");
        if revoke_at_end {
            assert_eq!(last_event(&agent), (EventKind::Revoked, "the mytoken was revoked".into()));
            assert_eq!(agent.services.with(|script| script.charges[0].purpose), Purpose::Revocation);
        }
    }
}

#[test]
fn a_revocation_that_failed_is_repeated_after_a_restart() {
    let mut agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &revoked_at_end(&session));
    agent.services.with(|script| script.revocation_failure = Some(outage()));
    session.end_monitor();
    agent.advance(SWEEP);
    agent.advance(SETTLE);
    assert!(revoked(&agent).is_empty() && !session.directory.exists());
    let (kind, text) = last_event(&agent);
    assert!(kind == EventKind::Retry && text.contains("the mytoken was not revoked"), "{text}");
    agent.end();
    assert!(fs::read_to_string(state_file(&agent)).unwrap().contains("m.y.t"));
    agent.services.with(|script| script.revocation_failure = None);
    agent.begin();
    agent.advance(Duration::from_secs(60));
    assert_eq!(revoked(&agent), ["m.y.t"]);
}

#[test]
fn the_revocation_of_a_mytoken_that_does_not_say_when_it_ends_is_given_up_after_a_day() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &revoked_at_end(&session));
    agent.services.with(|script| script.revocation_failure = Some(outage()));
    end(&agent, ID);
    for _ in 0..23 {
        agent.advance(Duration::from_secs(3_600));
    }
    assert_eq!(last_event(&agent).0, EventKind::Retry);
    for _ in 0..3 {
        agent.advance(Duration::from_secs(3_600));
    }
    assert_eq!(last_event(&agent).0, EventKind::Kept);
    assert!(!fs::read_to_string(state_file(&agent)).unwrap().contains("m.y.t"));
}

#[test]
fn a_mytoken_that_is_not_renewed_any_more_is_revoked_too() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &revoked_at_end(&session));
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(RENEWAL);
    assert_eq!(last_event(&agent).0, EventKind::Refused);
    end(&agent, ID);
    agent.advance(SETTLE);
    assert_eq!(revoked(&agent), ["m.y.t"]);
}

#[test]
fn of_two_sessions_with_one_mytoken_the_last_one_revokes_it() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &revoked_at_end(&session));
    send(&agent, &SessionStart { session: OTHER.into(), ..revoked_at_end(&session) });
    end(&agent, ID);
    agent.advance(SETTLE);
    assert!(revoked(&agent).is_empty());
    end(&agent, OTHER);
    agent.advance(SETTLE);
    assert_eq!(revoked(&agent), ["m.y.t"]);
}

#[test]
fn files_that_cannot_be_removed_delay_a_revocation_by_a_minute_only() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &revoked_at_end(&session));
    agent.wait_until_idle();
    let gate = Gate::of(&agent);
    gate.hold(place());
    end(&agent, ID);
    gate.wait_until_it_hangs();
    let mut seconds = 0;
    eventually("the revocation", || {
        agent.move_clock(Duration::from_secs(1));
        seconds += 1;
        !revoked(&agent).is_empty()
    });
    assert!(seconds > 30, "after {seconds} s");
    gate.release();
}

/// A login that was accepted with a mytoken. `process` may open its session.
fn login(for_session: bool, process: Process) -> Record {
    let accepted = Accepted {
        account: LocalAccount { name: "alice".into(), uid: me().uid, gid: me().gid, system: false },
        identity: Some(Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        }),
        rule: "hpc".into(),
        credential: Some(SessionCredential {
            access_token: Secret::new("the.access.token"),
            exp: NOW + LIFETIME,
            good_until: NOW + LIFETIME,
            lifetime: LIFETIME,
            renewal: Some(RenewalCredential {
                server: "testbed".into(),
                mytoken: Secret::new("m.y.t"),
                scope: String::new(),
                audience: String::new(),
            }),
            delegated: true,
            for_session,
        }),
    };
    Record::new(&accepted, "sshd", vec![process], &FixedClock(NOW)).unwrap()
}

struct Records {
    handover: Handover,
    directory: PathBuf,
}

impl Records {
    fn new(agent: &TestAgent) -> Self {
        let directory = agent.dir.path().join("mytoken/handover");
        Self { handover: Handover::new(&directory, Owner::current()), directory }
    }

    fn count(&self) -> usize {
        fs::read_dir(self.directory.join(me().uid.to_string())).map_or(0, Iterator::count)
    }
}

/// A process that has ended.
fn ended() -> Process {
    let own = Process::own().unwrap();
    Process { start: own.start + 1, ..own }
}

#[test]
fn the_mytoken_of_a_login_without_a_session_is_revoked_if_nobody_else_uses_it() {
    for for_session in [true, false] {
        let mut agent = TestAgent::new();
        let records = Records::new(&agent);
        records.handover.store(&login(for_session, Process::own().unwrap())).unwrap();
        agent.advance(SWEEP);
        assert_eq!((records.count(), agent.revoked()), (1, 0), "its process runs");
        records.handover.store(&login(for_session, ended())).unwrap();
        agent.services.with(|script| script.revocation_failure = Some(outage()));
        agent.advance(SWEEP);
        // Its lease was stored, and the next sweep removes the record.
        agent.advance(SWEEP);
        assert_eq!((records.count(), agent.revoked()), (1, 0));
        agent.end();
        agent.services.with(|script| script.revocation_failure = None);
        agent.begin();
        agent.advance(Duration::from_secs(120));
        assert_eq!(revoked(&agent), if for_session { vec!["m.y.t"] } else { vec![] });
    }
}

#[test]
fn a_link_that_was_given_up_is_revoked_at_the_cost_of_no_account() {
    let agent = TestAgent::new();
    let records = Records::new(&agent);
    let mut record = login(true, ended());
    // Nobody knows who the person is. What is revoked is the code of the link.
    record.sub.clear();
    record.credential.renewal.as_mut().unwrap().mytoken = Secret::new("Zm9vYmFy");
    records.handover.store(&record).unwrap();
    agent.advance(SWEEP);
    agent.advance(SWEEP);
    assert_eq!((records.count(), revoked(&agent)), (0, vec!["Zm9vYmFy".to_owned()]));
    assert_eq!(agent.services.with(|script| script.charges[0].purpose), Purpose::UnverifiedRevocation);
    assert_eq!(last_event(&agent), (EventKind::Revoked, "the mytoken was revoked".into()));
}

#[test]
fn the_code_of_a_link_that_was_given_up_is_not_kept_for_a_day() {
    let agent = TestAgent::new();
    let records = Records::new(&agent);
    let mut record = login(true, ended());
    record.sub.clear();
    record.credential.renewal.as_mut().unwrap().mytoken = Secret::new("Zm9vYmFy");
    records.handover.store(&record).unwrap();
    agent.services.with(|script| script.revocation_failure = Some(outage()));
    agent.advance(SWEEP);
    agent.advance(SWEEP);
    assert_eq!(last_event(&agent).0, EventKind::Retry);
    for _ in 0..2 {
        agent.advance(Duration::from_secs(3_600));
    }
    assert_eq!(last_event(&agent).0, EventKind::Kept, "it cannot be used any more");
}

#[test]
fn the_mytoken_of_a_session_that_the_agent_did_not_know_is_revoked_after_its_end() {
    let agent = TestAgent::new();
    let records = Records::new(&agent);
    records.handover.store_for_end(&login(true, ended()), Process::own().unwrap()).unwrap();
    // It may last longer than a login waits for its session.
    agent.advance(Duration::from_secs(3 * 24 * 3600));
    assert_eq!((records.count(), agent.revoked()), (1, 0));
    records.handover.store_for_end(&login(true, ended()), ended()).unwrap();
    agent.advance(SWEEP);
    agent.advance(SWEEP);
    assert_eq!((records.count(), revoked(&agent)), (1, vec!["m.y.t".to_owned()]));
}

#[test]
fn the_files_of_a_session_that_are_retained_go_with_the_access_token() {
    let mut agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &SessionStart { retain: true, ..session.start(Some("m.y.t")) });
    end(&agent, ID);
    assert_eq!(last_event(&agent).0, EventKind::Left);
    agent.end();
    assert!(!fs::read_to_string(state_file(&agent)).unwrap().contains("m.y.t"));
    agent.begin();
    // Neither a renewal nor the end of the process changes anything.
    session.end_monitor();
    agent.advance(RENEWAL);
    assert_eq!((fs::read_dir(&session.directory).unwrap().count(), agent.token_requests()), (2, 0));
    agent.advance(EXPIRY - RENEWAL);
    assert!(!session.directory.exists());
}

#[test]
fn a_session_without_a_valid_token_has_nothing_to_retain() {
    let agent = TestAgent::new();
    let session = TestSession::new(&agent);
    send(&agent, &SessionStart { retain: true, ..session.start(None) });
    agent.advance(EXPIRY);
    assert!(session.directory.exists() && !session.directory.join(format!("bt_u{}", me().uid)).exists());
    end(&agent, ID);
    agent.wait_until_idle();
    assert!(!session.directory.exists());
}

/// A session of login 5 that lasts while processes of the login run, with such a process.
fn lingering(agent: &TestAgent) -> (TestSession, u32) {
    let session = TestSession::new(agent);
    agent.processes.join_login(session.monitor, 5);
    let start = SessionStart { linger: true, ..session.start(Some("m.y.t")) };
    send(agent, &start);
    let left = agent.processes.start();
    agent.processes.join_login(left, 5);
    (session, left)
}

#[test]
fn a_session_lasts_while_a_process_of_its_login_runs() {
    for is_told in [true, false] {
        let mut agent = TestAgent::new();
        let (session, left) = lingering(&agent);
        if is_told {
            assert_eq!((end(&agent, ID), end(&agent, OTHER)), (Some(true), Some(false)));
        }
        session.end_monitor();
        agent.advance(SWEEP);
        assert_eq!(last_event(&agent).0, EventKind::Left);
        agent.end();
        agent.begin();
        agent.advance(RENEWAL);
        assert_eq!((agent.token_requests(), session.directory.exists()), (1, true), "it is renewed");
        // One of another login of the same user does not count.
        let other = agent.processes.start();
        agent.processes.join_login(other, 6);
        agent.processes.end(left);
        agent.advance(SWEEP);
        assert!(!session.directory.exists());
    }
}

/// The answer at its begin came too late, so the module has left a record as for an agent that is away.
#[test]
fn the_mytoken_of_a_session_that_lasts_stays_although_a_record_of_it_is_there() {
    let agent = TestAgent::new();
    let records = Records::new(&agent);
    let session = TestSession::new(&agent);
    agent.processes.join_login(session.monitor, 5);
    send(&agent, &SessionStart { linger: true, ..revoked_at_end(&session) });
    let left = agent.processes.start();
    agent.processes.join_login(left, 5);
    records.handover.store_for_end(&login(true, ended()), ended()).unwrap();
    assert_eq!(end(&agent, ID), Some(true));
    session.end_monitor();
    agent.advance(SWEEP);
    agent.advance(SWEEP);
    assert_eq!((records.count(), agent.revoked()), (0, 0));
    agent.processes.end(left);
    agent.advance(SWEEP);
    agent.advance(SETTLE);
    assert_eq!(revoked(&agent), ["m.y.t"]);
}

#[test]
fn without_linger_and_without_a_mark_a_session_ends_at_once() {
    for (linger, has_mark) in [(false, true), (true, false)] {
        let agent = TestAgent::new();
        let session = TestSession::new(&agent);
        if has_mark {
            agent.processes.join_login(session.monitor, 5);
        }
        send(&agent, &SessionStart { linger, ..session.start(Some("m.y.t")) });
        let left = agent.processes.start();
        agent.processes.join_login(left, 5);
        end(&agent, ID);
        assert!(!session.directory.exists());
    }
}
