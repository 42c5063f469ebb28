// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a broker that starts anew knows of the revocations of the run before.

use std::path::Path;

use mytoken::private_files::{Directory, Owner};

use super::super::escrow::{Escrow, KeptText, TextKey};
use super::super::revoked::MarksFile;
use super::kept::{HANDLE, sealed};
use super::*;

/// A broker that keeps its revocations in this directory.
fn with_marks(squeue: &str, path: &Path) -> TestBroker {
    let test = TestBroker::new(squeue);
    test.broker.keep_revocations(MarksFile::new(Directory::open(path).unwrap(), Owner::current()));
    test
}

/// What a broker that was killed has left there: it has asked for the revocation of this submission.
fn leave(path: &Path, SubmissionKey { uid, handle, text }: &SubmissionKey, done: bool, age: Duration) {
    let now = millis(SystemClock.elapsed());
    let at = now.saturating_sub(millis(age));
    let mark = serde_json::json!({"uid": uid, "handle": handle, "text": text.to_string(), "at": at, "done": done});
    let marks = serde_json::json!({"at": now, "revocations": [mark]}).to_string();
    Directory::open(path).unwrap().write("revocations.json", marks.as_bytes(), Owner::current(), 0o600).unwrap();
}

/// What is kept there. Empty: nothing yet.
fn marks_in(path: &Path) -> String {
    std::fs::read_to_string(path.join("revocations.json")).unwrap_or_default()
}

#[test]
fn a_broker_that_starts_anew_revokes_nothing_a_second_time() {
    let temp = tempfile::tempdir().unwrap();
    let first = with_marks(RUNNING, temp.path());
    first.token("n1", 1, 7, "7:a").unwrap();
    first.prints(Some(ENDED));
    first.ask_slurmctld();
    first.until("a revocation", || first.counts() == (1, 1));
    first.until("the end", || first.end(1, "7:a") == EndAnswer::Settled {});
    // The end of a broker waits a second for the last write, which may be short on a machine that is busy.
    first.until("the mark", || marks_in(temp.path()).contains("\"done\":true"));
    drop(first);

    let next = with_marks(ENDED, temp.path());
    let late = next.token("n1", 2, 7, "7:a").unwrap_err();
    assert_eq!(late, "refused: the submission is over, and its credential was revoked");
    assert_eq!(next.end(1, "7:a"), EndAnswer::Settled {}, "the node may forget it");
    (0..4).for_each(|_| next.ask_slurmctld());
    assert_eq!(next.counts(), (0, 0));
}

#[test]
fn a_revocation_without_a_known_answer_is_made_again() {
    let temp = tempfile::tempdir().unwrap();
    // The pause that begins with the request is nearly over.
    leave(temp.path(), &SubmissionKey::new(7, "a", "7:a"), false, Duration::from_secs(27));
    let next = with_marks(ALL_ENDED, temp.path());
    assert!(matches!(next.end(1, "7:a"), EndAnswer::Waits { .. }));
    next.ask_slurmctld();
    next.until("a revocation", || next.counts() == (0, 1));
    next.until("the end", || next.end(1, "7:a") == EndAnswer::Settled {});
}

#[test]
fn a_revocation_without_a_known_answer_is_not_made_again_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let key = SubmissionKey::new(7, "a", "7:a");
    leave(temp.path(), &key, false, Duration::ZERO);
    let next = with_marks(ALL_ENDED, temp.path());
    assert!(matches!(next.end(1, "7:a"), EndAnswer::Waits { .. }));
    next.ask_slurmctld();
    let soon = next.broker.clock.elapsed() + Duration::from_secs(20);
    next.until(
        "its pause",
        || matches!(next.broker.state().submissions[&key].end, End::Revoking { due, .. } if due > soon),
    );
    assert_eq!(next.counts(), (0, 0));
}

#[test]
fn a_kept_text_of_a_sub_token_that_was_revoked_is_removed_without_another_revocation() {
    let (marks, texts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let escrow = || Escrow::open(Directory::open(texts.path()).unwrap(), Owner::current()).unwrap();
    let key = TextKey { uid: 7, handle: HANDLE.to_owned() };
    let text = KeptText {
        sealed: sealed(7, HANDLE),
        exp: u64::MAX,
        follows: true,
        host: "login1".into(),
        server: String::new(),
    };
    Arc::new(escrow()).keep(&key, &text).unwrap();
    leave(marks.path(), &SubmissionKey::new(7, HANDLE, &text.sealed), true, Duration::ZERO);
    let next = with_marks("", marks.path());
    next.broker.use_escrow(escrow());
    assert_eq!(next.kept_count(), 0);
    next.until("the end of its file", || std::fs::read_dir(texts.path()).unwrap().count() == 0);
    assert!(next.broker.state().submissions.is_empty() && next.counts() == (0, 0));
}

#[test]
fn marks_that_cannot_be_read_keep_no_broker_from_its_work() {
    let temp = tempfile::tempdir().unwrap();
    let directory = Directory::open(temp.path()).unwrap();
    directory.write("revocations.json", b"{", Owner::current(), 0o600).unwrap();
    let next = with_marks(RUNNING, temp.path());
    assert_eq!(next.token("n1", 1, 7, "7:a"), Ok("token-0".to_owned()));
    next.prints(Some(ENDED));
    next.ask_slurmctld();
    next.until("a revocation", || next.counts() == (1, 1));
    next.until("the new marks", || marks_in(temp.path()).contains("\"done\":true"));
}
