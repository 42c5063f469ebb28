// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that began or ended while no agent answered.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mytoken_wire::agent::{EventKind, JobEnd, JobStart, JobState, MissedEnd, MissedRecord as _, MissedStart};

use crate::harness::{MISSING, SETTLE, SWEEP, TestAgent, eventually, me, step};

/// Writes what the plugin writes at a step of `job` without an answer.
fn record(agent: &TestAgent, job: u32, sealed: Option<&str>) -> PathBuf {
    let sealed = sealed.map(|handle| format!("{}:{handle}", me().uid));
    let text = MissedStart::new(JobStart { sealed, ..step(job) }, 1).text();
    write(agent, &MissedStart::file_name(job), &text)
}

fn write(agent: &TestAgent, name: &str, text: &str) -> PathBuf {
    let file = agent.dir.path().join("mytoken/missed").join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

#[test]
fn an_agent_that_was_down_gives_the_job_its_token_at_its_start() {
    let mut agent = TestAgent::new();
    agent.end();
    let file = record(&agent, 7, Some("h1"));
    agent.begin();
    eventually("the token", || agent.token(7).exists());
    assert!(!file.exists());
    assert_eq!(agent.start_with(&step(7)).state, JobState::Ready);
    assert_eq!((agent.token_requests(), agent.events(7)), (1, vec![EventKind::Opened, EventKind::Started]));
}

#[test]
fn an_agent_that_was_stopped_finds_the_job_at_its_next_sweep() {
    let agent = TestAgent::new();
    let file = record(&agent, 7, Some("h1"));
    agent.move_clock(SWEEP);
    eventually("the token", || agent.token(7).exists() && !file.exists());
    agent.wait_until_idle();
    // The job is known already: nothing happens a second time.
    let file = record(&agent, 7, Some("h1"));
    agent.move_clock(SWEEP);
    eventually("the end of the record", || !file.exists());
    assert_eq!((agent.token_requests(), agent.events(7).len()), (1, 2));
}

#[test]
fn a_record_ends_with_its_job_which_gives_its_credential_back() {
    let agent = TestAgent::new();
    let file = record(&agent, 7, Some("h1"));
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    assert!(!file.exists() && !agent.token(7).parent().unwrap().exists());
    // The request for its first access token has an answer.
    agent.wait_until_idle();
    agent.advance(SETTLE);
    assert_eq!((agent.revoked(), agent.last_event(7)), (1, EventKind::Revoked), "nobody else knows it");
}

/// Writes what the plugin writes in an epilog of `job` without an answer.
fn record_end(agent: &TestAgent, job: u32) -> PathBuf {
    let end = MissedEnd::new(JobEnd { job, nodes: Some("n1".into()), at: None });
    write(agent, &MissedEnd::file_name(job), &end.text())
}

#[test]
fn a_job_that_ended_without_an_agent_is_ended_by_the_next_one() {
    for starts_missed in [false, true] {
        let mut agent = TestAgent::new();
        if !starts_missed {
            agent.start(7, "h1");
        }
        let requests = agent.token_requests();
        agent.end();
        if starts_missed {
            record(&agent, 7, Some("h1"));
        }
        let end = record_end(&agent, 7);
        agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
        agent.begin();
        eventually("the end", || !end.exists() && !agent.token(7).parent().unwrap().exists());
        agent.advance(SETTLE);
        assert_eq!((agent.revoked(), agent.token_requests()), (1, requests), "{starts_missed}");
        assert_eq!(fs::read_dir(end.parent().unwrap()).unwrap().count(), 0);
    }
}

#[test]
fn a_stopped_agent_ends_at_its_next_sweep_what_ended_meanwhile() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let (end, other) = (record_end(&agent, 7), record_end(&agent, 99));
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.move_clock(SWEEP);
    eventually("the end", || !end.exists() && !other.exists() && !agent.token(7).exists());
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_record_without_credential_is_removed_and_foreign_names_stay() {
    let mut agent = TestAgent::new();
    agent.end();
    let removed = record(&agent, 8, None);
    let kept = write(&agent, ".13.4711", "");
    agent.begin();
    assert!(!removed.exists() && kept.exists() && agent.token_requests() == 0);
}

/// The name under which the agent keeps it.
fn kept(file: &Path) -> PathBuf {
    file.with_file_name(format!("{}.unreadable", file.file_name().unwrap().display()))
}

#[test]
fn records_that_cannot_be_read_cost_a_running_job_nothing_and_go_with_it() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let later = MissedEnd::new(JobEnd { job: 7, ..JobEnd::default() }).text().replace("\"v\":1", "\"v\":2");
    let records = [write(&agent, "7.json", "{"), write(&agent, &MissedEnd::file_name(7), &later)];
    agent.move_clock(SWEEP);
    eventually("the new names", || records.iter().all(|file| !file.exists() && kept(file).exists()));
    agent.advance(SETTLE);
    assert_eq!((agent.read_token(7).as_str(), agent.status(7).state, agent.revoked()), ("token-1", JobState::Ready, 0));
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.finish(7);
    assert!(!agent.token(7).exists() && records.iter().all(|file| !kept(file).exists()));
    agent.advance(SETTLE);
    assert_eq!(agent.revoked(), 1);
}

#[test]
fn a_job_whose_end_cannot_be_read_is_ended_after_the_answer_of_slurmctld() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let end = write(&agent, &MissedEnd::file_name(7), "");
    agent.squeue_prints(&[(7, "7", "COMPLETED", "n1")]);
    agent.move_clock(MISSING);
    eventually("the end", || !agent.token(7).exists() && !kept(&end).exists());
    agent.wait_until_idle();
    agent.advance(SETTLE);
    assert_eq!((agent.revoked(), agent.has_event(7, &EventKind::Missed)), (1, true));
}

#[test]
fn a_start_that_can_be_read_again_begins_the_job() {
    let mut agent = TestAgent::new();
    agent.end();
    let file = record(&agent, 7, Some("h1"));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    agent.begin();
    assert!(kept(&file).exists() && agent.token_requests() == 0);
    fs::set_permissions(kept(&file), Permissions::from_mode(0o600)).unwrap();
    // The record goes after the lease is stored, and perhaps after the token has come.
    agent.advance(SWEEP);
    assert_eq!((agent.token(7).exists(), kept(&file).exists(), agent.token_requests()), (true, false, 1));
}
