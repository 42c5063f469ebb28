// SPDX-License-Identifier: MIT OR Apache-2.0
//! Profiles whose windows count from the start of a job. The mytoken server does not know them.

use std::fs;
use std::time::Duration;

use mytoken_wire::JobName;
use mytoken_wire::agent::{Condition, EventKind, JobState, Renew, Replace};
use mytokend::jobs::StartWindow;

use crate::harness::{NOW, RENEWAL, TestAgent, eventually, me, revocation};

/// Within this time of the begin of a window there is a token.
const SOON: u64 = 7;

/// An agent for jobs with these windows, seconds after the start.
fn agent_with(windows: &[(u64, u64)]) -> TestAgent {
    let agent = TestAgent::new();
    let window = |(from, until): &(u64, u64)| StartWindow { from: *from, until: *until };
    agent.services.with(|script| script.start_windows = windows.iter().map(window).collect());
    agent
}

fn has_token(agent: &TestAgent, job: u32) -> bool {
    agent.token(job).exists()
}

fn advance(agent: &TestAgent, seconds: u64) {
    agent.advance(Duration::from_secs(seconds));
}

#[test]
fn a_job_has_a_token_in_each_window_and_knows_why_not_in_between() {
    let agent = agent_with(&[(0, 600), (7_200, 10_800)]);
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    advance(&agent, 599);
    assert!(has_token(&agent, 7) && agent.status(7).condition == Some(Condition::Valid));
    advance(&agent, 1);
    assert!(!has_token(&agent, 7), "at the end of the window, not of the token");
    let why = "the start_windows of its profile give this job access tokens from 2027-01-15 10:00 UTC on";
    let status = agent.status(7);
    assert_eq!((status.condition, status.from), (Some(Condition::Waiting), Some(NOW + 7_200)));
    assert_eq!((status.reason.as_deref(), status.token_until), (Some(why), None));
    let event = status.events.last().unwrap();
    assert_eq!((&event.kind, event.text.as_str()), (&EventKind::Waiting, format!("job 7: {why}").as_str()));
    // A step in between, and a request of the user.
    let started = agent.start(7, "h1");
    assert_eq!((started.state, started.reason.as_deref()), (JobState::Pending, Some(why)));
    agent.ask(&Renew { job: None, all: false }).unwrap();
    advance(&agent, 6_599);
    assert_eq!((has_token(&agent, 7), agent.token_requests()), (false, 1), "nothing is requested in between");
    advance(&agent, 1 + SOON);
    assert_eq!((agent.read_token(7).as_str(), agent.token_requests()), ("token-2", 2));
    advance(&agent, RENEWAL.as_secs());
    assert_eq!(agent.read_token(7), "token-3", "renewed as ever");
    advance(&agent, 3_600 - SOON - RENEWAL.as_secs());
    let status = agent.status(7);
    assert_eq!((has_token(&agent, 7), status.condition, status.from), (false, Some(Condition::Refused), None));
    let started = agent.start(7, "h1");
    let why = "the last of the start_windows of its profile has ended";
    assert_eq!((started.state, started.reason.as_deref()), (JobState::Failed, Some(why)));
    advance(&agent, 86_400);
    assert_eq!((has_token(&agent, 7), agent.token_requests()), (false, 3));
    assert_eq!(agent.services.with(|script| script.start_questions), 1);
}

#[test]
fn a_token_that_is_still_valid_in_the_next_window_costs_no_request() {
    for restart in [false, true] {
        let mut agent = agent_with(&[(0, 600), (1_200, 3_000)]);
        agent.start(7, "h1");
        advance(&agent, 900);
        assert!(!has_token(&agent, 7));
        if restart {
            // No file has the token any more.
            agent.end();
            agent.begin();
        }
        advance(&agent, 300 + SOON);
        assert_eq!((has_token(&agent, 7), agent.token_requests()), (true, 1 + usize::from(restart)), "{restart}");
        advance(&agent, 1_800);
        assert!(!has_token(&agent, 7), "{restart}");
    }
}

