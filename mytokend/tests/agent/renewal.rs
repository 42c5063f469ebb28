// SPDX-License-Identifier: MIT OR Apache-2.0
//! The renewal of a running job's token.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mytoken_wire::agent::{EventKind, JobStart, JobState};

use mytokend::jobs::Window;

use crate::harness::{
    BEFORE_RENEWAL, EXPIRY, MISSING, NOW, RENEWAL, TestAgent, eventually, me, outage, revocation, step,
};

/// Longer than the first pause after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(2);

#[test]
fn the_token_is_replaced_before_it_expires() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !finished.load(Ordering::Relaxed) {
                assert!(agent.read_token(7).starts_with("token-"));
            }
        });
        agent.advance(BEFORE_RENEWAL);
        let mut seen = vec![agent.read_token(7)];
        agent.advance(RENEWAL - BEFORE_RENEWAL);
        seen.push(agent.read_token(7));
        agent.advance(RENEWAL);
        seen.push(agent.read_token(7));
        finished.store(true, Ordering::Relaxed);
        assert_eq!(seen, ["token-1", "token-2", "token-3"]);
    });
    // Two events with the same text are one.
    let mut events = agent.events(7);
    events.dedup();
    assert_eq!(events, [EventKind::Opened, EventKind::Started, EventKind::Renewed]);
}

#[test]
fn during_an_outage_the_old_token_stays_until_it_expires_and_renewal_continues() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.failure = Some(outage()));
    agent.advance(RENEWAL);
    assert_eq!(agent.read_token(7), "token-1");
    let status = agent.status(7);
    assert_eq!(status.events.last().unwrap().kind, EventKind::Retry);
    assert!(status.events.last().unwrap().text.contains("the old access token stays"), "{status:?}");
    assert_eq!(status.state, JobState::Ready);
    agent.advance(EXPIRY - RENEWAL);
    assert!(!agent.token(7).exists() && agent.has_event(7, &EventKind::Expired));
    assert_eq!(agent.status(7).state, JobState::Pending);
    agent.services.with(|script| script.failure = None);
    agent.advance(Duration::from_secs(300));
    assert!(agent.token(7).exists());
}

#[test]
fn a_revoked_sub_token_leaves_the_access_token_until_it_expires() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(RENEWAL);
    assert!(agent.has_event(7, &EventKind::Refused) && agent.token(7).exists());
    agent.advance(EXPIRY - RENEWAL);
    assert!(!agent.token(7).exists());
    assert_eq!(agent.status(7).state, JobState::Failed);
}

#[test]
fn a_restart_keeps_the_schedule_and_sends_no_further_request() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.end();
    assert!(agent.token(7).exists());
    let state =
        fs::read_to_string(agent.dir.path().join(format!("mytoken/state/submission-{}-h1.json", me().uid))).unwrap();
    assert!(!state.contains("token-1"), "the access token is not in the state");
    agent.begin();
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.advance(BEFORE_RENEWAL);
    assert_eq!(agent.token_requests(), 1);
    agent.advance(RENEWAL - BEFORE_RENEWAL);
    assert_eq!(agent.token_requests(), 2);
}

#[test]
fn a_renewal_that_was_due_while_the_agent_was_stopped_is_done_at_the_start() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.end();
    agent.move_clock(EXPIRY);
    agent.begin();
    agent.wait_until_idle();
    assert_eq!(agent.read_token(7), "token-2");
}

#[test]
fn damaged_state_is_removed_and_all_other_state_is_used() {
    let mut agent = TestAgent::new();
    agent.start(7, "h1");
    agent.start(8, "h2");
    agent.end();
    fs::write(agent.dir.path().join(format!("mytoken/state/submission-{}-h2.json", me().uid)), "{\"key\":{\"job\":")
        .unwrap();
    fs::write(agent.dir.path().join("mytoken/state/rubbish"), "x").unwrap();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!(agent.status(7).state, JobState::Ready);
    assert!(!agent.token(8).exists(), "no lease would renew or remove it");
    assert_eq!(agent.start(8, "h2").state, JobState::Ready);
}

