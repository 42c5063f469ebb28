// SPDX-License-Identifier: MIT OR Apache-2.0
//! New credentials for jobs that wait.

use std::path::Path;

use mytoken::private_files::{Directory, Owner};

use super::super::messages::{ReplaceAnswer, ReplaceRequest, ReplacedAnswer, ReplacedRequest};
use super::super::replacements::{Leader, Replacement, Replacements};
use super::*;

/// Job 1 of user 7 waits.
const WAITS: &str = "7|N/A|1|1|PENDING|1000|N/A||\n8|1000|5|5|RUNNING|1000|N/A|n1|n1\n";
const RUNS: &str = "7|1000|1|1|RUNNING|1000|N/A|n1|n1\n8|1000|5|5|RUNNING|1000|N/A|n1|n1\n";
const OVER: &str = "7|1000|1|1|COMPLETED|1000|1100|n1|n1\n8|1000|5|5|RUNNING|1000|N/A|n1|n1\n";
const CANCELLED: &str = "7|N/A|1|1|CANCELLED|1000|1100||\n";

/// Job 1, as the one that leads.
const JOB: Leader = Leader { uid: 7, job: 1 };

/// A broker that keeps new credentials in this directory. All jobs were submitted on login1.
pub(super) fn with_store(squeue: &str, path: &Path) -> TestBroker {
    let test = TestBroker::new(squeue);
    let (store, unreadable) = Replacements::open(Directory::open(path).unwrap(), Owner::current()).unwrap();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    test.broker.use_replacements(store);
    test.fakes.hosts.lock().unwrap().insert("login1".to_owned());
    test
}

impl TestBroker {
    /// Why a credential that login1 brings for job 1 of user 7 is not taken. Empty: it is.
    fn replace(&self, sealed: &str) -> String {
        self.replace_from("login1", 7, 1, sealed)
    }

    fn replace_from(&self, host: &str, uid: u32, job: u32, sealed: &str) -> String {
        // As if the pause after the one before were over.
        self.broker.replaced.recent.lock().unwrap().clear();
        self.replace_at_once(host, &ReplaceRequest { uid, job, sealed: sealed.to_owned(), follows: true })
    }

    fn replace_at_once(&self, host: &str, request: &ReplaceRequest) -> String {
        match self.runtime.block_on(self.broker.replace(host, request)) {
            ReplaceAnswer::Replaced {} => String::new(),
            ReplaceAnswer::Refused { reason } => reason,
        }
    }

    /// What is revoked so far.
    fn revoked(&self) -> Vec<String> {
        self.fakes.revoked.lock().unwrap().clone()
    }

    /// With which credentials tokens were requested.
    fn asked(&self) -> Vec<String> {
        self.fakes.asked.lock().unwrap().clone()
    }

    /// Asks slurmctld until these texts are revoked, and some times more.
    fn until_revoked(&self, texts: &[&str]) {
        self.until("the revocations", || {
            self.ask_slurmctld();
            self.revoked().len() >= texts.len()
        });
        (0..4).for_each(|_| self.ask_slurmctld());
        assert_eq!(self.revoked(), texts);
    }

    /// Waits until the broker remembers that this credential of job 1 is revoked.
    fn until_retired(&self, handle: &str) {
        let key = SubmissionKey::new(7, handle, &format!("7:{handle}"));
        self.until("the note", || self.broker.replaced.get(JOB).is_some_and(|own| own.has_retired(&key)));
        self.broker.sweep_replacements(false);
    }
}

