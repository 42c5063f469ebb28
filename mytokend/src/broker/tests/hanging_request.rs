// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request to a mytoken server that hangs.

use std::time::Instant;

use super::*;

#[test]
fn the_nodes_of_a_job_do_not_wait_for_a_request_that_hangs() {
    let fakes = Fakes { life: 100, hang: Duration::from_secs(8), ..Fakes::default() };
    let fakes = Fakes { squeue: Mutex::new(Some(RUNNING.to_owned())), ..fakes };
    let test = TestBroker::with(fakes, Arc::new(SystemClock));
    let begin = Instant::now();
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-1".to_owned()));
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    assert_eq!(test.token("n2", 1, 7, "7:a"), Ok("token-1".to_owned()));
    assert_eq!(test.counts().0, 2, "the first, and one more");
}
