// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to the socket, and malformed requests.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use mytoken_wire::agent::{LINE_LIMIT, StatusQuery, VERSION};

use crate::harness::{TestAgent, me, step};
use crate::ordinary_user::as_ordinary_user;
use crate::skipped::skip;

fn raw(agent: &TestAgent, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    // The agent may close the connection when the line is too long.
    let _ = stream.write_all(bytes);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn every_user_may_connect() {
    let agent = TestAgent::new();
    let mode = std::fs::metadata(agent.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
}

#[test]
fn a_malformed_request_is_refused_and_not_quoted() {
    let agent = TestAgent::new();
    for (line, word) in [
        ("\n", "malformed"),
        ("{\"v\":1}\n", "unknown or malformed"),
        ("{\"v\":2,\"call\":\"status\"}\n", "version 1"),
        ("{\"v\":1,\"call\":\"job_end\",\"job\":\"eyJhbGciOiJIUzI1NiJ9\"}\n", "unknown or malformed"),
        ("{\"v\":1,\"call\":\"rm\"}\n", "unknown or malformed"),
    ] {
        let answer = raw(&agent, line.as_bytes());
        assert!(answer.contains("\"error\"") && answer.contains(word) && !answer.contains("eyJ"), "{line}: {answer}");
    }
    let answer = raw(&agent, &vec![b'x'; LINE_LIMIT + 5000]);
    assert!(answer.is_empty() || answer.contains("at most"), "{answer}");
    assert!(agent.ask(&StatusQuery::default()).is_ok(), "the agent still works");
}

#[test]
fn a_program_of_a_neighbouring_version_is_told_what_to_do() {
    let agent = TestAgent::new();
    for v in [VERSION - 1, VERSION + 1] {
        let answer = raw(&agent, format!("{{\"v\":{v},\"call\":\"status\"}}\n").as_bytes());
        let told = format!("this agent uses version {VERSION} of the protocol, not {v}; restart it after an upgrade");
        assert_eq!(answer, format!("{{\"v\":{VERSION},\"error\":\"{told}\"}}\n"));
    }
    // Of a later release, with the same version: what is new is not read.
    let answer = raw(&agent, b"{\"v\":1,\"call\":\"status\",\"all\":false,\"news\":{\"a\":[1]}}\n");
    assert!(answer.starts_with("{\"v\":1,\"status\":"), "{answer}");
}

#[test]
fn a_user_sees_only_their_own_jobs() {
    if me().uid != 0 {
        return skip("only root can send a request as another user").unwrap();
    }
    let agent = TestAgent::new();
    agent.start(7, "h1");
    std::fs::set_permissions(agent.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let [status, end] = ["{\"v\":1,\"call\":\"status\"}\n", "{\"v\":1,\"call\":\"job_end\",\"job\":7}\n"]
        .map(|line| as_ordinary_user(|| raw(&agent, line.as_bytes())));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(status, format!("{{\"v\":1,\"status\":{{\"node\":\"n1\",\"jobs\":[],\"version\":\"{version}\"}}}}\n"));
    assert!(end.contains("only root"), "{end}");
    assert!(agent.token(7).exists());
}

#[test]
fn a_long_list_of_jobs_fits_into_one_answer() {
    let agent = TestAgent::new();
    for job in 1..=600 {
        agent.start_with(&step(job));
    }
    let status = agent.ask(&StatusQuery::default()).unwrap();
    assert!(
        status.omitted > 0 && status.jobs.len() + status.omitted == 600,
        "{} {}",
        status.jobs.len(),
        status.omitted
    );
}
