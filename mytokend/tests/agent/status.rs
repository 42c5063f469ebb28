// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the agent says about jobs and sessions, and to whom.

use mytoken_wire::agent::{Answer, Condition, JobStart, Request, Status, StatusQuery};
use mytokend::jobs::Window;

use crate::harness::{EXPIRY, NOW, RENEWAL, TestAgent, me, outage, revocation, step};

/// A user without jobs.
const STRANGER: u32 = 4_242;

fn condition(agent: &TestAgent, job: u32) -> Condition {
    agent.status(job).condition.unwrap()
}

fn shown(agent: &TestAgent, job: &str) -> Vec<u32> {
    let query = StatusQuery { job: job.parse().ok(), all: false };
    agent.ask(&query).unwrap().jobs.iter().map(|job| job.job).collect()
}

#[test]
fn jobs_are_found_by_the_ids_that_slurm_prints() {
    let agent = TestAgent::new();
    let sealed = Some(format!("{}:h1", me().uid));
    for (job, name) in [(11, "10_1"), (12, "10_2"), (31, "30+1")] {
        agent.start_with(&JobStart { name: name.parse().ok(), sealed: sealed.clone(), ..step(job) });
    }
    for (asked, jobs) in
        [("10", &[11, 12][..]), ("11", &[11]), ("10_2", &[12]), ("10_2.batch", &[12]), ("30+1", &[31]), ("10_3", &[])]
    {
        assert_eq!(shown(&agent, asked), jobs, "{asked}");
    }
    assert_eq!(agent.status(12).name.unwrap().to_string(), "10_2");
}

#[test]
fn the_condition_is_what_is_on_disk_and_what_the_server_last_said() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let status = agent.status(7);
    assert_eq!((status.condition, status.running), (Some(Condition::Valid), true));
    assert_eq!((status.token_until, status.file), (Some(NOW + 3_600), Some(agent.token(7).display().to_string())));
    std::fs::remove_file(agent.token(7)).unwrap();
    assert_eq!(condition(&agent, 7), Condition::FileMissing);
    std::fs::write(agent.token(7), "what a program of the user wrote").unwrap();
    assert_eq!(condition(&agent, 7), Condition::FileMissing);
    agent.services.with(|script| script.failure = Some(outage()));
    agent.advance(RENEWAL);
    let begin = agent.clock.now();
    agent.start(8, "h2");
    agent.advance(EXPIRY);
    let status = agent.status(8);
    assert_eq!((status.condition, status.since, status.token_until), (Some(Condition::Outage), Some(begin), None));
    agent.services.with(|script| script.failure = None);
    agent.advance(EXPIRY);
    assert_eq!((condition(&agent, 7), condition(&agent, 8)), (Condition::Valid, Condition::Valid));
    agent.services.with(|script| script.failure = Some(revocation()));
    agent.advance(EXPIRY);
    assert_eq!(condition(&agent, 8), Condition::Refused);
    agent.finish(7);
    let ended = agent.status(7);
    assert_eq!((ended.condition, ended.running, ended.file), (Some(Condition::Ended), false, None));
}

#[test]
fn a_window_that_has_not_begun_is_waited_for() {
    let agent = TestAgent::new();
    agent.services.with(|script| script.windows = vec![Window { nbf: Some(NOW + 3_600), exp: None }]);
    agent.start(7, "h1");
    let status = agent.status(7);
    assert_eq!((status.condition, status.from), (Some(Condition::Waiting), Some(NOW + 3_600)));
}

#[test]
fn users_see_their_own_and_root_all_that_it_asks_for() {
    let agent = TestAgent::new();
    agent.start(7, "h1");
    let count = |query: StatusQuery, uid: u32, trusted: bool| match agent.answer(Request::Status(query), uid, trusted) {
        Answer::Status(Status { jobs, .. }) => Ok(jobs.len()),
        Answer::Error(reason) => Err(reason),
        other => panic!("{other:?}"),
    };
    let (own, all) = (StatusQuery::default(), StatusQuery { job: None, all: true });
    let named = StatusQuery { job: "7".parse().ok(), all: false };
    assert_eq!(count(own, me().uid, false), Ok(1));
    assert_eq!((count(own, STRANGER, false), count(named, STRANGER, false)), (Ok(0), Ok(0)));
    assert!(count(all, STRANGER, false).unwrap_err().contains("only root"));
    assert_eq!(
        (count(own, STRANGER, true), count(named, STRANGER, true), count(all, STRANGER, true)),
        (Ok(0), Ok(1), Ok(1))
    );
}
