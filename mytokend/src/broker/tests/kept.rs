// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sealed credentials that the broker keeps for jobs that bring only a handle. A text of these tests is `user:handle`, so the ones that
//! are kept have the form of a sealed text in a file only.

use mytoken::private_files::{Directory, Owner};

use super::super::escrow::{Escrow, KeptText};
use super::super::messages::{KeepAnswer, KeepRequest, KeptAnswer, KeptRequest};
use super::*;

const HANDLE: &str = "0123456789abcdef0123456789abcdef";

fn request(uid: u32, handle: &str, sealed: &str) -> KeepRequest {
    KeepRequest { uid, handle: handle.to_owned(), sealed: sealed.to_owned(), follows: true }
}

fn refusal(answer: KeepAnswer) -> String {
    if let KeepAnswer::Refused { reason } = answer { reason } else { String::new() }
}

fn with_escrow(squeue: &str, path: &std::path::Path) -> TestBroker {
    let test = TestBroker::new(squeue);
    test.broker.use_escrow(Escrow::open(Directory::open(path).unwrap(), Owner::current()).unwrap());
    test.broker.take_texts(true);
    test
}

#[test]
fn only_what_was_sealed_for_this_user_and_submission_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow("", temp.path());
    let sealed = format!("2001:{HANDLE}");
    let keep = |uid, handle: &str| refusal(test.broker.keep("login1", &request(uid, handle, &sealed)));
    assert!(keep(2002, HANDLE).contains("made for user 2001"));
    assert!(keep(2001, &"f".repeat(32)).contains("another submission"));
    assert!(keep(2001, "../../etc/passwd").contains("32 hexadecimal digits"));
    assert_eq!((test.broker.kept_count(), keep(2001, HANDLE)), (0, String::new()));
    assert_eq!(test.broker.kept_count(), 1);
    // Another user who knows the handle gets nothing.
    let kept = |uid| test.broker.kept(&KeptRequest { uid, handle: HANDLE.to_owned() }).unwrap();
    assert_eq!(kept(2002), KeptAnswer::Unknown {});
    test.broker.take_texts(false);
    assert!(keep(2001, &"0".repeat(32)).contains("broker.escrow is not set"));
}

#[test]
fn a_submission_without_a_job_is_revoked_when_slurmctld_shows_none() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow("", temp.path());
    assert_eq!(test.broker.keep("login1", &request(2001, HANDLE, &format!("2001:{HANDLE}"))), KeepAnswer::Kept {});
    // Its job is perhaps not submitted yet.
    (0..4).for_each(|_| test.ask_slurmctld());
    assert_eq!((test.counts().1, test.broker.kept_count()), (0, 1));
    for submission in test.broker.state().submissions.values_mut() {
        submission.judged_from = Duration::ZERO;
    }
    (0..4).for_each(|_| test.ask_slurmctld());
    test.until("the end of the text", || test.broker.kept_count() == 0);
    assert_eq!((test.counts().1, test.broker.kept_count()), (1, 0));
}

#[test]
fn a_text_outlives_the_broker_that_got_it() {
    let temp = tempfile::tempdir().unwrap();
    let escrow = Escrow::open(Directory::open(temp.path()).unwrap(), Owner::current()).unwrap();
    let key = SubmissionKey { uid: 2001, handle: HANDLE.to_owned() };
    let sealed = "mt1.00000000.AAAA".to_owned();
    escrow.keep(&key, &KeptText { sealed: sealed.clone(), exp: u64::MAX, follows: false }).unwrap();
    let test = with_escrow("", temp.path());
    let asked = KeptRequest { uid: 2001, handle: HANDLE.to_owned() };
    assert_eq!(test.broker.kept(&asked).unwrap(), KeptAnswer::Sealed(sealed));
    assert_eq!(test.broker.kept(&KeptRequest { handle: "x".into(), ..asked }).unwrap(), KeptAnswer::Unknown {});
}