#[test]
fn the_first_step_on_a_node_may_come_long_after_the_job_began() {
    let agent = agent_with(&[(0, 600), (3_600, 7_200)]);
    agent.services.with(|script| script.starts = [(7, NOW - 700), (8, NOW - 590), (9, NOW + 30)].into());
    let started = agent.start(7, "h1");
    assert_eq!((started.state, has_token(&agent, 7), agent.token_requests()), (JobState::Pending, false, 0));
    assert_eq!(agent.start(8, "h2").state, JobState::Ready);
    assert_eq!(agent.start(9, "h3").state, JobState::Ready);
    advance(&agent, 10);
    assert!(!has_token(&agent, 8), "ten seconds were left");
    advance(&agent, 589);
    assert!(has_token(&agent, 9), "its start is no later than its first step");
    advance(&agent, 1);
    assert!(!has_token(&agent, 9));
    advance(&agent, 2_300 + SOON);
    assert!(has_token(&agent, 7));
}

#[test]
fn slurmctlds_clock_may_be_another_one() {
    let agent = agent_with(&[(0, 600)]);
    agent.services.with(|script| {
        script.slurmctld = Some((agent.clock.clone(), -7_200));
        script.starts = [(7, NOW - 7_200 - 500)].into();
    });
    agent.start(7, "h1");
    advance(&agent, 99);
    assert!(has_token(&agent, 7));
    advance(&agent, 1);
    assert!(!has_token(&agent, 7));
}

#[test]
fn without_an_answer_of_slurmctld_a_job_began_with_its_first_step_here() {
    let agent = agent_with(&[(0, 600)]);
    agent.services.with(|script| script.no_starts = true);
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    advance(&agent, 600);
    assert!(!has_token(&agent, 7));
    // While it hangs, nothing is given, and the step goes on.
    agent.services.with(|script| (script.no_starts, script.hold_squeue) = (false, true));
    let started = std::thread::scope(|scope| {
        let step = scope.spawn(|| agent.start(8, "h2"));
        eventually("the question", || agent.services.with(|script| script.start_questions) == 2);
        agent.move_clock(Duration::from_secs(2));
        step.join().unwrap()
    });
    assert_eq!(started.state, JobState::Pending);
    assert!(started.reason.unwrap().contains("slurmctld has not told yet when the job began"));
    assert!(!has_token(&agent, 8) && agent.token_requests() == 1);
    agent.services.with(|script| script.hold_squeue = false);
    eventually("the token after the answer", || has_token(&agent, 8));
}

#[test]
fn each_job_of_a_submission_has_windows_of_its_own() {
    let agent = agent_with(&[(0, 600)]);
    agent.start(7, "h1");
    advance(&agent, 300);
    assert_eq!(agent.start(8, "h1").state, JobState::Ready);
    advance(&agent, 300);
    assert_eq!((has_token(&agent, 7), has_token(&agent, 8)), (false, true));
    advance(&agent, 300);
    assert_eq!((has_token(&agent, 8), agent.token_requests()), (false, 1));
}

#[test]
fn the_windows_of_a_requeued_job_count_from_its_new_start() {
    let agent = agent_with(&[(0, 600)]);
    agent.services.with(|script| script.starts = [(7, NOW)].into());
    agent.start(7, "h1");
    advance(&agent, 900);
    assert!(!has_token(&agent, 7));
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.finish(7);
    advance(&agent, 3_600);
    agent.services.with(|script| script.starts = [(7, NOW + 4_500)].into());
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1")]);
    assert_eq!(agent.start(7, "h1").state, JobState::Ready);
    advance(&agent, 599);
    assert!(has_token(&agent, 7));
    advance(&agent, 1);
    assert!(!has_token(&agent, 7));
}

