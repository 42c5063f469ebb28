// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many questions nodes cause.

use super::*;

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many questions a node causes in this time that asks each second for the job that `job` names, and never has it.
fn questions(seconds: u64, job: impl Fn(u64) -> u32) -> usize {
    let questions = NodeQuestions::with_free(FREE);
    let asks = |second: &u64| {
        let (job, now) = (job(*second), at(*second));
        let may = questions.may_ask("n1", job, now).is_ok();
        if may {
            questions.in_vain("n1", job, now, now);
        }
        may
    };
    (1..=seconds).filter(asks).count()
}

#[test]
fn a_stolen_node_causes_few_questions_whatever_it_asks_for() {
    for (what, count) in [
        ("another job each time", questions(3600, |second| u32::try_from(second).unwrap())),
        ("some jobs in turn", questions(3600, |second| u32::try_from(second % 60).unwrap())),
        ("one job", questions(3600, |_| 7)),
    ] {
        // Four in a minute, where each request would cause one.
        assert!((20..=280).contains(&count), "{what}: {count}");
    }
}

#[test]
fn a_job_that_has_just_started_waits_for_nobody() {
    let questions = NodeQuestions::with_free(FREE);
    // slurmctld shows it on the node with the fourth answer. Agents ask again after five seconds.
    for second in [0, 5, 10] {
        assert_eq!(questions.may_ask("n1", 7, at(second)), Ok(()));
        assert!(!questions.in_vain("n1", 7, at(second), at(second)));
    }
    assert_eq!(questions.may_ask("n1", 7, at(15)), Ok(()));
    questions.found("n1", 7);
    // 200 jobs start at once, and share the answers.
    for answer in [20, 21] {
        for job in 100..300 {
            assert_eq!(questions.may_ask("n1", job, at(answer)), Ok(()), "{job}");
            questions.in_vain("n1", job, at(answer), at(answer));
        }
    }
    assert_eq!(questions.may_ask("n1", 99, at(22)), Ok(()));
}

#[test]
fn a_job_that_stays_away_holds_up_itself_and_no_other_one() {
    let questions = NodeQuestions::with_free(FREE);
    let mut asked = Vec::new();
    for second in (0..1200).step_by(5) {
        if questions.may_ask("n1", 7, at(second)).is_ok() {
            assert!(!questions.in_vain("n1", 7, at(second), at(second)), "{second}");
            asked.push(second);
        }
        assert_eq!(questions.may_ask("n1", 8, at(second)), Ok(()), "{second}");
    }
    assert_eq!(asked.get(..8), Some(&[0, 5, 10, 15, 20, 30, 50, 90][..]));
    assert!(asked.len() < 30, "{asked:?}");
}

#[test]
fn other_nodes_do_not_wait_and_the_node_does_not_wait_for_ever() {
    let questions = NodeQuestions::with_free(FREE);
    let waits =
        (1..=FREE + MOST).filter(|number| questions.in_vain("n1", *number, at(u64::from(*number)), at(100))).count();
    assert_eq!(waits, 7);
    assert_eq!(questions.may_ask("n1", 999, at(100)), Err(LONGEST));
    assert_eq!(questions.may_ask("n2", 999, at(100)), Ok(()));
    assert_eq!(questions.may_ask("n1", 999, at(160)), Ok(()));
    assert!(!questions.in_vain("n1", 999, at(400), at(400)), "what is long ago is forgotten");
}

#[test]
fn questions_that_are_given_up_count_once_for_each_answer() {
    let questions = NodeQuestions::with_free(FREE);
    // 200 jobs start at once while slurmctld is slow, and their requests end before the answer.
    for answer in [20, 21] {
        for job in 100..300 {
            assert!(!questions.gave_up("n1", Some(job), at(answer), at(22)));
        }
    }
    assert_eq!((questions.vain("n1"), questions.may_ask("n1", 200, at(22))), (2, Ok(())));
    // Another question was answered before each of these.
    let waits = (1..=FREE).filter(|answer| questions.gave_up("n1", None, at(100 + u64::from(*answer)), at(23))).count();
    assert_eq!((waits, questions.may_ask("n1", 999, at(23)).is_err()), (2, true));
}

#[test]
fn what_a_node_has_given_up_counts_when_its_answer_comes() {
    let questions = NodeQuestions::with_free(FREE);
    // slurmctld is slow: the node asks for its job again and again.
    for second in [20, 25, 30] {
        assert!(!questions.leave_open("n1", 7, (at(second), at(0)), at(second + 4)));
    }
    assert_eq!((questions.vain("n1"), questions.may_ask("n1", 7, at(34))), (0, Ok(())));
    assert!(questions.take_given_up(at(19)).is_empty(), "that question was asked before");
    assert_eq!(questions.take_given_up(at(20)), [("n1".to_owned(), 7)]);
    assert!(questions.take_given_up(at(99)).is_empty(), "once");
    questions.found("n1", 7);
    assert!(questions.nodes().is_empty());
    // A job that got its answer otherwise.
    questions.leave_open("n1", 8, (at(100), at(0)), at(100));
    questions.found("n1", 8);
    assert!(questions.take_given_up(at(101)).is_empty());
}

#[test]
fn a_node_gives_up_no_more_jobs_than_are_remembered() {
    let questions = NodeQuestions::with_free(FREE);
    let jobs = u32::try_from(JOBS).unwrap();
    let mut waits = false;
    for answer in 0..=FREE {
        for job in 0..jobs + 5 {
            waits |= questions.leave_open("n1", job, (at(100), at(answer.into())), at(100));
        }
    }
    assert_eq!((questions.vain("n1"), waits), (FREE + 1, true), "those beyond count once for each answer");
    assert_eq!(questions.take_given_up(at(100)).len(), JOBS);
    questions.leave_open("n1", 7, (at(100), at(0)), at(100));
    questions.asked("n1", 8, at(100) + FORGOTTEN);
    assert!(questions.take_given_up(at(100)).is_empty(), "there is no answer for long");
}

#[test]
fn a_host_that_invents_users_is_remembered_for_a_while() {
    let questions = NodeQuestions::with_free(FREE);
    for uid in 0..=NODES as u64 {
        questions.in_vain(&user_on("login1", 7), 1, at(uid), at(uid * 1_000));
        questions.in_vain(&format!("login1 x{uid}"), 1, at(uid), at(uid * 1_000));
    }
    assert!(questions.nodes().len() < 10, "{}", questions.nodes().len());
}

#[test]
fn a_question_that_each_request_needs_is_asked_seldom_for_the_same_job() {
    let questions = NodeQuestions::with_free(FREE);
    let asks = |second: &u64| {
        let may = questions.may_ask("n1", 7, at(*second)).is_ok();
        if may {
            questions.asked("n1", 7, at(*second));
        }
        may
    };
    assert_eq!((1..=60).filter(asks).count(), 7);
    assert_eq!(questions.may_ask("n1", 8, at(60)), Ok(()), "another job");
}
