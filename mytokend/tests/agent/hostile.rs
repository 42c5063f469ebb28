// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callers who harm: the agent still answers root, whose steps wait for their tokens.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mytoken::Deadline;
use mytoken_wire::JobName;
use mytoken_wire::agent::{JobStart, JobState, Replace, StatusQuery, ask};
use proptest::prelude::*;

use crate::harness::{SETTLE, TestAgent, eventually, me, step};
use crate::ordinary_user::as_ordinary_user;
use crate::skipped::skip;

/// Longest wait of a starting step in these tests. Alone it takes a few milliseconds.
const SOON: Duration = Duration::from_secs(2);

/// An agent that others may connect to; `None` without root, because then there are no others.
fn agent_with_others() -> Option<TestAgent> {
    if me().uid != 0 {
        skip("only root can send a request as another user").unwrap();
        return None;
    }
    let agent = TestAgent::new();
    std::fs::set_permissions(agent.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(agent)
}

/// Starts jobs from `first` on, as root, and returns the longest time that one took.
fn start_jobs(agent: &TestAgent, first: u32, count: u32) -> Duration {
    let times = (first..first + count).map(|job| {
        let begin = Instant::now();
        assert_eq!(agent.start(job, &format!("h{job}")).state, JobState::Ready);
        begin.elapsed()
    });
    times.max().unwrap()
}

/// Connects and sends a part of a request.
fn half_open(socket: &Path) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"{\"v\":1,")?;
    Ok(stream)
}

#[test]
fn ten_thousand_connections_of_a_user_do_not_delay_a_step() {
    let Some(agent) = agent_with_others() else { return };
    let socket = agent.socket();
    let (made, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let longest = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                as_ordinary_user(|| {
                    let mut held = std::collections::VecDeque::new();
                    while made.fetch_add(1, Ordering::Relaxed) < 10_000 || !done.load(Ordering::Relaxed) {
                        held.extend(half_open(&socket));
                        if held.len() > 100 {
                            held.pop_front();
                        }
                    }
                });
            });
        }
        eventually("a thousand connections", || made.load(Ordering::Relaxed) > 1_000);
        let longest = start_jobs(&agent, 1, 20);
        done.store(true, Ordering::Relaxed);
        longest
    });
    assert!(made.load(Ordering::Relaxed) >= 10_000 && longest < SOON, "{longest:?}");
    assert!(agent.ask(&StatusQuery { job: Some(JobName::Job(1)), all: false }).is_ok());
}

