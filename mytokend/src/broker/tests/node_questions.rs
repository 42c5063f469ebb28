// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that ask for jobs which they do not have.

use std::time::Instant;

use super::super::messages::{ReplaceAnswer, ReplaceRequest};
use super::*;

impl TestBroker {
    fn questions(&self) -> usize {
        self.fakes.questions.load(Ordering::Relaxed)
    }
}

#[test]
fn a_stolen_node_causes_few_questions_and_holds_up_no_job() {
    let test = TestBroker::new(RUNNING);
    assert_eq!(test.token("n2", 1, 7, "7:a"), Ok("token-0".to_owned()), "it has this job");
    let before = test.questions();
    for job in 100..160 {
        let told = test.token("n2", job, 7, "7:b").unwrap_err();
        assert_eq!(told, format!("later: slurmctld knows no job {job}"));
    }
    let asked = test.questions() - before;
    // Those that are free, and the next ones with their pauses. The regular question may be among them.
    assert!((10..=14).contains(&asked), "{asked} questions");
    // It gets the tokens of its own jobs, also of one that others have made known.
    assert_eq!(test.token("n2", 1, 7, "7:a"), Ok("token-0".to_owned()));
    // A job that starts just now on another node.
    test.prints(Some(&format!("{RUNNING}7|1000|3|3|RUNNING|1000|N/A|n[2-3]|n3\n")));
    let begin = Instant::now();
    assert_eq!(test.token("n3", 3, 7, "7:c"), Ok("token-1".to_owned()));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(test.token("n2", 3, 7, "7:c"), Ok("token-1".to_owned()), "that answer serves it, too");
}

#[test]
fn a_node_is_told_when_to_ask_again_for_a_job_that_stays_away() {
    let test = TestBroker::new(RUNNING);
    let waits = || {
        let request = TokenRequest { job: 99, uid: 7, sealed: "7:b".into(), file: None, patience: 20_000 };
        match test.runtime.block_on(test.broker.token("n1", &request)).outcome {
            TokenOutcome::Later { wait, .. } => wait.unwrap() / 1000,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([waits(), waits(), waits()], [5; 3], "it may have started just now");
    let before = test.questions();
    assert!(waits() <= 5);
    assert_eq!(test.questions(), before + 1);
    assert!((3..=5).contains(&waits()), "the rest of its pause, but not less than usual");
    assert_eq!(test.questions(), before + 1, "slurmctld is not asked meanwhile");
}

#[test]
fn the_start_of_one_job_is_asked_seldom() {
    let test = TestBroker::new(RUNNING);
    let start = |node: &str, job| test.runtime.block_on(test.broker.start(node, job)).map(|start| start.started);
    for _ in 0..4 {
        assert_eq!(start("n1", 1), Ok(Some(1000)));
    }
    let before = test.questions();
    assert_eq!(start("n1", 1), Err("slurmctld was asked about job 1 too often for n1".to_owned()));
    assert_eq!(test.questions(), before);
    assert_eq!((start("n1", 2), start("n2", 1)), (Ok(Some(1000)), Ok(Some(1000))), "another job, another node");
    assert_eq!(test.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()), "tokens do not wait for it");
}

#[test]
fn ends_and_new_credentials_of_wrong_jobs_cause_few_questions() {
    let test = TestBroker::new(RUNNING);
    let end = |job| {
        let ended = EndRequest { job, uid: 7, sealed: format!("7:x{job}") };
        test.runtime.block_on(test.broker.end("n1", &ended)).unwrap()
    };
    // As if it had asked for many before.
    for job in 0..100 {
        for questions in [&test.broker.asking.ended, &test.broker.asking.waiting] {
            questions.in_vain("n1", job, Duration::from_secs(job.into()), test.broker.clock.elapsed());
        }
    }
    let before = test.questions();
    assert!(matches!(end(500), EndAnswer::Waits { .. }), "the end is noted all the same");
    let request = ReplaceRequest { uid: 7, job: 600, sealed: "7:new@5".to_owned(), follows: true };
    let ReplaceAnswer::Refused { reason } = test.runtime.block_on(test.broker.replace("n1", &request)) else {
        panic!()
    };
    assert_eq!(reason, "this host has asked for too many wrong jobs; try again in a minute");
    assert_eq!(test.questions(), before);
}
