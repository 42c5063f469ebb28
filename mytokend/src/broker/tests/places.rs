// SPDX-License-Identifier: MIT OR Apache-2.0
//! Places that one host takes.

use super::super::places::{MOST_OF_HOST, NO_ROOM, submission};
use super::*;

#[test]
fn a_node_that_makes_up_submissions_leaves_places_and_causes_no_questions() {
    let test = TestBroker::new(RUNNING);
    test.ask_slurmctld();
    let admitted = test.broker.admit(1, 7, "7:x").unwrap();
    {
        let mut state = test.broker.state();
        for number in 0..MOST_OF_HOST {
            let key = SubmissionKey::new(7, &number.to_string(), "7:x");
            assert!(submission(&mut state, &key, "7:x", &admitted, "n1").is_some());
        }
    }
    let questions = || test.fakes.questions.load(Ordering::Relaxed);
    let before = questions();
    assert_eq!(test.token("n1", 1, 7, "7:a"), Err(format!("later: {NO_ROOM}")));
    // The last answer does not show this job.
    assert!(matches!(test.end(99, "7:b"), EndAnswer::Waits { .. }));
    assert_eq!(questions(), before);
    assert_eq!(test.broker.state().submissions.len(), MOST_OF_HOST);
    assert_eq!(test.token("n2", 1, 7, "7:a"), Ok("token-0".to_owned()));
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()), "it has its place");
    // The places are counted again with each answer.
    test.ask_slurmctld();
    assert_eq!(test.token("n1", 2, 7, "7:c"), Err(format!("later: {NO_ROOM}")));
}
