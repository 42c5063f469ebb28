// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests and enrolments while the disk with the register hangs.

mod slow_names;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::entrance::{Entrance, EntranceWork};
use super::super::identity::enrolment::RefusalKind;
use super::super::identity::{CertificateRequest, KeyHash, NodeName, Peer, Proof, Repin, Signer, StateDir};
use super::super::messages::EnrolRequest;
use super::status::entrance;
use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn peer(name: &str, key: KeyHash, signer: Signer) -> Arc<Peer> {
    Arc::new(Peer { node: node(name), key, ends: u64::MAX, signer })
}

struct Site {
    entrance: Arc<Entrance>,
    work: EntranceWork,
    /// The certificate request of n2, DER.
    request: Vec<u8>,
    test: TestBroker,
    temp: tempfile::TempDir,
}

/// A broker at which n1 is enrolled.
fn site() -> Site {
    let (test, temp) = (TestBroker::new(RUNNING), tempfile::tempdir().unwrap());
    let entrance = Arc::new(entrance(temp.path(), &test.broker));
    let register = &entrance.enrolments().register;
    register.pin(&node("n1"), KeyHash([1; 32]), Proof::Code, u64::MAX, Repin::Refused).unwrap();
    let files = StateDir::open_or_make(&temp.path().join("n2")).unwrap().node_files(node("n2"));
    let request = files.load().unwrap().request().unwrap();
    Site { entrance, work: EntranceWork::impatient(Duration::from_millis(200)), request, test, temp }
}

#[test]
fn while_the_disk_hangs_enrolled_nodes_are_served_and_others_are_told() {
    let Site { entrance, work, request, test, temp: _temp } = site();
    let enrolments = entrance.enrolments();
    let code = enrolments.codes.issue(&node("n2"), SystemClock.unix_millis() / 1000).unwrap().to_string();
    let key = CertificateRequest::read(&request).unwrap().key();
    let request = STANDARD.encode(request);
    let enrol = || {
        let code = Some(Secret::new(code.as_str()));
        let request = EnrolRequest { node: node("n2"), request: request.clone(), munge: None, code };
        test.runtime.block_on(work.enrol(&entrance, request, ADDRESS))
    };
    let hanging = enrolments.register.hang();
    let begin = Instant::now();

    let known = peer("n1", KeyHash([1; 32]), Signer::Cluster);
    test.runtime.block_on(work.look(&entrance));
    assert!(entrance.is_admitted(&known));
    assert_eq!(enrolments.register.list().entries.len(), 1, "the status does not wait");

    let late = enrol().unwrap_err();
    assert_eq!(late.kind(), RefusalKind::Unavailable);
    assert!(late.to_string().contains("its disk, its MUNGE or its name servers do not answer"), "{late}");
    let of_site = peer("n3", KeyHash([3; 32]), Signer::Site);
    let refused = test.runtime.block_on(work.admit(&entrance, &of_site)).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::Unavailable);
    assert_eq!(refused.to_string(), "the disk of the broker does not answer");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());

    drop(hanging);
    // What was late counts all the same, and the node is served with the key that it has.
    test.until("the late enrolment", || enrolments.register.knows(&node("n2"), key));
    test.until("the certificate that it has not got", || enrol().is_ok());
    test.until("the late request", || test.runtime.block_on(work.admit(&entrance, &of_site)).is_ok());
    assert!(entrance.is_admitted(&peer("n2", key, Signer::Cluster)));
}

#[test]
fn who_has_to_come_back_is_told_so_while_all_threads_wait_for_the_disk() {
    let Site { entrance, work, request, test, temp: _temp } = site();
    let hanging = entrance.enrolments().register.hang();
    let code = entrance.enrolments().codes.issue(&node("n2"), SystemClock.unix_millis() / 1000).unwrap().to_string();
    let request = STANDARD.encode(request);
    let enrol = |address: [u8; 4]| {
        let code = Some(Secret::new(code.as_str()));
        let request = EnrolRequest { node: node("n2"), request: request.clone(), munge: None, code };
        test.runtime.block_on(work.enrol(&entrance, request, address.into())).unwrap_err().kind()
    };
    // Four of an address at a time, and there are eight threads.
    let late: Vec<RefusalKind> = (0..8).map(|number| enrol([192, 0, 2, number / 4])).collect();
    assert_eq!(late, [RefusalKind::Unavailable; 8]);
    assert!(matches!(enrol([192, 0, 2, 0]), RefusalKind::Wait(_)));
    // One that got no thread has not failed.
    for _ in 0..20 {
        assert_eq!(enrol([192, 0, 2, 9]), RefusalKind::Unavailable);
    }
    drop(hanging);
}

#[test]
fn a_node_that_was_removed_is_refused_by_the_next_look() {
    let Site { entrance, work, test, temp, .. } = site();
    let known = peer("n1", KeyHash([1; 32]), Signer::Cluster);
    std::fs::remove_file(temp.path().join("state/nodes/n1.json")).unwrap();
    test.until("the refusal", || {
        test.runtime.block_on(work.look(&entrance));
        !entrance.is_admitted(&known)
    });
}
