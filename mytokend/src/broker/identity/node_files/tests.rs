// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a node from its first start to the renewal of its certificate.

use std::os::unix::fs::PermissionsExt;

use mytoken::config::FileTrust;

use super::*;
use crate::broker::identity::authority::{self, Authority, BACK_DATED, NODE_LIFE};

const NOW: u64 = 1_800_000_000;

fn authority() -> Authority {
    let temp = tempfile::tempdir().unwrap();
    Authority::create(&Directory::open(temp.path()).unwrap(), "testbed", NOW).unwrap();
    let file = |name| temp.path().join(name);
    let trust = FileTrust::user(Owner::current().uid);
    Authority::load(&file(authority::KEY), &file(authority::CERTIFICATE), trust).unwrap()
}

fn sign(authority: &Authority, identity: &NodeIdentity, node: &str, now: u64) -> String {
    let request = CertificateRequest::read(&identity.request().unwrap()).unwrap();
    authority.sign_node(&request, &node.parse().unwrap(), now).unwrap().pem
}

fn files(temp: &tempfile::TempDir) -> NodeFiles {
    NodeFiles::new(Directory::open(temp.path()).unwrap(), "n1".parse().unwrap())
}

#[test]
fn a_node_keeps_its_key_and_gets_a_certificate_for_it() {
    let (temp, authority) = (tempfile::tempdir().unwrap(), authority());
    let files = files(&temp);
    let first = files.load().unwrap();
    let key = first.key();
    assert_eq!((first.enrolment(NOW), first.problem()), (Enrolment::Missing, None));
    let pem = sign(&authority, &first, "n1", NOW);
    let enrolled = files.store(first, &pem).unwrap();
    let (begins, ends) = (NOW - BACK_DATED, NOW + NODE_LIFE);
    let valid = Enrolment::Valid { renew_at: begins + (NODE_LIFE + BACK_DATED) / 2, ends };
    for identity in [&enrolled, &files.load().unwrap()] {
        assert_eq!((identity.key(), identity.enrolment(NOW), identity.problem()), (key, valid, None));
        assert_eq!((identity.enrolment(begins), identity.enrolment(ends)), (valid, valid));
        assert_eq!(
            (identity.enrolment(begins - 1), identity.enrolment(ends + 1)),
            (Enrolment::Missing, Enrolment::Missing)
        );
    }
    let mode = |name| std::fs::metadata(temp.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode(KEY), mode(CERTIFICATE)], [0o600, 0o644]);
    let renewed = sign(&authority, &enrolled, "n1", NOW + NODE_LIFE / 2);
    let renewed = files.store(enrolled, &renewed).unwrap();
    assert!(matches!(renewed.enrolment(NOW + NODE_LIFE + 1), Enrolment::Valid { .. }));
    assert_eq!(renewed.key(), key);
}

#[test]
fn an_answer_that_is_not_the_nodes_certificate_is_refused_and_the_former_one_stays() {
    let (temp, authority) = (tempfile::tempdir().unwrap(), authority());
    let files = files(&temp);
    let first = files.load().unwrap();
    let good = sign(&authority, &first, "n1", NOW);
    drop(files.store(first, &good).unwrap());
    let other = tempfile::tempdir().unwrap();
    let other = self::files(&other).load().unwrap();
    let long = format!("{good}{}", "#".repeat(LIMIT));
    for (answer, word) in [
        (sign(&authority, &other, "n1", NOW), "another key"),
        (sign(&authority, &files.load().unwrap(), "n2", NOW), "another node"),
        (String::new(), "exactly one"),
        ("hello".to_owned(), "exactly one"),
        (format!("{good}{good}"), "exactly one"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "does not hold a certificate"),
        (long, "too long"),
    ] {
        let error = files.store(files.load().unwrap(), &answer).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(std::fs::read_to_string(temp.path().join(CERTIFICATE)).unwrap(), good);
    }
}

#[test]
fn a_key_that_cannot_be_read_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let files = files(&temp);
    files.load().unwrap();
    let path = temp.path().join(KEY);
    let good = std::fs::read(&path).unwrap();
    for content in [&b""[..], b"hello", &good[..good.len() / 2], b"\xff"] {
        std::fs::write(&path, content).unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains("node.key") && error.contains("mytokenctl node remove n1"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    std::fs::write(&path, good).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(files.load().unwrap_err().to_string().contains("0640"));
}

#[test]
fn a_certificate_that_cannot_be_used_leads_to_enrolment_and_a_sentence() {
    let (temp, authority) = (tempfile::tempdir().unwrap(), authority());
    let files = files(&temp);
    let pem = sign(&authority, &files.load().unwrap(), "n2", NOW);
    for content in [pem.as_str(), "", "hello"] {
        std::fs::write(temp.path().join(CERTIFICATE), content).unwrap();
        let identity = files.load().unwrap();
        assert_eq!(identity.enrolment(NOW), Enrolment::Missing);
        assert!(identity.problem().unwrap().contains("node.pem is not used"), "{:?}", identity.problem());
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }
}