#[test]
fn a_job_gets_tokens_of_its_new_credential_and_both_are_revoked_once() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    assert_eq!(test.replace("7:new@5"), "");
    assert_eq!(test.replace("7:new@5"), "", "again");
    (0..4).for_each(|_| test.ask_slurmctld());
    assert!(test.revoked().is_empty() && temp.path().join("7-1.json").exists(), "it waits");

    test.prints(Some(RUNS));
    let request = TokenRequest { job: 1, uid: 7, sealed: "7:old".into(), file: None, patience: 20_000 };
    let answer = test.runtime.block_on(test.broker.token("n1", &request)).unwrap();
    let told = answer.admitted.clone().unwrap();
    assert_eq!((told.handle.as_str(), told.made), ("old", 5), "the node knows the submission by its handle");
    assert_eq!((said(answer), test.asked()), (Ok("token-0".to_owned()), vec!["7:new@5".to_owned()]));
    test.until_revoked(&["7:old"]);
    test.until_retired("old");
    assert_eq!(test.token("n1", 1, 7, "7:old"), Ok("token-0".to_owned()), "the job goes on");
    assert!(test.token("n2", 1, 7, "7:old").is_err_and(|reason| reason.contains("does not run on n2")));

    test.prints(Some(OVER));
    assert!(matches!(test.end(1, "7:old"), EndAnswer::Waits { .. }));
    test.until_revoked(&["7:old", "7:new@5"]);
    test.until("the end", || test.end(1, "7:old") == EndAnswer::Settled {});
    test.until("the end of the file", || !temp.path().join("7-1.json").exists());
    (0..4).for_each(|_| test.ask_slurmctld());
    assert_eq!(test.revoked().len(), 2);
}

#[test]
fn a_job_gets_the_tokens_of_the_files_of_its_new_credential() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    assert_eq!(test.replace("7:files@5"), "");
    test.prints(Some(RUNS));
    assert_eq!(test.file_token("7:old", "data"), Ok("token-0".to_owned()));
    assert_eq!(test.file_token("7:old", "x"), Err("refused: the credential has no file \"x\"".to_owned()));
    assert_eq!(test.asked(), ["7:files@5"]);
}

#[test]
fn who_has_no_right_to_a_job_replaces_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let array = "7|N/A|2|2_[2-9]|PENDING|1000|N/A||\n7|1000|3|2_1|RUNNING|1000|N/A|n1|n1\n";
    let test = with_store(&format!("{WAITS}{array}7|1000|4|4|COMPLETED|1000|1100|n1|n1\n"), temp.path());
    for (host, uid, job, sealed, expected) in [
        ("n9", 7, 1, "7:new@5", "job 1 was submitted on login1, and only there"),
        ("login", 7, 1, "7:new@5", "job 1 was submitted on login1, and only there"),
        ("login1", 7, 5, "7:new@5", "job 5 belongs to another user"),
        ("login1", 8, 1, "8:new@5", "job 1 belongs to another user"),
        ("login1", 8, 1, "7:new@5", "made for user 7"),
        ("login1", 7, 3, "7:new@5", "job 3 belongs to job 2"),
        ("login1", 7, 4, "7:new@5", "job 4 has ended"),
        ("login1", 7, 99, "7:new@5", "slurmctld knows no job 99"),
        ("login1", 7, 1, "7:expired@5", "the credential expired"),
        ("login1", 7, 1, "7:shared@5", "share"),
    ] {
        let reason = test.replace_from(host, uid, job, sealed);
        assert!(reason.contains(expected), "{host} {uid} {job} {sealed}: {reason}");
        let line = format!("host {host}, job {job} uid {uid}: its credential is not replaced: {reason}");
        assert!(!test.broker.told.is_new_of(host, &line, test.broker.clock.elapsed()), "it is logged, once: {line}");
    }
    test.fakes.hosts.lock().unwrap().insert("login2".to_owned());
    assert!(test.replace("7:new@5").contains("was submitted on login2"), "all tasks of an array count");
    test.fakes.hosts.lock().unwrap().clear();
    assert!(test.replace("7:new@5").contains("does not tell on which host"));
    test.prints(None);
    assert!(test.replace("7:new@5").contains("cannot ask slurmctld"));
    assert!(test.broker.replaced.all().is_empty() && test.broker.state().submissions.is_empty());

    test.prints(Some(&format!("{WAITS}{array}")));
    test.fakes.hosts.lock().unwrap().insert("login1".to_owned());
    let from = |host: &str| test.replace_from(host, 7, 2, "7:new@5");
    assert!(from("login1.evil.org").contains("was submitted on login1, and only there"), "a domain of its own");
    *test.fakes.hosts.lock().unwrap() = ["login1.cluster".to_owned()].into();
    assert!(from("login1.evil.org").contains("was submitted on login1.cluster, and only there"));
    assert!(from("login").contains("only there"));
    assert_eq!([from("login1"), from("login1.cluster")], ["", ""], "Slurm may show the domain");
    assert!(test.replace("7:new@5").contains("in use already"), "for another job");
}

