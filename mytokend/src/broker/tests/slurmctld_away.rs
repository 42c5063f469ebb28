// SPDX-License-Identifier: MIT OR Apache-2.0
//! slurmctld does not answer.

use super::*;

#[test]
fn without_slurmctld_known_jobs_go_on_and_nothing_ends() {
    let test = TestBroker::new(RUNNING);
    test.token("n1", 1, 7, "7:a").unwrap();
    test.prints(None);
    test.ask_slurmctld();
    assert_eq!(test.token("n2", 1, 7, "7:a"), Ok("token-0".to_owned()));
    let unknown = test.token("n1", 5, 7, "7:b").unwrap_err();
    assert!(unknown.starts_with("later: the broker cannot ask slurmctld about the job: "), "{unknown}");
    assert_eq!(test.counts(), (1, 0));
}

#[test]
fn a_broker_that_starts_while_slurmctld_is_away_says_so() {
    let test = TestBroker::new(RUNNING);
    test.prints(None);
    let told = test.token("n1", 1, 7, "7:a").unwrap_err();
    assert!(told.starts_with("later: the broker cannot ask slurmctld about the job: "), "{told}");
    test.prints(Some(RUNNING));
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
}
