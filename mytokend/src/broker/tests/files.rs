// SPDX-License-Identifier: MIT OR Apache-2.0
//! Further token files of submissions, and what nodes make up.

use super::super::answers::MOST_WAITING;
use super::*;
use crate::agent::lease::AdmittedFile;

/// The further files of a submission: one if its handle begins with "files".
pub(super) fn of(handle: &str) -> Vec<AdmittedFile> {
    let file = |name: &str| AdmittedFile { name: FileName::parse(name).unwrap(), windows: Vec::new(), refused: None };
    if handle.starts_with("files") { vec![file("data")] } else { Vec::new() }
}

impl TestBroker {
    /// The token of a further file of job 1.
    pub(super) fn file_token(&self, sealed: &str, file: &str) -> Result<String, String> {
        let file = Some(FileName::parse(file).unwrap());
        let request = TokenRequest { job: 1, uid: 7, sealed: sealed.to_owned(), file, patience: 20_000 };
        said(self.runtime.block_on(self.broker.token("n1", &request))?)
    }
}

#[test]
fn names_that_a_credential_does_not_have_take_no_room() {
    let test = TestBroker::new(RUNNING);
    assert_eq!(test.file_token("7:files", "data"), Ok("token-0".to_owned()));
    for number in 0..20 {
        let name = format!("a{number}");
        let refused = Err(format!("refused: the credential has no file \"{name}\""));
        assert_eq!(test.file_token("7:files", &name), refused);
    }
    let key = SubmissionKey::new(7, "files", "7:files");
    assert_eq!(test.broker.state().submissions[&key].tokens.len(), 1);
    assert_eq!(test.token("n1", 1, 7, "7:files"), Ok("token-1".to_owned()));
    assert_eq!(test.counts(), (2, 0));
}

#[test]
fn texts_that_a_node_makes_up_leave_room_for_submissions_that_have_had_a_token() {
    let fakes = Fakes { life: 100, delay: Duration::from_secs(5), ..Fakes::default() };
    let test = TestBroker::with(Fakes { squeue: Mutex::new(Some(RUNNING.to_owned())), ..fakes }, Arc::new(SystemClock));
    test.ask_slurmctld();
    let told = |sealed: &str| {
        let request = TokenRequest { job: 1, uid: 7, sealed: sealed.to_owned(), file: None, patience: 0 };
        said(test.runtime.block_on(test.broker.token("n1", &request)).unwrap()).unwrap_err()
    };
    let sealed = |number: usize| format!("7:a{number}");
    let is_full = |told: &str| told.contains("too many requests for access tokens of this user");
    // Some of them run.
    let refused = (0..MOST_WAITING + 100).find(|number| is_full(&told(&sealed(*number)))).unwrap();
    assert!(refused >= MOST_WAITING, "{refused}");
    let key = SubmissionKey::new(7, &format!("a{refused}"), &sealed(refused));
    test.broker.state().submissions.get_mut(&key).unwrap().proven = true;
    assert!(!is_full(&told(&sealed(refused))));
}