#[test]
fn a_job_whose_credential_has_expired_gets_tokens_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(&format!("{RUNS}7|1000|2|2|RUNNING|1000|N/A|n1|n1\n"), temp.path());
    assert_eq!(test.token("n1", 1, 7, "7:expired"), Err("refused: the credential expired".to_owned()));
    assert_eq!(test.replace("7:new@5"), "");
    assert_eq!(test.token("n1", 1, 7, "7:expired"), Ok("token-0".to_owned()));
    assert_eq!(test.token("n1", 2, 7, "7:expired"), Err("refused: the credential expired".to_owned()), "another job");
    assert!(test.token("n1", 5, 8, "7:expired").is_err_and(|reason| reason.contains("made for user 7")));
    assert_eq!(test.asked(), ["7:new@5"]);
    test.prints(Some(OVER));
    assert!(matches!(test.end(1, "7:expired"), EndAnswer::Waits { .. }));
    test.until_revoked(&["7:new@5"]);
    test.until("the end", || test.end(1, "7:expired") == EndAnswer::Settled {});
}

#[test]
fn the_last_of_several_new_credentials_counts() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    assert_eq!([test.replace("7:a@5"), test.replace("7:b@5")], ["", ""]);
    test.until_revoked(&["7:a@5"]);
    test.prints(Some(RUNS));
    assert_eq!(test.token("n1", 1, 7, "7:old"), Ok("token-0".to_owned()));
    // A node that has got the first one for a handle.
    assert_eq!(test.token("n1", 1, 7, "7:a@5"), Ok("token-0".to_owned()));
    assert_eq!(test.asked(), ["7:b@5"]);
    test.until_revoked(&["7:a@5", "7:old"]);
    test.prints(Some(OVER));
    test.until_revoked(&["7:a@5", "7:old", "7:b@5"]);
}

#[test]
fn a_job_that_is_cancelled_while_it_waits_is_revoked_once() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    assert_eq!(test.replace("7:new@5"), "");
    test.prints(Some(CANCELLED));
    test.until_revoked(&["7:new@5"]);
    test.until("the end of the file", || !temp.path().join("7-1.json").exists());
    assert!(test.broker.replaced.all().is_empty());
    // One that slurmctld has forgotten meanwhile.
    test.prints(Some(WAITS));
    assert_eq!(test.replace("7:next@6"), "");
    test.prints(Some(""));
    test.until_revoked(&["7:new@5", "7:next@6"]);
}

#[test]
fn a_broker_that_starts_anew_goes_on_with_the_new_credential() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    assert_eq!(test.replace("7:new@5"), "");
    drop(test);

    let test = with_store(RUNS, temp.path());
    assert_eq!(test.token("n1", 1, 7, "7:old"), Ok("token-0".to_owned()));
    test.until_revoked(&["7:old"]);
    test.until_retired("old");
    drop(test);

    let test = with_store(RUNS, temp.path());
    assert_eq!(test.token("n1", 1, 7, "7:old"), Ok("token-0".to_owned()));
    assert_eq!(test.asked(), ["7:new@5"]);
    (0..4).for_each(|_| test.ask_slurmctld());
    assert!(test.revoked().is_empty(), "the old one is revoked already");
    test.prints(Some(OVER));
    assert!(matches!(test.end(1, "7:old"), EndAnswer::Waits { .. }));
    test.until_revoked(&["7:new@5"]);
    drop(test);

    // Cancelled while no broker ran.
    let test = with_store(WAITS, temp.path());
    assert_eq!(test.replace("7:next@6"), "");
    drop(test);
    with_store(CANCELLED, temp.path()).until_revoked(&["7:next@6"]);
}

