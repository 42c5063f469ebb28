// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows when the server refuses a request.

use super::*;

#[test]
fn a_refusal_without_a_time_stops_requests_for_seconds_and_says_nothing_of_a_limit() {
    let mut ledger = Ledger::default();
    for (refused, wait) in [(0, 5), (2, 3), (6, 10), (20, 20), (45, 40), (90, 60), (151, 60), (272, 5)] {
        ledger.refused(None, refused * SECOND);
        for purpose in [Token, Revocation, Submission] {
            let told = ledger.told_wait(purpose, Some(ALICE), refused * SECOND);
            assert_eq!(told, Some(wait * SECOND), "refused at {refused}");
            assert_eq!(ledger.ask(purpose, Some(ALICE), refused * SECOND), Err(wait * SECOND));
        }
        assert!(ledger.limit(refused * SECOND).is_none());
    }
    assert!((0..500).all(|_| ledger.ask(Submission, Some(ALICE), 277 * SECOND).is_ok()));
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
