// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows when the server refuses a request.

use super::*;

#[test]
fn a_refusal_without_a_time_stops_requests_for_seconds_and_says_nothing_of_a_limit() {
    let mut ledger = Ledger::default();
    for (refused, wait) in [(0, 2), (1, 1), (6, 4), (20, 8), (45, 16), (90, 32), (151, 60), (212, 60), (333, 2)] {
        ledger.refused(None, refused * SECOND);
        for purpose in [Token, Revocation, Submission] {
            let told = ledger.told_wait(purpose, Some(ALICE), refused * SECOND);
            assert_eq!(told, Some(wait * SECOND), "refused at {refused}");
            assert_eq!(ledger.ask(purpose, Some(ALICE), refused * SECOND), Err(wait * SECOND));
        }
        assert!(ledger.limit(refused * SECOND).is_none());
    }
    assert!((0..500).all(|_| ledger.ask(Submission, Some(ALICE), 336 * SECOND).is_ok()));
}

#[test]
fn after_a_request_that_is_granted_the_next_wait_is_short_again() {
    let mut ledger = Ledger::default();
    let mut refused = |at: u64, granted: Option<u64>| {
        ledger.refused(None, at * SECOND);
        let wait = ledger.ask(Token, None, at * SECOND).unwrap_err();
        granted.into_iter().for_each(|at| ledger.granted(at * SECOND));
        wait / SECOND
    };
    assert_eq!(refused(0, None), 2);
    assert_eq!(refused(3, Some(5)), 4, "nothing was granted");
    assert_eq!(refused(8, Some(17)), 8, "what was granted during the wait may have been sent before it");
    assert_eq!(refused(18, None), 2);
}

#[test]
fn a_refusal_without_a_limit_stops_everything_until_its_end_and_submissions_longer() {
    let mut ledger = Ledger::default();
    (0..40).for_each(|_| ledger.count(Submission, Some(ALICE), 0));
    ledger.refused(Some(Duration::from_secs(60)), SECOND);
    assert_eq!(ledger.ask(Token, None, 2 * SECOND), Err(61 * SECOND));
    assert!(ledger.ask(Submission, Some(BOB), 2 * SECOND).is_err());
    // A guessed limit of 40 holds for submissions, and never for a running job.
    assert!((0..100).all(|_| ledger.ask(Token, None, 64 * SECOND).is_ok()));
    assert!(ledger.ask(Submission, Some(ALICE), 64 * SECOND).is_err());
    ledger.refused(Some(Duration::from_secs(u64::MAX)), 70 * SECOND);
    assert!(ledger.ask(Token, None, 70 * SECOND).unwrap_err() <= 903 * SECOND, "no server stops a host for ever");
}