#[test]
fn an_expired_sub_token_ends_the_renewal() {
    let agent = TestAgent::new();
    agent.start(7, "short");
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(RENEWAL);
    assert!(agent.has_event(7, &EventKind::Refused));
    assert!(agent.status(7).events.iter().any(|event| event.text.contains("credential itself has expired")));
    agent.advance(RENEWAL);
    assert_eq!(agent.token_requests(), 2, "only the server's clock says that it has expired, and it is asked once");
}

#[test]
fn an_old_token_is_renewed_by_its_remaining_lifetime() {
    let agent = TestAgent::new();
    // The node's clock is fifty minutes ahead.
    agent.services.with(|script| script.left = Some(600));
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.advance(Duration::from_secs(359));
    assert_eq!(agent.token_requests(), 1);
    agent.advance(Duration::from_secs(450 - 359));
    assert_eq!(agent.token_requests(), 2);
}

#[test]
fn a_new_token_that_is_expired_counts_as_a_failure() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.left = Some(-100));
    let started = agent.start(7, "h1");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("clock"), "{:?}", agent.status(7));
    assert!(!agent.token(7).exists());
    agent.services.with(|script| script.left = None);
    agent.advance(FIRST_RETRY);
    assert!(agent.token(7).exists());
}

#[test]
fn a_token_is_renewed_while_slurmctld_is_asked_about_its_job() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.hold_squeue = true);
    agent.start(7, "h1");
    agent.move_clock(MISSING);
    eventually("the query", || agent.queries() == 1);
    for token in ["token-2", "token-3"] {
        agent.move_clock(RENEWAL);
        eventually("the next token", || agent.read_token(7) == token);
    }
}

#[test]
fn a_panic_fails_one_attempt_and_ends_no_thread() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.panics = 6);
    for job in 1..=6 {
        assert_eq!(agent.start(job, &format!("h{job}")).state, JobState::Pending);
    }
    assert_eq!(agent.start(7, "h7").state, JobState::Ready);
    agent.advance(FIRST_RETRY);
    assert!(agent.token(1).exists());
}

/// The mytoken authors' own example: stage-in in the first hour, stage-out from hour 24 to 36.
fn stage_in_and_out() -> Vec<Window> {
    let hour = |hour: u64| Some(NOW + hour * 3_600);
    vec![Window { nbf: None, exp: hour(1) }, Window { nbf: hour(24), exp: hour(36) }]
}

#[test]
fn between_two_windows_the_agent_waits_and_says_until_when() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.windows = stage_in_and_out());
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    agent.advance(RENEWAL);
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-2", 2));
    // The last token of the first window was issued in its last quarter.
    agent.advance(EXPIRY * 2);
    assert!(!agent.token(7).exists());
    let waits = agent.status(7);
    assert_eq!(waits.state, JobState::Pending);
    let text = &waits.events.iter().find(|event| event.kind == EventKind::Waiting).unwrap().text;
    assert!(text.contains("from 2027-01-16 08:00 UTC on"), "{text}");
    assert_eq!(agent.token_requests(), 2, "no request between the windows");
    // A further step is told why, at once.
    let started = agent.start(7, "h1");
    assert!(
        started.state == JobState::Pending && started.reason.as_ref().unwrap().contains("again from"),
        "{started:?}"
    );
    agent.advance(Duration::from_secs(24 * 3_600));
    assert_eq!((agent.status(7).state, agent.read_token(7).as_str()), (JobState::Ready, "token-3"));
}

#[test]
fn a_job_that_begins_between_two_windows_gets_its_token_in_the_second() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.windows = stage_in_and_out());
    agent.advance(Duration::from_secs(2 * 3_600));
    let started = agent.start(7, "h1");
    assert_eq!((started.state, agent.token_requests()), (JobState::Pending, 0));
    assert!(started.reason.unwrap().contains("again from 2027-01-16 08:00 UTC"));
    agent.advance(Duration::from_secs(22 * 3_600 + 6));
    assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Ready, 1));
    // After the last window the server refuses, and is not asked again.
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(Duration::from_secs(13 * 3_600));
    let requests = agent.token_requests();
    agent.advance(Duration::from_secs(3 * 3_600));
    assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Failed, requests));
}

