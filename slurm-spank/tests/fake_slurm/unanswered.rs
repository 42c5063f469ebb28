// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps while no agent answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::{FakeAgent, without_time};
use super::host::{HANDLE, Host, SEALED};
use super::steps::{TASK_REFUSED, TASK_RUNS, epilog, step, with_credential};

/// An access token in the file of the job's user, in place of the agent's.
fn put_token(agent: &FakeAgent, token: &str) {
    let file = agent.file(4711, 2001);
    std::fs::create_dir_all(Path::new(&file).parent().unwrap()).unwrap();
    std::fs::write(file, token).unwrap();
}

fn record_of(agent: &FakeAgent) -> PathBuf {
    agent.socket().with_file_name("missed/4711.json")
}

/// The time that a record tells, milliseconds since boot.
fn time(record: &str) -> u64 {
    let (_, rest) = record.split_once(r#""at":"#).unwrap();
    rest.trim_end_matches('}').parse().unwrap()
}

const REQUIRED: &str = "job SLURM_SPANK__SLURM_SPANK_OPTION_mytoken_mytoken required";

/// A JWT that expired in 1970, and one that expires in 2100.
const EXPIRED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjEwMDB9.c2ln";
const VALID: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln";

#[test]
fn a_job_that_requires_a_token_starts_without_an_agent_if_its_file_is_valid() {
    for agent in [FakeAgent::down(), FakeAgent::answering(None), FakeAgent::answering(Some("nonsense"))] {
        for (token, runs) in [(VALID, true), ("opaque", true), (EXPIRED, false), ("", false)] {
            put_token(&agent, token);
            let seen = with_credential(&agent, &[REQUIRED, "arg agent_seconds=1"]);
            let end = if runs { TASK_RUNS } else { TASK_REFUSED };
            assert!(seen.all_zero() && seen.has(end), "{token}: {:?}", seen.lines);
            if runs {
                assert!(seen.took < Duration::from_millis(900), "{token}: {:?}", seen.took);
                assert_eq!(seen.job("BEARER_TOKEN_FILE"), Some(agent.file(4711, 2001).as_str()));
                assert!(matches!(&seen.logs()[..], [log] if log.contains("is still valid")), "{:?}", seen.logs());
            }
        }
    }
}

#[test]
fn an_agent_without_answer_costs_a_job_one_wait_and_finds_the_job_later() {
    for agent in [FakeAgent::down(), FakeAgent::answering(None)] {
        let first = with_credential(&agent, &["arg agent_seconds=2"]);
        assert!(first.took >= Duration::from_millis(1400), "{:?}", first.took);
        let record = std::fs::read_to_string(record_of(&agent)).unwrap();
        assert!(record.contains(&format!(r#""sealed":"{SEALED}","handle":"{HANDLE}""#)), "{record}");
        let second = with_credential(&agent, &["arg agent_seconds=2"]);
        // A step from another session brings no credential and keeps the record of the one that did.
        std::fs::create_dir_all(Path::new(&agent.file(4711, 2001)).parent().unwrap()).unwrap();
        let attached = step(Host::step(7), &agent, &["arg agent_seconds=2"]);
        for seen in [&second, &attached] {
            assert!(
                seen.all_zero() && seen.has(TASK_RUNS) && seen.took < Duration::from_millis(900),
                "{:?}",
                seen.took
            );
        }
        assert_eq!(std::fs::read_to_string(record_of(&agent)).unwrap(), record);
    }
}

#[test]
fn an_answer_and_the_end_of_the_job_remove_the_record_of_its_start() {
    let agent = FakeAgent::ready();
    let write = || {
        std::fs::create_dir_all(record_of(&agent).parent().unwrap()).unwrap();
        let text = r#"{"v":1,"uptime":1,"start":{"job":4711,"step":0,"uid":1,"gid":1}}"#;
        std::fs::write(record_of(&agent), text).unwrap();
    };
    write();
    with_credential(&agent, &[]);
    assert!(!record_of(&agent).exists());
    write();
    epilog(&agent, &[&format!("env SPANK_MYTOKEN_H {HANDLE}")]);
    assert!(!record_of(&agent).exists());
}

#[test]
fn an_end_without_an_agent_is_recorded_until_the_job_starts_again() {
    for agent in [FakeAgent::down(), FakeAgent::answering(None)] {
        with_credential(&agent, &["arg agent_seconds=1"]);
        let end = agent.socket().with_file_name("missed/4711.end.json");
        let seen = epilog(&agent, &[&format!("env SPANK_MYTOKEN_H {HANDLE}"), "env SLURM_JOB_NODELIST n[1-2]"]);
        assert!(seen.has("hook job_epilog 0"), "{:?}", seen.lines);
        let ended = std::fs::read_to_string(&end).unwrap();
        assert_eq!(without_time(&ended), r#"{"v":1,"end":{"job":4711,"nodes":"n[1-2]"}}"#);
        let began = std::fs::read_to_string(record_of(&agent)).expect("perhaps no other agent knows the credential");
        // The next run waits for an agent as the first one did, and is recorded as a run that began after the end.
        let next = with_credential(&agent, &["arg agent_seconds=1"]);
        assert!(next.took >= Duration::from_millis(900) && !end.exists(), "{:?}", next.took);
        let again = std::fs::read_to_string(record_of(&agent)).unwrap();
        assert!(time(&began) < time(&ended) && time(&ended) < time(&again), "{began} {ended} {again}");
    }
}

#[test]
fn a_step_from_outside_the_job_does_not_cost_the_job_its_record() {
    // The agent may have answered it before it has served the record.
    for (agent, record) in
        [(FakeAgent::ready(), r#"{"v":1,"uptime":1,"start":{"job":4711}}"#), (FakeAgent::down(), "{")]
    {
        std::fs::create_dir_all(Path::new(&agent.file(4711, 2001)).parent().unwrap()).unwrap();
        std::fs::create_dir_all(record_of(&agent).parent().unwrap()).unwrap();
        std::fs::write(record_of(&agent), record).unwrap();
        step(Host::step(7), &agent, &["arg agent_seconds=1"]);
        assert_eq!(std::fs::read_to_string(record_of(&agent)).unwrap(), record);
        with_credential(&agent, &["arg agent_seconds=1"]);
        assert_ne!(std::fs::read_to_string(record_of(&agent)).unwrap_or_default(), record);
    }
}
