// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which jobs are those of a submission. A node that was stolen has the texts of its jobs, and other jobs of the same users.

use super::*;

/// Made when job 1 was submitted. Clocks that are not known may be wrong by an hour.
const TEXT: &str = "7:a@100000";

/// Job 1 runs on nine nodes, job 2 on n1.
fn jobs(first: &str, submitted: u64, second: &str, second_submitted: u64) -> String {
    let end = |state: &str| if state == "RUNNING" { "N/A" } else { "200000" };
    let (first_end, second_end) = (end(first), end(second));
    format!(
        "7|1000|1|1|{first}|{submitted}|{first_end}|n[1-9]|n1\n7|1000|2|2|{second}|{second_submitted}|{second_end}|n1|n1\n"
    )
}

impl TestBroker {
    /// Asks slurmctld so often that what it does not show has ended.
    fn ask_often(&self) {
        (0..5).for_each(|_| self.ask_slurmctld());
    }

    /// The leaders that bind a submission.
    fn bound(&self, handle: &str, sealed: &str) -> Vec<u32> {
        let key = SubmissionKey::new(7, handle, sealed);
        self.broker.state().submissions[&key].binding.leaders.iter().copied().collect()
    }
}

#[test]
fn the_end_of_another_job_revokes_nothing_that_a_running_job_needs() {
    // Job 2 was submitted long before, and then at the same time.
    for second_submitted in [1_000, 100_000] {
        let test = TestBroker::new(&jobs("RUNNING", 100_000, "COMPLETED", second_submitted));
        assert!(matches!(test.end(2, TEXT), EndAnswer::Waits { .. }));
        test.ask_often();
        assert_eq!((test.counts(), test.bound("a@100000", TEXT)), ((0, 0), vec![]), "{second_submitted}");
        // The node brings a text of its own for job 1, which has an own submission then.
        assert_eq!(test.token("n1", 1, 7, "7:x@100000"), Ok("token-0".to_owned()));
        test.ask_often();
        assert_eq!(test.counts(), (1, 0), "{second_submitted}");
        assert_eq!(test.token("n2", 1, 7, TEXT), Ok("token-1".to_owned()), "the job is not refused");
        test.prints(Some(&jobs("COMPLETED", 100_000, "COMPLETED", second_submitted)));
        test.ask_often();
        test.until("both revocations", || test.counts() == (2, 2));
    }
}

#[test]
fn a_running_job_that_was_submitted_at_another_time_binds_no_text() {
    let test = TestBroker::new(&jobs("RUNNING", 100_000, "RUNNING", 1_000));
    assert_eq!(test.token("n1", 2, 7, TEXT), Ok("token-0".to_owned()));
    assert_eq!(test.bound("a@100000", TEXT), Vec::<u32>::new());
    test.prints(Some(&jobs("RUNNING", 100_000, "COMPLETED", 1_000)));
    test.ask_often();
    assert_eq!(test.counts(), (1, 0), "job 1 may have it");
    assert_eq!(test.token("n2", 1, 7, TEXT), Ok("token-0".to_owned()));
    assert_eq!(test.bound("a@100000", TEXT), [1]);
    test.prints(Some(&jobs("RUNNING", 100_000, "RUNNING", 1_000)));
    test.ask_slurmctld();
    assert!(test.token("n1", 2, 7, TEXT).is_err_and(|reason| reason.contains("belongs to job 1")));
}

#[test]
fn before_its_own_job_asks_one_other_job_at_a_time_gets_tokens_with_a_copy() {
    // Both were submitted long before the credential was made.
    let test = TestBroker::new(&jobs("RUNNING", 2_000, "RUNNING", 1_000));
    assert_eq!(test.token("n1", 2, 7, TEXT), Ok("token-0".to_owned()));
    assert!(test.token("n2", 1, 7, TEXT).is_err_and(|reason| reason.contains("belongs to job 2; job 1 has a copy")));
    assert_eq!(test.token("n1", 2, 7, TEXT), Ok("token-0".to_owned()), "that one keeps it");
    // Its own job gets it in any case, and then that one does not.
    test.prints(Some(&jobs("RUNNING", 100_000, "RUNNING", 1_000)));
    test.ask_slurmctld();
    assert_eq!(test.token("n2", 1, 7, TEXT), Ok("token-0".to_owned()));
    assert!(test.token("n1", 2, 7, TEXT).is_err_and(|reason| reason.contains("belongs to job 1")));
    // After the end of the one that had it, another one may have it.
    let test = TestBroker::new(&jobs("RUNNING", 2_000, "RUNNING", 1_000));
    assert_eq!(test.token("n1", 2, 7, TEXT), Ok("token-0".to_owned()));
    test.prints(Some(&jobs("RUNNING", 2_000, "COMPLETED", 1_000)));
    test.ask_slurmctld();
    assert_eq!(test.token("n2", 1, 7, TEXT), Ok("token-0".to_owned()));
}

#[test]
fn a_job_that_was_requeued_keeps_its_sub_token_at_a_broker_that_starts_anew() {
    // A requeue has changed the time of its submission.
    let test = TestBroker::new(&jobs("RUNNING", 200_000, "COMPLETED", 1_000));
    assert_eq!(test.token("n2", 1, 7, TEXT), Ok("token-0".to_owned()));
    assert!(matches!(test.end(2, TEXT), EndAnswer::Waits { .. }));
    test.ask_often();
    assert_eq!(test.counts(), (1, 0));
    test.prints(Some(&jobs("COMPLETED", 200_000, "COMPLETED", 1_000)));
    test.ask_often();
    test.until("the revocation", || test.counts() == (1, 1));
}

#[test]
fn an_end_that_cannot_be_decided_is_revoked_when_no_job_is_left() {
    let test = TestBroker::new(&jobs("RUNNING", 200_000, "COMPLETED", 1_000));
    assert!(matches!(test.end(2, TEXT), EndAnswer::Waits { .. }));
    test.ask_often();
    assert_eq!(test.counts(), (0, 0), "job 1 may have been requeued");
    test.prints(Some(""));
    test.ask_often();
    test.until("the revocation", || test.counts() == (0, 1));
}

#[test]
fn an_end_gives_a_job_no_token_of_a_submission() {
    let test = TestBroker::new(&jobs("RUNNING", 100_000, "RUNNING", 100_000));
    assert_eq!(test.token("n2", 1, 7, TEXT), Ok("token-0".to_owned()));
    assert!(matches!(test.end(2, TEXT), EndAnswer::Waits { .. }));
    test.ask_often();
    assert!(test.token("n1", 2, 7, TEXT).is_err_and(|reason| reason.contains("belongs to job 1")));
    let key = SubmissionKey::new(7, "a@100000", TEXT);
    assert!(!test.broker.state().submissions[&key].jobs.contains(&2));
}