#[test]
fn what_the_server_refuses_now_is_asked_for_again_in_the_next_window() {
    let agent = TestAgent::new();
    agent.services.with(|script| (script.windows, script.failure) = (stage_in_and_out(), Some(revocation())));
    let started = agent.start(7, "h1");
    assert_eq!((started.state, agent.token_requests()), (JobState::Pending, 1));
    agent.services.with(|script| script.failure = None);
    agent.advance(Duration::from_secs(24 * 3_600 + 6));
    assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Ready, 2));
}

#[test]
fn files_that_cannot_be_written_are_written_later_without_a_request() {
    let agent = TestAgent::new();
    // A file in the place of the job's directory: the write fails as on a full file system.
    let directory = agent.token(7).parent().unwrap().to_owned();
    fs::write(&directory, "").unwrap();
    let started = agent.start(7, "h1");
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("could not be written"));
    fs::remove_file(&directory).unwrap();
    agent.advance(Duration::from_secs(5));
    assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Ready, 1));
    assert_eq!(agent.read_token(7), "token-1");
}

#[test]
fn a_token_that_expires_while_its_request_waits_for_a_place_is_removed_at_its_end() {
    let agent = TestAgent::new();
    // One more than a user's requests at a provider.
    let jobs = 7..11;
    jobs.clone().for_each(|job| drop(agent.start(job, &format!("h{job}"))));
    let rows = [(7, "7"), (8, "8"), (9, "9"), (10, "10")];
    agent.squeue_prints(&rows.map(|(job, shown)| (job, shown, "RUNNING", "n1")));
    agent.services.with(|script| script.hold_tokens = true);
    agent.move_clock(RENEWAL);
    eventually("the requests that have a place", || agent.token_requests() == 7);
    agent.move_clock(EXPIRY - RENEWAL);
    for job in jobs {
        eventually("the removal of the file", || !agent.token(job).exists());
    }
}

#[test]
fn a_token_that_expires_during_a_request_is_removed_at_its_end() {
    let agent = TestAgent::new();
    agent.start(7, "limited");
    agent.services.with(|script| script.hold_tokens = true);
    agent.move_clock(RENEWAL);
    eventually("the request", || agent.token_requests() == 2);
    agent.move_clock(EXPIRY - RENEWAL);
    eventually("the removal", || !agent.token(7).exists());
    assert_eq!(agent.token_requests(), 2, "a limited number of uses is not spent on second requests");
    agent.services.with(|script| script.hold_tokens = false);
    eventually("the late token", || agent.token(7).exists());
}

#[test]
fn a_clock_that_is_set_changes_no_plan() {
    for seconds in [-3_600, 3_600, 400 * 86_400] {
        let mut agent = TestAgent::new();
        agent.start(7, "h1");
        agent.advance(Duration::from_secs(600));
        agent.set_clock(seconds);
        // Within half a minute the token is renewed once: the host may have been suspended.
        agent.advance(Duration::from_secs(30));
        assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-2", 2), "{seconds}");
        agent.advance(BEFORE_RENEWAL - Duration::from_secs(30));
        assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-2", 2), "{seconds}");
        agent.advance(RENEWAL - BEFORE_RENEWAL + Duration::from_secs(30));
        assert_eq!(agent.token_requests(), 3, "{seconds}");
        // While the agent is away, too.
        agent.end();
        agent.set_clock(-seconds);
        agent.begin();
        agent.advance(Duration::from_secs(60));
        assert_eq!((agent.status(7).state, agent.token_requests()), (JobState::Ready, 3), "{seconds}");
        agent.advance(RENEWAL);
        assert_eq!(agent.token_requests(), 4, "{seconds}");
    }
}

