// SPDX-License-Identifier: MIT OR Apache-2.0
//! A requeued job starts again on a node, and the end of its earlier run reaches the agent late. Times are milliseconds since boot, as the
//! plugin tells them: 1000 the first run, 2000 its end, 3000 the next run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mytoken::Deadline;
use mytoken_wire::agent::{
    EventKind, JobEnd, JobStart, JobState, MissedEnd, MissedRecord, MissedStart, Started, StatusQuery, ask,
};

use crate::harness::{FakeServices, MISSING, SETTLE, SWEEP, TestAgent, eventually, me, step};

/// Whether the first start with a credential is held, and whether one was.
#[derive(Default)]
pub struct HeldStart(bool, bool);

/// Waits if this is the start that is held.
pub fn hold_first(services: &FakeServices) {
    let is_first = services.with(|script| script.held_start.0 && !std::mem::replace(&mut script.held_start.1, true));
    let script = services.script.0.lock().unwrap();
    drop(services.script.1.wait_while(script, |script| is_first && script.held_start.0).unwrap());
}

fn request(at: u64) -> JobStart {
    JobStart { sealed: Some(format!("{}:h1", me().uid)), at: Some(at), ..step(7) }
}

fn start(agent: &TestAgent, at: u64) -> Started {
    agent.start_with(&request(at))
}

fn end_at(at: u64) -> JobEnd {
    JobEnd { job: 7, nodes: Some("n1".into()), at: Some(at) }
}

fn end(agent: &TestAgent, at: u64) {
    agent.ask(&end_at(at)).unwrap();
}

fn put(agent: &TestAgent, name: &str, text: &str) {
    let file = agent.dir.path().join("mytoken/missed").join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
}

fn put_start(agent: &TestAgent, name: &str, at: u64) {
    put(agent, name, &MissedStart::new(request(at), 1).text());
}

fn put_end(agent: &TestAgent, name: &str, at: u64) {
    put(agent, name, &MissedEnd::new(end_at(at)).text());
}

fn has_records(agent: &TestAgent) -> bool {
    fs::read_dir(agent.dir.path().join("mytoken/missed")).unwrap().next().is_some()
}

fn sweep(agent: &TestAgent) {
    agent.move_clock(SWEEP);
    eventually("the end of the records", || !has_records(agent));
    agent.wait_until_idle();
}

/// The job has its token and its credential, and ends as every job does.
fn goes_on(agent: &TestAgent) {
    agent.advance(SETTLE);
    let status = agent.status(7);
    assert_eq!((status.running, status.state, agent.revoked()), (true, JobState::Ready, 0), "{status:?}");
    assert!(agent.token(7).exists());
    end(agent, 4000);
    is_over(agent);
}

fn is_over(agent: &TestAgent) {
    agent.wait_until_idle();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    assert!(!agent.token(7).exists());
    agent.advance(SETTLE * 4);
    assert_eq!((agent.revoked(), agent.last_event(7)), (1, EventKind::Revoked));
}

#[test]
fn the_next_run_asked_before_a_request_of_the_end_is_answered() {
    let agent = TestAgent::new();
    for at in [1000, 3000] {
        assert_eq!(start(&agent, at).state, JobState::Ready);
    }
    end(&agent, 2000);
    goes_on(&agent);
}

#[test]
fn a_step_of_the_first_run_that_is_answered_late_does_not_hide_the_next_run() {
    let agent = TestAgent::new();
    for at in [3000, 1000] {
        start(&agent, at);
    }
    end(&agent, 2000);
    goes_on(&agent);
}

#[test]
fn the_next_run_began_while_the_request_of_the_end_waited_for_a_stopped_agent() {
    let agent = TestAgent::new();
    start(&agent, 1000);
    put_start(&agent, "7.json", 3000);
    end(&agent, 2000);
    assert!(!has_records(&agent));
    goes_on(&agent);
}

#[test]
fn the_next_run_asked_after_the_agent_took_the_record_of_the_end() {
    for name in ["7.end.json", "7.end.json.taken"] {
        let agent = TestAgent::new();
        start(&agent, 1000);
        start(&agent, 3000);
        put_end(&agent, name, 2000);
        sweep(&agent);
        goes_on(&agent);
    }
}

#[test]
fn the_next_run_was_recorded_after_the_agent_took_both_records_of_the_first_one() {
    let mut agent = TestAgent::new();
    agent.end();
    put_start(&agent, "7.json.taken", 1000);
    put_end(&agent, "7.end.json.taken", 2000);
    put_start(&agent, "7.json", 3000);
    agent.begin();
    assert!(!has_records(&agent));
    agent.wait_until_idle();
    goes_on(&agent);
}

#[test]
fn the_next_run_was_recorded_and_the_agent_knows_the_first_one() {
    let mut agent = TestAgent::new();
    start(&agent, 1000);
    agent.end();
    put_end(&agent, "7.end.json", 2000);
    put_start(&agent, "7.json", 3000);
    agent.begin();
    agent.wait_until_idle();
    goes_on(&agent);
}

