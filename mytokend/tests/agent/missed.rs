// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that began while no agent answered.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mytoken_wire::agent::{EventKind, JobStart, JobState, MissedStart};

use crate::harness::{SWEEP, TestAgent, eventually, me, step};

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
    // The job is known already: nothing happens a second time.
    let file = record(&agent, 7, Some("h1"));
    agent.move_clock(SWEEP);
    eventually("the end of the record", || !file.exists());
    assert_eq!((agent.token_requests(), agent.events(7).len()), (1, 2));
}

#[test]
fn a_record_ends_with_its_job() {
    let agent = TestAgent::new();
    let file = record(&agent, 7, Some("h1"));
    agent.finish(7);
    assert!(!file.exists() && !agent.token(7).exists());
}

#[test]
fn records_that_start_no_job_are_removed_and_foreign_names_stay() {
    let mut agent = TestAgent::new();
    agent.end();
    let removed = [
        record(&agent, 8, None),
        write(&agent, "9.json", "{"),
        write(&agent, "10.json", &MissedStart::new(step(11), 1).text()),
    ];
    let readable = record(&agent, 12, Some("h1"));
    fs::set_permissions(&readable, Permissions::from_mode(0o644)).unwrap();
    let kept = write(&agent, ".13.4711", "");
    agent.begin();
    eventually("the end of the records", || removed.iter().all(|file| !file.exists()) && !readable.exists());
    assert!(kept.exists() && agent.token_requests() == 0);
}