#[test]
fn of_jobs_that_share_a_credential_only_those_of_the_leader_get_the_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let other = "7|1000|2|2|RUNNING|1000|N/A|n2|n2\n";
    let test = with_store(&format!("{RUNS}{other}"), temp.path());
    assert_eq!(test.replace("7:new@5"), "");
    assert_eq!(test.token("n2", 2, 7, "7:shared"), Ok("token-0".to_owned()));
    assert_eq!(test.token("n1", 1, 7, "7:shared"), Ok("token-1".to_owned()));
    assert_eq!(test.asked(), ["7:shared", "7:new@5"]);
    (0..5).for_each(|_| test.ask_slurmctld());
    assert!(test.revoked().is_empty(), "job 2 needs it");
    test.prints(Some(&format!("{RUNS}{}", other.replace("RUNNING|1000|N/A", "COMPLETED|1000|1100"))));
    test.until_revoked(&["7:shared"]);
    assert_eq!(test.token("n1", 1, 7, "7:shared"), Ok("token-1".to_owned()));
    test.prints(Some(OVER));
    test.until_revoked(&["7:shared", "7:new@5"]);
}

#[test]
fn a_credential_that_was_brought_to_the_running_job_later_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(RUNS, temp.path());
    assert_eq!(test.replace("7:new@5"), "");
    assert_eq!(test.token("n1", 1, 7, "7:later@6"), Ok("token-0".to_owned()));
    assert_eq!(test.asked(), ["7:later@6"]);
}

#[test]
fn only_the_node_of_a_job_without_a_text_gets_the_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(&format!("{RUNS}7|1000|2|2|RUNNING|1000|N/A|n1|n1\n"), temp.path());
    let ask = |node: &str, uid, job| test.runtime.block_on(test.broker.replaced(node, &ReplacedRequest { uid, job }));
    assert_eq!(ask("n1", 7, 1), Ok(ReplacedAnswer::Unknown {}), "there is none");
    assert_eq!(test.replace("7:new@5"), "");
    assert_eq!(ask("n1", 7, 1), Ok(ReplacedAnswer::Sealed("7:new@5".to_owned())));
    assert_eq!(ask("n1", 7, 2), Ok(ReplacedAnswer::Unknown {}));
    assert_eq!(ask("n1", 8, 5), Ok(ReplacedAnswer::Unknown {}), "a user without one");
    assert!(ask("n9", 7, 1).is_err_and(|reason| reason.contains("does not run on n9")));
    assert!(ask("n1", 7, 5).is_err_and(|reason| reason.contains("does not run on n1")), "another user's job");
    assert_eq!(test.token("n1", 1, 7, "7:new@5"), Ok("token-0".to_owned()), "with that text alone");
}

#[test]
fn one_that_serves_jobs_is_revoked_when_the_next_one_has_given_a_token() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(RUNS, temp.path());
    assert_eq!(test.replace("7:a@5"), "");
    assert_eq!(test.token("n1", 1, 7, "7:old"), Ok("token-0".to_owned()));
    test.until_revoked(&["7:old"]);
    test.until_retired("old");
    assert_eq!(test.replace("7:b@5"), "");
    (0..5).for_each(|_| test.ask_slurmctld());
    assert_eq!(test.revoked(), ["7:old"], "running tasks use it");
    assert_eq!(test.token("n1", 1, 7, "7:old"), Ok("token-1".to_owned()));
    assert_eq!(test.asked(), ["7:a@5", "7:b@5"]);
    test.until_revoked(&["7:old", "7:a@5"]);
    test.prints(Some(OVER));
    test.until_revoked(&["7:old", "7:a@5", "7:b@5"]);
}