#[test]
fn requests_for_the_status_do_not_delay_a_step() {
    let Some(agent) = agent_with_others() else { return };
    let socket = agent.socket();
    start_jobs(&agent, 1, 200);
    let (answers, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let longest = std::thread::scope(|scope| {
        for number in 0..4 {
            let (answers, done, socket) = (&answers, &done, &socket);
            let status = move || {
                while !done.load(Ordering::Relaxed) {
                    let Ok(mut stream) = UnixStream::connect(socket) else { continue };
                    let _ = stream.write_all(b"{\"v\":1,\"call\":\"status\"}\n");
                    let mut answer = String::new();
                    if stream.read_to_string(&mut answer).is_ok_and(|length| length > 0) {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            // Also root's, with the long answers.
            scope.spawn(move || if number == 0 { status() } else { as_ordinary_user(status) });
        }
        eventually("some answers", || answers.load(Ordering::Relaxed) > 20);
        let longest = start_jobs(&agent, 1001, 20);
        done.store(true, Ordering::Relaxed);
        longest
    });
    assert!(longest < SOON, "{longest:?}");
}

#[test]
fn slow_and_silent_callers_are_cut_off_and_delay_nobody() {
    let Some(agent) = agent_with_others() else { return };
    let socket = agent.socket();
    let begin = Instant::now();
    // The first is silent, the second sends a byte from time to time.
    let mut callers = as_ordinary_user(|| [half_open(&socket).unwrap(), half_open(&socket).unwrap()]);
    assert!(start_jobs(&agent, 1, 5) < SOON);
    let mut ends = [None, None];
    while ends.contains(&None) && begin.elapsed() < Duration::from_secs(20) {
        let _ = callers[1].write_all(b" ");
        for (caller, end) in callers.iter_mut().zip(&mut ends) {
            caller.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            if end.is_none() && caller.read(&mut [0; 64]).is_ok_and(|length| length == 0) {
                *end = Some(begin.elapsed());
            }
        }
    }
    assert!(ends.iter().all(|end| end.is_some_and(|end| end < Duration::from_secs(10))), "{ends:?}");
}

#[test]
fn a_server_that_hangs_leaves_connections_to_users_and_workers_to_jobs() {
    let Some(agent) = agent_with_others() else { return };
    let (socket, uid) = (agent.socket(), 65_534);
    for job in 1..=4 {
        agent.start_with(&JobStart { uid, gid: uid, sealed: Some(format!("{uid}:h{job}")), ..step(job) });
    }
    agent.services.with(|script| (script.hold_tokens, script.hold_lane) = (true, true));
    let replace = |job: u32| {
        let request = Replace { job: JobName::Job(job), sealed: format!("{uid}:new{job}") };
        as_ordinary_user(|| ask(&socket, &request, Deadline::after(Duration::from_secs(60))))
    };
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (1..=4).map(|job| scope.spawn(move || replace(job).map_err(|error| error.to_string()))).collect();
        eventually("the other ones' end", || threads.iter().filter(|thread| thread.is_finished()).count() == 2);
        agent.services.with(|script| script.hold_tokens = false);
        let status = || ask(&socket, &StatusQuery::default(), Deadline::after(Duration::from_secs(60)));
        assert_eq!(as_ordinary_user(status).unwrap().jobs.len(), 4);
        assert!(start_jobs(&agent, 10, 10) < SOON);
        agent.services.with(|script| script.hold_lane = false);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let refused: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(refused.len() == 2 && refused.iter().all(|text| text.contains("too many requests")), "{refused:?}");
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let agent = TestAgent::new();
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    let mut sent = 0;
    while sent < 100 << 20 {
        match stream.write(&[b'x'; 65_536]) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    assert!(sent < 1 << 20, "the agent read {sent} bytes");
    assert!(start_jobs(&agent, 1, 1) < SOON);
}

#[test]
fn a_request_whose_caller_is_gone_is_dropped_unless_it_tells_an_end() {
    let agent = TestAgent::new();
    agent.start(7, "h7");
    let send_and_leave = |line: &str| {
        // Without a newline: the agent has the whole request when the connection ends, so there is no race.
        let mut stream = UnixStream::connect(agent.socket()).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
    };
    let uid = me().uid;
    send_and_leave(&format!(
        "{{\"v\":1,\"call\":\"job_start\",\"job\":8,\"step\":0,\"uid\":{uid},\"gid\":{uid},\"sealed\":\"{uid}:h8\"}}"
    ));
    send_and_leave("{\"v\":1,\"call\":\"job_end\",\"job\":7}");
    eventually("the end of the job", || !agent.token(7).exists());
    agent.advance(SETTLE);
    assert!(agent.ask(&StatusQuery { job: Some(JobName::Job(8)), all: false }).unwrap().jobs.is_empty());
    assert_eq!(agent.token_requests(), 1);
    // With a caller who waits, the same line is answered.
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    writeln!(
        stream,
        "{{\"v\":1,\"call\":\"job_start\",\"job\":8,\"step\":0,\"uid\":{uid},\"gid\":{uid},\"sealed\":\"{uid}:h8\"}}"
    )
    .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("ready"), "{answer}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_line_of_a_user_ends_the_agent(
        lines in proptest::collection::vec(r#"(\{"v":1,"call":"(status|job_start|job_end|session_start)"[,"a-z:0-9\[\]\{\}\\\-]{0,40}\}?|.{0,60})"#, 1..8),
    ) {
        thread_local!(static AGENT: TestAgent = TestAgent::new());
        AGENT.with(|agent| {
            for line in &lines {
                let mut stream = UnixStream::connect(agent.socket()).unwrap();
                let _ = stream.write_all(line.as_bytes());
                let _ = stream.write_all(b"\n");
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                assert!(answer.starts_with("{\"v\":1,") && answer.ends_with("}\n"), "{line}: {answer}");
            }
            assert!(agent.ask(&StatusQuery::default()).is_ok());
        });
    }
}
