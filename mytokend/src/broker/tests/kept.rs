// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sealed credentials that the broker keeps for jobs that bring only a handle.

use mytoken::private_files::{Directory, Owner};

use super::super::escrow::{Escrow, KeptText, TextKey};
use super::super::messages::{ForgetAnswer, ForgetRequest, KeepAnswer, KeepRequest, KeptAnswer, KeptRequest};
use super::*;

pub(super) const HANDLE: &str = "0123456789abcdef0123456789abcdef";

/// The sealed text of a user's submission.
pub(super) fn sealed(uid: u32, handle: &str) -> String {
    format!("mt1.00000000.{uid}-{handle}")
}

pub(super) fn request(uid: u32, handle: &str) -> KeepRequest {
    KeepRequest { uid, handle: handle.to_owned(), sealed: sealed(uid, handle), follows: true }
}

pub(super) fn refusal(answer: KeepAnswer) -> String {
    if let KeepAnswer::Refused { reason } = answer { reason } else { String::new() }
}

fn with_escrow(squeue: &str, path: &std::path::Path) -> TestBroker {
    let test = TestBroker::new(squeue);
    test.broker.use_escrow(Escrow::open(Directory::open(path).unwrap(), Owner::current()).unwrap());
    test.broker.take_texts(true);
    test
}

impl TestBroker {
    /// Why a text is not kept. Empty: it is.
    pub(super) fn keep(&self, request: &KeepRequest) -> String {
        refusal(self.runtime.block_on(self.broker.keep("login1", request)))
    }

    pub(super) fn kept(&self, uid: u32, handle: &str) -> KeptAnswer {
        self.runtime.block_on(self.broker.kept(&KeptRequest { uid, handle: handle.to_owned() })).unwrap()
    }

    pub(super) fn kept_count(&self) -> usize {
        self.broker.escrow_status().texts
    }

    fn forget(&self, host: &str, uid: u32) -> ForgetAnswer {
        self.broker.forget(host, &ForgetRequest { uid, handle: HANDLE.to_owned() })
    }
}

#[test]
fn only_what_was_sealed_for_this_user_and_submission_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow("", temp.path());
    let own = sealed(2001, HANDLE);
    let keep = |uid, handle: &str| {
        test.keep(&KeepRequest { uid, handle: handle.to_owned(), sealed: own.clone(), follows: true })
    };
    assert!(keep(2002, HANDLE).contains("made for user 2001"));
    assert!(keep(2001, &"f".repeat(32)).contains("another submission"));
    assert!(keep(2001, "../../etc/passwd").contains("32 hexadecimal digits"));
    assert_eq!((test.kept_count(), keep(2001, HANDLE)), (0, String::new()));
    assert_eq!((test.kept_count(), keep(2001, HANDLE)), (1, String::new()), "the same again");
    test.broker.take_texts(false);
    assert!(keep(2001, &"0".repeat(32)).contains("broker.escrow is not set"));
    assert_eq!((test.broker.escrow_status().on, test.kept_count()), (false, 1));
}

#[test]
fn a_copied_handle_gives_nothing_to_other_users_and_other_jobs() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow(RUNNING, temp.path());
    assert_eq!(test.keep(&request(7, HANDLE)), "");
    let KeptAnswer::Sealed(text) = test.kept(7, HANDLE) else { panic!("it is not kept") };
    assert_eq!(test.token("n1", 1, 7, &text), Ok("token-0".to_owned()));
    // Another job of the same user has a copy of the handle: it is bound to the first job, as a copied text is.
    let KeptAnswer::Sealed(copy) = test.kept(7, HANDLE) else { panic!("it is not kept") };
    let refused = test.token("n1", 2, 7, &copy).unwrap_err();
    assert!(refused.starts_with("refused: the credential belongs to job 1"), "{refused}");
    // A node asks with the uid of the job.
    assert_eq!(test.kept(8, HANDLE), KeptAnswer::Unknown {});
    assert!(test.token("n1", 1, 8, &text).unwrap_err().starts_with("refused: made for user 7"));
    let stolen = KeepRequest { uid: 8, ..request(7, HANDLE) };
    assert!(test.keep(&stolen).contains("made for user 7"));
    assert_eq!((test.counts().0, test.kept_count()), (1, 1));
}

#[test]
fn a_submission_without_a_job_is_revoked_when_slurmctld_shows_none() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow("", temp.path());
    assert_eq!(test.keep(&request(2001, HANDLE)), "");
    // Its job is perhaps not submitted yet.
    (0..4).for_each(|_| test.ask_slurmctld());
    assert_eq!((test.counts().1, test.kept_count()), (0, 1));
    for submission in test.broker.state().submissions.values_mut() {
        submission.judged_from = Duration::ZERO;
    }
    (0..4).for_each(|_| test.ask_slurmctld());
    test.until("the end of the text", || test.kept_count() == 0);
    assert_eq!((test.counts().1, test.kept_count()), (1, 0));
    test.until("the end of its file", || std::fs::read_dir(temp.path()).unwrap().count() == 0);
}

#[test]
fn a_text_outlives_the_broker_that_got_it() {
    let temp = tempfile::tempdir().unwrap();
    let escrow = Arc::new(Escrow::open(Directory::open(temp.path()).unwrap(), Owner::current()).unwrap());
    let key = TextKey { uid: 2001, handle: HANDLE.to_owned() };
    let text = KeptText {
        sealed: sealed(2001, HANDLE),
        exp: u64::MAX,
        follows: false,
        host: "login1".into(),
        server: String::new(),
    };
    escrow.keep(&key, &text).unwrap();
    let test = with_escrow("", temp.path());
    assert_eq!(test.kept(2001, HANDLE), KeptAnswer::Sealed(text.sealed));
    assert_eq!(test.kept(2001, "x"), KeptAnswer::Unknown {});
}

#[test]
fn the_host_of_a_submission_that_is_over_ends_its_text_and_no_other_host() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow("", temp.path());
    // The agent of the host follows the submission.
    let followed = KeepRequest { follows: false, ..request(2001, HANDLE) };
    assert_eq!(test.keep(&followed), "");
    assert_eq!(test.forget("n1", 2001), ForgetAnswer::Stays {});
    assert_eq!(test.forget("login1", 2002), ForgetAnswer::Forgotten {}, "the other user has none");
    assert_eq!(test.kept(2001, HANDLE), KeptAnswer::Sealed(followed.sealed.clone()));
    assert_eq!(test.forget("login1", 2001), ForgetAnswer::Forgotten {});
    assert_eq!((test.kept(2001, HANDLE), test.kept_count()), (KeptAnswer::Unknown {}, 0));
    test.until("the end of its file", || std::fs::read_dir(temp.path()).unwrap().count() == 0);
    assert_eq!(test.counts(), (0, 0), "the agent has revoked it");
}

#[test]
fn a_text_that_nodes_have_asked_for_stays_until_its_revocation() {
    let temp = tempfile::tempdir().unwrap();
    let test = with_escrow(RUNNING, temp.path());
    assert_eq!(test.keep(&KeepRequest { follows: false, ..request(7, HANDLE) }), "");
    test.token("n1", 1, 7, &sealed(7, HANDLE)).unwrap();
    assert_eq!((test.forget("login1", 7), test.kept_count()), (ForgetAnswer::Stays {}, 1));
    test.prints(Some(ENDED));
    test.ask_slurmctld();
    test.until("the end of the text", || test.kept_count() == 0);
    assert_eq!(test.counts(), (1, 1));
    assert_eq!(test.forget("login1", 7), ForgetAnswer::Forgotten {});
}
