// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes on which a job does not run, or not any more, and that do not wait for slurmctld's answer.

use super::super::file_token::FileToken;
use super::*;

#[test]
fn a_node_that_does_not_wait_gets_no_token_of_a_job_that_has_left_it() {
    let (delay, thinking) = (Duration::from_millis(300), Duration::from_millis(300));
    let fakes = Fakes { life: 100, delay, thinking, ..Fakes::default() };
    let test = TestBroker::with(Fakes { squeue: Mutex::new(Some(RUNNING.to_owned())), ..fakes }, Arc::new(SystemClock));
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
    // The job was requeued, and runs on n2 now.
    test.prints(Some("7|1000|1|1|RUNNING|1000|N/A|n2|n2\n"));
    test.ask_slurmctld();
    let at_once = |node: &str| {
        let request = TokenRequest { job: 1, uid: 7, sealed: "7:a".into(), file: None, patience: 0 };
        said(test.runtime.block_on(test.broker.token(node, &request)).unwrap())
    };
    assert_eq!(at_once("n2"), Ok("token-0".to_owned()));
    for node in ["n1", "x1"] {
        assert_eq!(at_once(node), Err("later: slurmctld has not answered the broker within 0 s".to_owned()), "{node}");
    }
    // The one before, while the server is asked for the next one.
    let key = SubmissionKey::new(7, "a", "7:a");
    let mut older = FileToken::default();
    let token = IssuedToken { token: Secret::new("older".to_owned()), left: Duration::from_secs(40), lifetime: 100 };
    let now = test.broker.clock.elapsed();
    older.ask();
    let (_, round) = older.begin(now, Duration::from_secs(30), false).unwrap();
    older.answer(round, Ok(token), now, 0.5);
    test.broker.state().submissions.get_mut(&key).unwrap().tokens.insert(None, older);
    assert!(at_once("n1").is_err_and(|told| told.starts_with("later: slurmctld")));
    assert_eq!(test.counts().0, 1, "it causes no request");
    assert_eq!(at_once("n2"), Ok("older".to_owned()));
}

#[test]
fn a_node_that_asks_for_jobs_of_others_is_counted_whether_it_waits_or_not() {
    let test = TestBroker::new(RUNNING);
    let counted = || test.broker.counts.unauthorized_counts().other_node;
    test.token("n1", 1, 7, "7:a").unwrap();
    test.token("x1", 1, 7, "7:a").unwrap_err();
    test.token("x1", 99, 7, "7:b").unwrap_err();
    assert_eq!(counted(), 2);
    let request = TokenRequest { job: 1, uid: 7, sealed: "7:a".into(), file: None, patience: 0 };
    test.runtime.block_on(test.broker.token("x2", &request)).unwrap();
    test.ask_slurmctld();
    test.until("the count", || counted() == 3);
    let line = "node x2: it asked for job 1, which slurmctld does not show there, and did not wait";
    assert!(!test.broker.told.is_new_of("x2", line, test.broker.clock.elapsed()), "it is logged");
    // It has ended on a node a moment ago.
    test.prints(Some(ENDED));
    test.ask_slurmctld();
    test.token("n1", 1, 7, "7:a").unwrap_err();
    assert_eq!(counted(), 3);
}
