// SPDX-License-Identifier: MIT OR Apache-2.0
//! Credentials that this broker cannot open, and another one perhaps can.

use super::*;

#[test]
fn a_job_whose_credential_another_broker_may_open_is_not_refused() {
    let test = TestBroker::new(RUNNING);
    assert_eq!(test.token("n1", 1, 7, "7:foreign"), Err("sealed to another key".to_owned()), "the node asks that one");
    assert_eq!(test.token("n1", 1, 7, "7:retired"), Err("refused: its key was retired".to_owned()));
    // The key has come.
    test.fakes.has_key.store(true, Ordering::Relaxed);
    assert_eq!(test.token("n1", 1, 7, "7:foreign"), Ok("token-0".to_owned()));
}

#[test]
fn an_end_whose_credential_another_broker_may_open_is_not_settled() {
    let test = TestBroker::new(ALL_ENDED);
    assert_eq!(test.try_to_end(1, "7:foreign"), Err("sealed to another key".to_owned()));
    let line = "node n1, job 1 uid 7: its sub-token is not revoked here: sealed to another key";
    assert!(!test.broker.told.is_new_of("n1", line, test.broker.clock.elapsed()), "it is logged");
    assert_eq!(test.end(1, "8:a"), EndAnswer::Settled {}, "it is another user's");
    assert_eq!(test.end(1, "7:expired"), EndAnswer::Settled {});
    // The key has come.
    test.fakes.has_key.store(true, Ordering::Relaxed);
    assert!(matches!(test.end(1, "7:foreign"), EndAnswer::Waits { .. }));
    test.ask_slurmctld();
    test.until("a revocation", || test.counts() == (0, 1));
}

#[test]
fn a_node_that_makes_up_jobs_fills_the_log_with_no_more_than_its_part() {
    let test = TestBroker::new(RUNNING);
    for job in 1..=200 {
        assert!(test.token("n1", job, 0, "x").is_err_and(|reason| reason.starts_with("refused: ")));
    }
    let now = test.broker.clock.elapsed();
    assert!(!test.broker.told.is_new_of("n1", "one more", now), "it is counted");
    assert!(test.broker.told.is_new_of("n2", "one more", now));
}