#[test]
fn a_provider_that_hangs_delays_no_other_one_and_no_other_user() {
    let agent = TestAgent::new();
    agent.services.with(|script| (script.lane, script.hold_tokens) = ("hangs".into(), true));
    std::thread::scope(|scope| {
        for job in 1..=6 {
            let agent = &agent;
            scope.spawn(move || agent.start(job, &format!("h{job}")));
        }
        eventually("three requests of this user", || agent.token_requests() == 3);
        agent
            .services
            .with(|script| (script.lane, script.hold_tokens, script.hold_lane) = ("works".into(), false, true));
        assert_eq!(agent.start(20, "h20").state, JobState::Ready);
        if me().uid == 0 {
            agent.services.with(|script| script.lane = "hangs".into());
            let bob = JobStart { uid: 54_321, gid: 54_321, sealed: Some("54321:h1".into()), ..step(21) };
            let before = agent.token_requests();
            let agent = &agent;
            let bobs = scope.spawn(move || agent.start_with(&bob));
            eventually("the request of another user", || agent.token_requests() == before + 1);
            agent.services.with(|script| script.hold_lane = false);
            assert_eq!(bobs.join().unwrap().state, JobState::Ready);
        }
        agent.services.with(|script| script.hold_lane = false);
    });
}

/// Three first tokens hang, as many requests as a user has at a time at a provider, and job 7 gets its next one.
fn renewal_passes_by(agent: &TestAgent, before: usize, hang: impl FnOnce()) {
    let token = agent.read_token(7);
    agent.services.with(|script| (script.hold_tokens, script.hold_lane) = (true, true));
    hang();
    eventually("three requests for first tokens", || agent.token_requests() == before + 3);
    agent.services.with(|script| script.hold_tokens = false);
    agent.move_clock(RENEWAL);
    eventually("the renewal", || agent.read_token(7) != token);
    agent.services.with(|script| script.hold_lane = false);
}

/// A broker answers nothing about jobs of which slurmctld has not told it.
#[test]
fn first_tokens_from_a_broker_that_hang_hold_up_no_renewal() {
    let mut agent = TestAgent::new();
    agent.services.with(|script| script.lane = "provider".into());
    assert_eq!(agent.start(7, "brokered-known").state, JobState::Ready);
    std::thread::scope(|scope| {
        renewal_passes_by(&agent, agent.token_requests(), || {
            for job in 11..=13 {
                let agent = &agent;
                scope.spawn(move || agent.start(job, &format!("brokered-{job}")));
            }
        });
    });
    agent.wait_until_idle();

    // Also after a restart, with jobs that have had none.
    agent.services.with(|script| script.failure = Some(outage()));
    for job in 21..=23 {
        assert_ne!(agent.start(job, &format!("brokered-{job}")).state, JobState::Ready);
    }
    agent.end();
    let before = agent.token_requests();
    agent.services.with(|script| {
        (script.failure, script.hold_tokens, script.hold_lane) = (None, true, true);
    });
    agent.begin();
    renewal_passes_by(&agent, before, || agent.move_clock(Duration::from_secs(60)));
}

#[test]
fn a_server_whose_clock_is_behind_is_asked_again_at_the_begin_of_a_window() {
    let agent = TestAgent::new();
    agent.services.with(|script| {
        script.windows = vec![Window { nbf: Some(NOW + 60), exp: None }];
        script.failure = Some(revocation());
    });
    assert_eq!(agent.start(7, "h1").state, JobState::Pending);
    // The first request comes 1 to 6 s after the begin of the window.
    agent.advance(Duration::from_secs(60));
    assert_eq!(agent.token_requests(), 0);
    agent.advance(Duration::from_secs(6));
    assert!(agent.status(7).state == JobState::Pending && agent.token_requests() > 0);
    agent.services.with(|script| script.failure = None);
    agent.advance(Duration::from_secs(10));
    assert_eq!(agent.status(7).state, JobState::Ready);
}