#[test]
fn further_files_have_the_same_windows() {
    let agent = agent_with(&[(0, 600), (1_200, 3_000)]);
    agent.services.with(|script| script.files.name(&["ce"]));
    let ce = agent.token(7).with_file_name(format!("bt_u{}-ce", me().uid));
    agent.start(7, "h1");
    assert!(ce.exists());
    advance(&agent, 600);
    let started = agent.start(7, "h1");
    assert!(!ce.exists() && started.files[0].reason.as_ref().unwrap().contains("start_windows"), "{started:?}");
    let file = agent.status(7).files.remove(0);
    assert_eq!((file.condition, file.from), (Condition::Waiting, Some(NOW + 1_200)));
    assert!(file.reason.unwrap().contains("start_windows"));
    advance(&agent, 600 + SOON);
    assert_eq!(fs::read_to_string(&ce).unwrap(), "ce-1");
    advance(&agent, 1_800);
    assert!(!ce.exists() && agent.status(7).files[0].condition == Condition::Refused);
}

#[test]
fn a_refusal_is_told_also_outside_the_windows() {
    let agent = agent_with(&[(0, 3_000), (7_200, 9_000)]);
    agent.start(7, "h1");
    agent.services.with(|script| script.failure = Some(revocation()));
    advance(&agent, RENEWAL.as_secs());
    assert_eq!(agent.status(7).condition, Some(Condition::Refused));
    advance(&agent, 3_000 - RENEWAL.as_secs());
    let (status, started) = (agent.status(7), agent.start(7, "h1"));
    assert_eq!((has_token(&agent, 7), status.condition, status.from), (false, Some(Condition::Refused), None));
    assert_eq!(status.reason.as_deref(), Some("the token was revoked"));
    assert_eq!((started.state, started.reason.as_deref()), (JobState::Failed, Some("the token was revoked")));
}

#[test]
fn setting_the_clock_moves_no_window() {
    for seconds in [86_400, -86_400] {
        let agent = agent_with(&[(0, 600), (1_200, 3_000)]);
        agent.start(7, "h1");
        agent.set_clock(seconds);
        advance(&agent, 599);
        assert!(has_token(&agent, 7), "{seconds}");
        advance(&agent, 1);
        assert!(!has_token(&agent, 7), "{seconds}");
        agent.set_clock(-seconds);
        advance(&agent, 599);
        assert!(!has_token(&agent, 7), "{seconds}");
        advance(&agent, 1 + SOON);
        assert!(has_token(&agent, 7), "{seconds}");
    }
}

#[test]
fn windows_outlive_a_restart_and_an_agent_that_does_not_know_them() {
    let mut agent = agent_with(&[(0, 600), (1_200, 3_000)]);
    agent.services.with(|script| script.starts = [(7, NOW)].into());
    agent.start(7, "h1");
    advance(&agent, 700);
    agent.end();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!((has_token(&agent, 7), agent.status(7).from), (false, Some(NOW + 1_200)));
    assert_eq!(agent.services.with(|script| script.start_questions), 1, "what slurmctld said is known");
    agent.end();
    // An agent of an earlier release stores the lease without them.
    let stored = agent.dir.path().join(format!("mytoken/state/submission-{}-h1.json", me().uid));
    let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&stored).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("start_windows").is_some());
    let job = state["jobs"]["7"].as_object_mut().unwrap();
    assert!(job.remove("start").is_some() && job.remove("window").is_some());
    fs::write(&stored, state.to_string()).unwrap();
    agent.begin();
    agent.wait_until_idle();
    assert_eq!((has_token(&agent, 7), agent.status(7).from), (false, Some(NOW + 1_200)));
}

#[test]
fn a_credential_is_not_replaced_outside_the_windows() {
    let agent = agent_with(&[(0, 600), (1_200, 3_000)]);
    agent.start(7, "h1");
    let replace = |handle: &str| {
        let sealed = format!("{}:{handle}", me().uid);
        agent.ask(&Replace { job: JobName::Job(7), sealed }).map_err(|error| error.to_string())
    };
    advance(&agent, 600);
    let refused = replace("h2").unwrap_err();
    assert!(refused.contains("cannot be tried now, and the old one stays: the start_windows"), "{refused}");
    assert_eq!(agent.token_requests(), 1);
    advance(&agent, 600 + SOON);
    replace("h3").unwrap();
    assert_eq!(agent.read_token(7), "token-2");
    advance(&agent, 3_000 - 1_200 - SOON);
    assert!(!has_token(&agent, 7), "the windows count from the job's start as before");
}