#[test]
fn a_step_from_outside_shows_that_the_job_runs_again() {
    let mut agent = TestAgent::new();
    start(&agent, 1000);
    agent.end();
    put_end(&agent, "7.end.json", 2000);
    put(&agent, "7.json", &MissedStart::new(JobStart { at: Some(3000), ..step(7) }, 1).text());
    agent.begin();
    agent.wait_until_idle();
    goes_on(&agent);
}

#[test]
fn an_agent_that_ended_while_it_served_a_record_serves_it_in_its_next_run() {
    let mut agent = TestAgent::new();
    start(&agent, 1000);
    agent.end();
    put_end(&agent, "7.end.json.taken", 2000);
    agent.begin();
    assert!(!has_records(&agent));
    is_over(&agent);
}

#[test]
fn the_end_of_the_run_itself_ends_it() {
    for (began, ended) in [(Some(2000), Some(2000)), (Some(2000), None), (None, Some(2000)), (None, None)] {
        let agent = TestAgent::new();
        agent.start_with(&JobStart { at: began, ..request(0) });
        agent.ask(&JobEnd { at: ended, ..end_at(0) }).unwrap();
        is_over(&agent);
    }
}

#[test]
fn the_next_run_began_while_slurmctld_was_asked_about_the_first_one() {
    let agent = TestAgent::new();
    start(&agent, 1000);
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.services.with(|script| script.hold_squeue = true);
    agent.move_clock(MISSING);
    eventually("the question", || agent.queries() == 1);
    start(&agent, 3000);
    agent.services.with(|script| script.hold_squeue = false);
    // The answer is about the first run.
    goes_on(&agent);
}

#[test]
fn a_step_from_outside_does_not_hide_the_credential_in_a_record() {
    let agent = TestAgent::new();
    put_start(&agent, "7.json", 1000);
    assert_eq!(agent.start_with(&JobStart { at: Some(1500), ..step(7) }).state, JobState::Ready);
    assert!(!has_records(&agent));
    goes_on(&agent);
}

#[test]
fn the_end_waits_until_the_record_of_the_start_is_served() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.held_start.0 = true);
    put_start(&agent, "7.json", 1000);
    agent.move_clock(SWEEP);
    eventually("the start is served", || agent.services.with(|script| script.held_start.1));
    // The epilog gives up.
    ask(&agent.socket(), &end_at(2000), Deadline::after(Duration::from_millis(300))).unwrap_err();
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.services.with(|script| script.held_start.0 = false);
    eventually("the end", || agent.ask(&StatusQuery::default()).unwrap().jobs.iter().any(|job| !job.running));
    is_over(&agent);
}

#[test]
fn the_directory_of_an_unknown_job_goes_without_the_record_of_its_start() {
    let mut agent = TestAgent::new();
    agent.end();
    put_start(&agent, "7.json", 1000);
    fs::create_dir(agent.dir.path().join("mytoken/jobs/7")).unwrap();
    fs::set_permissions(agent.dir.path().join("mytoken/jobs/7"), Permissions::from_mode(0o711)).unwrap();
    agent.begin();
    agent.wait_until_idle();
    goes_on(&agent);
}

/// Job 7 runs here while slurmctld does not answer the question about its earlier run, of which it will say that it is over.
fn with_a_question_that_hangs(ask_it: impl Fn(&TestAgent)) -> TestAgent {
    let agent = TestAgent::new();
    start(&agent, 1000);
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.services.with(|script| script.hold_squeue = true);
    ask_it(&agent);
    eventually("the question", || agent.queries() == 1);
    assert_eq!(start(&agent, 3000).state, JobState::Ready);
    agent
}

fn answer(agent: &TestAgent) {
    agent.services.with(|script| script.hold_squeue = false);
    agent.wait_until_idle();
}

#[test]
fn an_answer_about_a_run_does_not_count_when_the_next_run_has_ended_too() {
    let agent = with_a_question_that_hangs(|agent| {
        end(agent, 2000);
        agent.move_clock(SETTLE);
    });
    end(&agent, 4000);
    answer(&agent);
    assert_eq!(agent.revoked(), 0);
    // The job is in the queue for a third run.
    agent.squeue_prints(&[(7, "7", "PENDING", "")]);
    agent.advance(SETTLE);
    assert_eq!((agent.queries(), agent.revoked(), agent.last_event(7)), (2, 0, EventKind::Requeued));
}

#[test]
fn a_job_that_shows_itself_during_the_question_about_it_keeps_its_token() {
    let agent = with_a_question_that_hangs(|agent| agent.move_clock(MISSING));
    answer(&agent);
    assert!(!agent.has_event(7, &EventKind::Missed), "{:?}", agent.events(7));
    agent.squeue_prints(&[(7, "7", "RUNNING", "n1")]);
    goes_on(&agent);
}