#[test]
fn a_user_cannot_replace_without_end() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(&format!("{WAITS}7|N/A|2|2|PENDING|1000|N/A||\n"), temp.path());
    let new = |job, sealed: &str| ReplaceRequest { uid: 7, job, sealed: sealed.to_owned(), follows: true };
    assert_eq!(test.replace_at_once("login1", &new(1, "7:a@5")), "");
    assert!(test.replace_at_once("login1", &new(1, "7:b@5")).contains("wait 10 seconds"));
    assert_eq!(test.replace_at_once("login1", &new(1, "7:a@5")), "", "it is the same");
    assert_eq!(test.replace_at_once("login1", &new(2, "7:c@5")), "", "another job");

    let store = |retired: usize| {
        let own = test.broker.replaced.get(JOB).unwrap();
        Replacement { retired: (0..retired).map(|number| number.to_string()).collect(), ..(*own).clone() }
    };
    let path = temp.path().join("7-1.json");
    let write = |retired| std::fs::write(&path, serde_json::to_vec(&store(retired)).unwrap()).unwrap();
    write(15);
    let again = with_store(WAITS, temp.path());
    assert_eq!(again.replace("7:d@5"), "");
    let before = again.questions();
    assert!(again.replace("7:e@5").contains("16 credentials of job 1 were replaced already"));
    assert_eq!(again.questions(), before);
}

#[test]
fn what_the_broker_refuses_anyway_and_what_it_has_cause_no_questions() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    let replace = |job, sealed: &str| {
        test.replace_at_once("login1", &ReplaceRequest { uid: 7, job, sealed: sealed.to_owned(), follows: true })
    };
    assert_eq!(replace(1, "7:a@5"), "");
    let before = test.questions();
    for number in 0..20 {
        assert_eq!(replace(1, "7:a@5"), "");
        assert!(replace(1, &format!("7:b{number}@5")).contains("wait 10 seconds"));
        assert!(replace(2, "7:a@5").contains("in use already"));
    }
    assert_eq!(test.questions(), before);
}

#[test]
fn slurmctld_is_asked_seldom_about_a_job_whose_credential_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    test.fakes.hosts.lock().unwrap().clear();
    for number in 0..4 {
        assert!(test.replace(&format!("7:a{number}@5")).contains("does not tell on which host"));
    }
    let before = test.questions();
    assert!(test.replace("7:b@5").contains("asked too often about this job"));
    assert_eq!(test.questions(), before);
}

#[test]
fn a_user_who_names_the_job_of_another_one_does_not_keep_that_from_a_new_credential() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    for _ in 0..4 {
        assert_eq!(test.replace_from("login1", 8, 1, "8:x@5"), "job 1 belongs to another user");
    }
    assert!(test.replace_from("login1", 8, 1, "8:x@5").contains("asked too often about this job"));
    assert_eq!(test.replace("7:new@5"), "");
}

#[test]
fn a_user_whose_sub_tokens_wait_to_be_revoked_replaces_no_credential() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    let unproven = |number: u32| SubmissionKey::new(7, &format!("x{number}"), &format!("7:x{number}"));
    {
        let mut state = test.broker.state();
        for number in 0..128 {
            let admitted = test.broker.admit(1, 7, &format!("7:x{number}")).unwrap();
            let mut own = Submission::new("7:x".to_owned(), admitted);
            own.end = End::Revoking { tries: 0, due: Duration::MAX, asked: false };
            state.submissions.insert(unproven(number), own);
        }
    }
    assert!(test.replace("7:new@5").contains("still revokes many credentials"));
    assert_eq!(test.questions(), 0);
    test.broker.state().submissions.remove(&unproven(0));
    assert_eq!(test.replace("7:new@5"), "");
}

#[test]
fn one_that_another_broker_follows_goes_with_its_job() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_store(WAITS, temp.path());
    let request = ReplaceRequest { uid: 7, job: 1, sealed: "7:new@5".to_owned(), follows: false };
    assert_eq!(test.replace_at_once("login1", &request), "");
    (0..5).for_each(|_| test.ask_slurmctld());
    assert!(temp.path().join("7-1.json").exists() && test.broker.replaced.get(JOB).is_some());
    test.prints(Some(CANCELLED));
    test.ask_slurmctld();
    test.until("the end of the file", || !temp.path().join("7-1.json").exists());
    assert!(test.revoked().is_empty() && test.broker.replaced.all().is_empty());
}
