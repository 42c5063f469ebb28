// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that ask for jobs which they do not have.

use std::time::Instant;

use super::super::messages::{ReplaceAnswer, ReplaceRequest};
use super::replaced::with_store;
use super::*;

impl TestBroker {
    pub(super) fn questions(&self) -> usize {
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
        assert!(told.starts_with(&format!("later: slurmctld knows no job {job}")), "{told}");
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
        match test.runtime.block_on(test.broker.token("n1", &request)).unwrap().outcome {
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
    // It has stayed away for long.
    let now = test.broker.clock.elapsed();
    for answer in 0..9 {
        test.broker.asking.running.in_vain("n1", 99, Duration::from_nanos(answer), now);
    }
    assert!((50..=60).contains(&waits()), "its own pause, which is longer than usual");
}

#[test]
fn a_node_that_does_not_wait_for_the_answers_has_asked_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(RUNNING, temp.path());
    let asking = &test.broker.asking;
    test.ask_slurmctld();
    for job in 100..103 {
        let request = TokenRequest { job, uid: 7, sealed: "7:b".into(), file: None, patience: 0 };
        let answer = test.runtime.block_on(test.broker.token("n2", &request)).unwrap();
        assert!(matches!(answer.outcome, TokenOutcome::Later { .. }));
        test.ask_slurmctld();
    }
    assert_eq!(asking.running.vain("n2"), 3);
    // The server drops the answer when the connection ends.
    let start = |broker: Arc<Broker>| async move { drop(broker.start("n2", 99).await) };
    let end = |broker: Arc<Broker>| async move {
        drop(broker.end("n2", &EndRequest { job: 99, uid: 7, sealed: "7:b".into() }).await);
    };
    let replace = |broker: Arc<Broker>| async move {
        let request = ReplaceRequest { uid: 7, job: 99, sealed: "7:c@5".into(), follows: true };
        drop(broker.replace("n2", &request).await);
    };
    test.runtime.block_on(async {
        let broker = || Arc::clone(&test.broker);
        let asked = [tokio::spawn(start(broker())), tokio::spawn(end(broker())), tokio::spawn(replace(broker()))];
        tokio::task::yield_now().await;
        // All of them before the next turn: the answer may have come.
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        for asked in asked {
            assert!(asked.await.unwrap_err().is_cancelled());
        }
    });
    assert_eq!((asking.hosts.vain("n2"), asking.waiting.vain("n2 7")), (1, 1), "these count at once");
    test.ask_slurmctld();
    assert_eq!([&asking.started, &asking.ended].map(|questions| questions.vain("n2")), [1; 2]);
}

#[test]
fn a_slow_slurmctld_is_no_fault_of_a_node_whose_jobs_run() {
    let fakes = Fakes { life: 100, thinking: Duration::from_millis(100), ..Fakes::default() };
    let test = TestBroker::with(fakes, Arc::new(SystemClock));
    let asking = &test.broker.asking;
    test.prints(Some(""));
    test.ask_slurmctld();
    test.prints(Some(RUNNING));
    // The node's part of the time ends before slurmctld's answer.
    let request = |sealed: &str| TokenRequest { job: 1, uid: 7, sealed: sealed.into(), file: None, patience: 0 };
    for sealed in ["7:a", "7:b"] {
        let answer = test.runtime.block_on(test.broker.token("n1", &request(sealed))).unwrap();
        assert!(matches!(answer.outcome, TokenOutcome::Later { .. }));
    }
    for _ in 0..3 {
        // The last answer does not show job 9, and the next one does.
        test.prints(Some(RUNNING));
        test.ask_slurmctld();
        test.prints(Some(&format!("{RUNNING}7|1000|9|9|COMPLETED|1000|1100|n1|n1\n")));
        test.runtime.block_on(async {
            let start = tokio::time::timeout(Duration::ZERO, test.broker.start("n1", 1)).await;
            let ended = EndRequest { job: 9, uid: 7, sealed: "7:c".into() };
            let end = tokio::time::timeout(Duration::ZERO, test.broker.end("n1", &ended)).await;
            assert!(start.is_err() && end.is_err(), "given up");
        });
        test.ask_slurmctld();
    }
    assert_eq!([&asking.running, &asking.started, &asking.ended].map(|questions| questions.vain("n1")), [0; 3]);
    let now = test.broker.clock.elapsed();
    assert_eq!(asking.running.may_ask("n1", 1, now), Ok(()));
}

#[test]
fn short_jobs_of_a_node_hold_up_no_other_job() {
    let ended: String = (100..103).map(|job| format!("7|1000|{job}|{job}|COMPLETED|1000|1100|n2|n2\n")).collect();
    let test = TestBroker::new(&format!("{RUNNING}{ended}"));
    for job in 100..103 {
        let told = test.token("n2", job, 7, &format!("7:x{job}")).unwrap_err();
        assert_eq!(told, format!("later: slurmctld says that job {job} does not run on n2"));
        assert_eq!(test.runtime.block_on(test.broker.start("n2", job)).unwrap().started, None);
    }
    let vain = |node: &str| test.broker.asking.running.vain(node) + test.broker.asking.started.vain(node);
    assert_eq!(vain("n2"), 0);
    test.token("n3", 100, 7, "7:x100").unwrap_err();
    test.token("n2", 100, 8, "8:x100").unwrap_err();
    assert_eq!((vain("n2"), vain("n3")), (0, 1), "it was not there");
}

#[test]
fn a_node_that_has_to_wait_is_told_that_slurmctld_is_not_asked() {
    let test = TestBroker::new(RUNNING);
    let now = test.broker.clock.elapsed();
    test.ask_slurmctld();
    for job in 100..120 {
        test.broker.asking.running.in_vain("n1", job, Duration::from_nanos(job.into()), now);
    }
    let told = test.token("n1", 99, 7, "7:b").unwrap_err();
    assert!(
        told.starts_with("later: slurmctld knows no job 99; this is its last answer, and it is not asked"),
        "{told}"
    );
    let is_logged = |reason: &str| {
        let line = format!("node n1, job 99 uid 7: no access token: {reason}");
        !test.broker.told.is_new_of("n1", &line, test.broker.clock.elapsed())
    };
    let answered = told.trim_start_matches("later: ");
    assert!(is_logged("slurmctld knows no job 99") && !is_logged(answered), "the same line as after a question");
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
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(RUNNING, temp.path());
    let end = |job| {
        let ended = EndRequest { job, uid: 7, sealed: format!("7:x{job}") };
        test.runtime.block_on(test.broker.end("n1", &ended)).unwrap()
    };
    // As if it had asked for many before.
    for job in 0..100 {
        let (asked, now) = (Duration::from_secs(job.into()), test.broker.clock.elapsed());
        test.broker.asking.ended.in_vain("n1", job, asked, now);
        test.broker.asking.waiting.in_vain("n1 7", job, asked, now);
    }
    let before = test.questions();
    assert!(matches!(end(500), EndAnswer::Waits { .. }), "the end is noted all the same");
    let replace = |uid: u32| {
        let request = ReplaceRequest { uid, job: 600, sealed: format!("{uid}:new@5"), follows: true };
        match test.runtime.block_on(test.broker.replace("n1", &request)) {
            ReplaceAnswer::Refused { reason } => reason,
            ReplaceAnswer::Replaced {} => String::new(),
        }
    };
    assert!(replace(7).starts_with("slurmctld was asked too often about this job, or about wrong jobs"));
    assert_eq!(test.questions(), before);
    assert_eq!(replace(8), "slurmctld knows no job 600 of this user that waits", "another user");
    // As if it had invented many users.
    for uid in 1_000..1_300_u32 {
        test.broker.named_wrong_job("n1", uid, 1, Duration::from_secs(uid.into()));
    }
    let before = test.questions();
    assert_eq!(replace(9), "this host has asked for too many wrong jobs; try again in a minute");
    assert_eq!(test.questions(), before);
}
