// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everybody can seal a text for any user, with any handle. A node that was stolen knows the handles of the jobs that ran on it.

use super::*;

/// Sealed by somebody else for user 7, with the handle of "7:a".
const FORGED: &str = "x.7:a";

#[test]
fn a_text_of_somebody_else_with_the_same_handle_serves_no_job_of_the_submission() {
    let test = TestBroker::new(RUNNING);
    // This broker has just started. The stolen node is the first to tell something.
    assert!(matches!(test.end(1, FORGED), EndAnswer::Waits { .. }));
    test.token("n2", 1, 7, FORGED).unwrap();
    assert_eq!(test.token("n3", 1, 7, "7:a"), Ok("token-1".to_owned()));
    assert_eq!(*test.fakes.asked.lock().unwrap(), [FORGED, "7:a"]);
}

#[test]
fn the_revocation_of_a_text_of_somebody_else_does_not_count_for_the_submission() {
    let test = TestBroker::new(ALL_ENDED);
    assert!(matches!(test.end(1, FORGED), EndAnswer::Waits { .. }));
    test.ask_slurmctld();
    test.until("the revocation of the forged one", || test.counts() == (0, 1));
    test.until("its end", || test.end(1, FORGED) == EndAnswer::Settled {});
    assert!(matches!(test.end(1, "7:a"), EndAnswer::Waits { .. }));
    test.ask_slurmctld();
    test.until("the revocation", || test.counts() == (0, 2));
    assert_eq!(*test.fakes.revoked.lock().unwrap(), [FORGED, "7:a"]);
}
