// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that enrol, and what an attacker tries before and after.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::*;
use crate::broker::identity::authority::{self, NODE_LIFE};
use crate::broker::identity::certificate;
use crate::broker::identity::key_hash::KeyHash;
use crate::broker::messages::{EnrolRequest, RenewRequest};
use crate::programs;

struct TestClock(AtomicU64);

impl ScheduleClock for TestClock {
    fn unix_millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed) * 1000
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

struct Addresses;

impl NodeAddresses for Addresses {
    fn addresses(&self, node: &NodeName) -> io::Result<Vec<IpAddr>> {
        let number = node.as_str().trim_start_matches('n').parse().map_err(|_| io::ErrorKind::NotFound)?;
        Ok(vec![IpAddr::from([10, 0, 0, number])])
    }
}

const NOW: u64 = 1_800_000_000;

/// "Encodes" in base64, with the user and the host in front, and "decodes" that.
const MUNGE: &str = "#!/bin/sh\nprintf MUNGE:; (printf '0 10.0.0.1 '; cat) | base64 -w0; echo :\n";
const UNMUNGE: &str = "#!/bin/sh\n\
    [ ! -e \"$0.down\" ] || { echo 'unmunge: Error: Failed to access the socket' >&2; exit 6; }\n\
    echo called >>\"$0.calls\"\n\
    text=$(sed 's/^MUNGE://;s/:$//' | base64 -d 2>/dev/null; echo x); text=${text%x}\n\
    uid=${text%% *}; text=${text#* }; host=${text%% *}; text=${text#* }\n\
    printf 'STATUS: 0\\nENCODE_HOST: %s\\nUID: %s\\nLENGTH: %s\\n\\n%s' \"$host\" \"$uid\" ${#text} \"$text\"\n";

struct Site {
    temp: tempfile::TempDir,
    clock: Arc<TestClock>,
    enrolments: Enrolments,
}

impl Site {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for (name, script) in [("munge", MUNGE), ("unmunge", UNMUNGE)] {
            programs::write(path(name), script).unwrap();
        }
        let directory = |name: &str| {
            std::fs::create_dir(path(name)).unwrap();
            Directory::open(&path(name)).unwrap()
        };
        let me = Owner::current();
        Authority::create(&directory("keys"), "testbed", NOW).unwrap();
        let keys = path("keys");
        let trust = FileTrust::user(me.uid);
        let authority = Authority::load(&keys.join(authority::KEY), &keys.join(authority::CERTIFICATE), trust).unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
        let register = Register::open(directory("nodes"), me, Arc::clone(&clock) as _).unwrap();
        let enrolments = Enrolments {
            authority: Arc::new(authority),
            register: Arc::new(register),
            cluster: "testbed".to_owned(),
            munge: Some(Munge::at(path("munge"), path("unmunge"), Duration::from_secs(20))),
            resolver: Arc::new(Addresses),
            check: ConnectionAddress::Checked,
            repin: Repin::Refused,
            codes: Codes::new(directory("codes"), me),
            attempts: Attempts::default(),
            clock: Arc::clone(&clock) as _,
        };
        Self { temp, clock, enrolments }
    }

    fn credential(&self, node: &str, request: &[u8]) -> String {
        let munge = self.enrolments.munge.as_ref().unwrap();
        munge.encode("testbed", &name(node), &request::hash(request)).unwrap()
    }

    fn enrol(&self, node: &str, request: &[u8], proof: OfferedProof<'_>) -> Result<Enrolled, EnrolmentRefusal> {
        enrol_from(host(1), &self.enrolments, &message(node, request, proof))
    }

    fn programs_run(&self) -> usize {
        std::fs::read_to_string(self.temp.path().join("unmunge.calls")).map_or(0, |calls| calls.lines().count())
    }
}

/// What a node sends.
fn message(node: &str, request: &[u8], proof: OfferedProof<'_>) -> EnrolRequest {
    let (munge, code) = match proof {
        OfferedProof::Munge(credential) => (Some(credential.to_owned()), None),
        OfferedProof::Code(code) => (None, Some(mytoken_wire::Secret::new(code))),
    };
    EnrolRequest { node: name(node), request: STANDARD.encode(request), munge, code }
}

/// As the broker does it for a connection from this address.
fn enrol_from(from: IpAddr, at: &Enrolments, message: &EnrolRequest) -> Result<Enrolled, EnrolmentRefusal> {
    at.enrol(message, from, at.begin(from)?)
}

fn name(node: &str) -> NodeName {
    node.parse().unwrap()
}

fn host(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn request() -> Vec<u8> {
    CertificateRequest::make(&rcgen::KeyPair::generate().unwrap()).unwrap()
}

fn key(request: &[u8]) -> KeyHash {
    CertificateRequest::read(request).unwrap().key()
}

fn peer(node: &str, key: KeyHash) -> Peer {
    Peer { node: name(node), key, ends: NOW + NODE_LIFE, signer: Signer::Cluster }
}

#[test]
fn a_node_enrols_by_munge_and_again_with_the_same_key() {
    let site = Site::new();
    let request = request();
    let credential = site.credential("n1", &request);
    let enrolled = site.enrol("n1", &request, OfferedProof::Munge(&credential)).unwrap();
    assert_eq!((enrolled.pinned, &enrolled.proof), (Pinned::New, &Proof::Munge { address: host(1) }));
    assert_eq!(site.enrolments.register.list().entries[0].address, Some(host(1)), "where its connection comes from");
    let der = CertificateDer::from_pem_slice(enrolled.certificate.pem.as_bytes()).unwrap();
    let content = certificate::read(&der).unwrap();
    assert_eq!((content.uris, content.key), (vec!["mytoken:node:n1".to_owned()], key(&request)));
    assert!(site.enrolments.register.is_pinned(&name("n1"), key(&request)));
    assert_eq!(site.enrolments.register.list().entries[0].certificate_ends, NOW + NODE_LIFE);
    let again = site.enrol("n1", &request, OfferedProof::Munge(&site.credential("n1", &request))).unwrap();
    assert_eq!(again.pinned, Pinned::Again);
}

#[test]
fn what_an_attacker_sends_changes_nothing_and_gets_no_signature() {
    let site = Site::new();
    let (own, other) = (request(), request());
    let credential = site.credential("n1", &own);
    let of_user = {
        let payload = super::super::munge::payload("testbed", &name("n1"), &request::hash(&own));
        let text = format!("1000 10.0.0.1 {payload}");
        format!("MUNGE:{}:", STANDARD.encode(text))
    };
    let munge = OfferedProof::Munge;
    for (node, request, proof, word) in [
        ("n1", &other, munge(&credential), "not made for this request"),
        ("n2", &own, munge(&credential), "not made for this request"),
        ("n1", &own, munge(&of_user), "by user 1000, not by root"),
        ("n1", &own, munge("MUNGE:AAAA:"), "does not accept the credential"),
        ("n1", &own, munge("hello"), "not a MUNGE credential"),
        ("n1", &own, OfferedProof::Code("0000-0000"), "one-time code is not valid"),
    ] {
        let refusal = site.enrol(node, request, proof).unwrap_err();
        assert!(refusal.to_string().contains(word), "{refusal}");
        assert!(refusal.is_to_log() && refusal.kind() == RefusalKind::Refused, "{refusal:?}");
    }
    let elsewhere = message("n1", &own, munge(&credential));
    let refusal = enrol_from(host(9), &site.enrolments, &elsewhere).unwrap_err();
    assert!(refusal.to_string().contains("comes from 10.0.0.9"), "{refusal}");
    assert!(site.enrolments.register.list().entries.is_empty());
    // Whatever it sends, the request is not read before the proof.
    let garbage = b"garbage".to_vec();
    assert!(matches!(site.enrol("n1", &garbage, munge(&credential)), Err(EnrolmentRefusal::Munge(_))));
    let honest = site.credential("n1", &garbage);
    assert!(matches!(site.enrol("n1", &garbage, munge(&honest)), Err(EnrolmentRefusal::Request(_))));
    let runs = site.programs_run();
    assert!(matches!(site.enrol("n1", &vec![0; 5000], munge(&credential)), Err(EnrolmentRefusal::Request(_))));
    assert_eq!(site.programs_run(), runs, "no program for a request that is too long");
}

#[test]
fn an_address_that_fails_again_and_again_runs_no_program_and_keeps_nobody_out() {
    let site = Site::new();
    let own = request();
    let wrong = message("n1", &own, OfferedProof::Munge("MUNGE:AAAA:"));
    let refused = || enrol_from(host(66), &site.enrolments, &wrong).unwrap_err();
    let mut to_log = 0;
    for _ in 0..100 {
        to_log += usize::from(refused().is_to_log());
    }
    assert_eq!((site.programs_run(), to_log), (10, 11));
    assert!(matches!(refused().kind(), RefusalKind::Wait(_)));
    assert!(site.enrol("n1", &own, OfferedProof::Munge(&site.credential("n1", &own))).is_ok());
}

#[test]
fn without_munged_nobody_is_refused_for_good() {
    let site = Site::new();
    let own = request();
    let credential = site.credential("n1", &own);
    let down = site.temp.path().join("unmunge.down");
    std::fs::write(&down, "").unwrap();
    for _ in 0..50 {
        let refusal = site.enrol("n1", &own, OfferedProof::Munge(&credential)).unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::Unavailable, "{refusal}");
    }
    std::fs::remove_file(down).unwrap();
    assert!(site.enrol("n1", &own, OfferedProof::Munge(&credential)).is_ok());
    let without = Enrolments { munge: None, ..Site::new().enrolments };
    let sent = message("n1", &own, OfferedProof::Munge(&credential));
    assert!(matches!(enrol_from(host(1), &without, &sent), Err(EnrolmentRefusal::NoMunge)));
}

#[test]
fn a_code_enrols_one_key_of_its_node_and_is_not_lost_to_another_one() {
    let site = Site::new();
    let (own, other) = (request(), request());
    let code = site.enrolments.codes.issue(&name("n1"), NOW).unwrap();
    assert_eq!(site.enrol("n1", &own, OfferedProof::Code(&code)).unwrap().proof, Proof::Code);
    let again = site.enrol("n1", &own, OfferedProof::Code(&code)).unwrap();
    assert_eq!(again.pinned, Pinned::Again, "the node has perhaps not heard the answer");
    assert!(site.enrol("n1", &other, OfferedProof::Code(&code)).is_err());
    site.enrolments.register.remove(&name("n1")).unwrap();
    for request in [&own, &other] {
        let refused = site.enrol("n1", request, OfferedProof::Code(&code));
        assert!(matches!(refused, Err(EnrolmentRefusal::Code(CodeRefusal::Invalid { .. }))), "it was removed");
    }
    let third = site.enrolments.codes.issue(&name("n1"), NOW).unwrap();
    site.enrol("n1", &own, OfferedProof::Code(&third)).unwrap();
    let second = site.enrolments.codes.issue(&name("n1"), NOW).unwrap();
    let refusal = site.enrol("n1", &other, OfferedProof::Code(&second)).unwrap_err();
    assert!(refusal.to_string().contains("mytokenctl node remove n1"), "{refusal}");
    assert!(matches!(site.enrol("n1", b"garbage", OfferedProof::Code(&second)), Err(EnrolmentRefusal::Request(_))));
    site.enrolments.register.remove(&name("n1")).unwrap();
    assert_eq!(site.enrol("n1", &other, OfferedProof::Code(&second)).unwrap().pinned, Pinned::New);
}

/// The broker may be killed at any moment: after the code was given to a key, after the register got the key, and after both.
#[test]
fn a_broker_that_is_killed_loses_no_code_and_gives_it_to_no_second_key() {
    for steps in 0..=3 {
        let site = Site::new();
        let (own, other) = (request(), request());
        let Enrolments { codes, register, .. } = &site.enrolments;
        let code = codes.issue(&name("n1"), NOW).unwrap();
        if steps > 0 {
            let valid = codes.check(&name("n1"), &code, NOW).unwrap();
            codes.take(&name("n1"), valid, key(&own)).unwrap();
        }
        if steps > 1 {
            register.pin(&name("n1"), key(&own), Proof::Code, NOW + 1, Repin::Refused).unwrap();
        }
        if steps > 2 {
            codes.finish(&name("n1"), key(&own)).unwrap();
        }
        if steps > 0 {
            assert!(site.enrol("n1", &other, OfferedProof::Code(&code)).is_err(), "{steps}");
        }
        let expected = if steps > 1 { Pinned::Again } else { Pinned::New };
        let enrolled = site.enrol("n1", &own, OfferedProof::Code(&code)).map(|enrolled| enrolled.pinned);
        assert_eq!(enrolled.ok(), Some(expected), "{steps}");
        assert!(register.is_pinned(&name("n1"), key(&own)), "{steps}");
        // Its use is over: neither key comes back with it after a removal.
        register.remove(&name("n1")).unwrap();
        for request in [&own, &other] {
            assert!(site.enrol("n1", request, OfferedProof::Code(&code)).is_err(), "{steps}");
        }
    }
}

#[test]
fn another_key_is_refused_until_the_node_is_removed_or_where_nodes_have_no_disk() {
    let site = Site::new();
    let (own, other) = (request(), request());
    site.enrol("n1", &own, OfferedProof::Munge(&site.credential("n1", &own))).unwrap();
    let credential = site.credential("n1", &other);
    let refusal = site.enrol("n1", &other, OfferedProof::Munge(&credential)).unwrap_err();
    assert!(refusal.to_string().contains("enrolled with another key"), "{refusal}");
    assert!(site.enrolments.register.is_pinned(&name("n1"), key(&own)));
    let diskless = Enrolments { repin: Repin::Allowed, ..site.enrolments };
    let sent = message("n1", &other, OfferedProof::Munge(&credential));
    assert_eq!(enrol_from(host(1), &diskless, &sent).unwrap().pinned, Pinned::Replaced(key(&own)));
    assert!(!diskless.register.is_pinned(&name("n1"), key(&own)));
}

#[test]
fn a_certificate_is_renewed_for_the_same_key_of_an_enrolled_node() {
    let site = Site::new();
    let (own, other) = (request(), request());
    site.enrol("n1", &own, OfferedProof::Munge(&site.credential("n1", &own))).unwrap();
    let renew = |peer: &Peer, request: &[u8]| site.enrolments.renew(peer, request);
    let node = peer("n1", key(&own));
    assert!(matches!(renew(&node, &own), Err(EnrolmentRefusal::NotDue { .. })));
    site.clock.0.fetch_add(NODE_LIFE / 2, Ordering::Relaxed);
    assert!(matches!(renew(&node, &other), Err(EnrolmentRefusal::OtherKey { .. })));
    assert!(matches!(renew(&node, b"garbage"), Err(EnrolmentRefusal::Request(_))));
    assert!(matches!(renew(&peer("n2", key(&own)), &own), Err(EnrolmentRefusal::NotPinned { .. })));
    assert!(matches!(renew(&peer("n1", key(&other)), &other), Err(EnrolmentRefusal::NotPinned { .. })));
    let ends = NOW + NODE_LIFE / 2 + NODE_LIFE;
    assert_eq!(renew(&node, &own).unwrap().ends, ends);
    assert_eq!(site.enrolments.register.list().entries[0].certificate_ends, ends);
    site.enrolments.register.remove(&name("n1")).unwrap();
    assert!(matches!(renew(&node, &own), Err(EnrolmentRefusal::NotPinned { .. })));
}

#[test]
fn a_node_is_admitted_while_it_is_enrolled_and_its_certificate_lasts() {
    let site = Site::new();
    let own = request();
    site.enrol("n1", &own, OfferedProof::Munge(&site.credential("n1", &own))).unwrap();
    let node = peer("n1", key(&own));
    let admit = |peer: &Peer| site.enrolments.admit(peer);
    assert!(matches!(admit(&node), Ok(None)));
    assert!(matches!(admit(&peer("n2", key(&own))), Err(EnrolmentRefusal::NotPinned { .. })));
    let by_site = Peer { signer: Signer::Site, ..peer("n1", KeyHash([9; 32])) };
    assert!(matches!(admit(&by_site), Err(EnrolmentRefusal::Pin(_))), "it is enrolled by MUNGE");
    site.clock.0.store(node.ends, Ordering::Relaxed);
    assert!(matches!(admit(&node), Ok(None)));
    site.clock.0.store(node.ends + 1, Ordering::Relaxed);
    assert!(matches!(admit(&node), Err(EnrolmentRefusal::Expired { .. })));
    site.clock.0.store(NOW, Ordering::Relaxed);
    site.enrolments.register.remove(&name("n1")).unwrap();
    assert!(matches!(admit(&node), Err(EnrolmentRefusal::NotPinned { .. })));
}

#[test]
fn a_site_vouches_for_its_nodes_and_their_newest_keys() {
    let site = Site::new();
    let with = |key: u8, ends| Peer { ends, signer: Signer::Site, ..peer("n1", KeyHash([key; 32])) };
    let admit = |peer: &Peer| site.enrolments.admit(peer);
    assert!(matches!(admit(&with(1, NOW + 100)), Ok(Some(Pinned::New))));
    assert!(matches!(admit(&with(1, NOW + 100)), Ok(None)));
    assert!(matches!(admit(&with(2, NOW + 200)), Ok(Some(Pinned::Replaced(_)))));
    assert!(matches!(admit(&with(1, NOW + 100)), Err(EnrolmentRefusal::Pin(_))), "an open connection with the old one");
    assert!(matches!(admit(&with(2, NOW + 200)), Ok(None)));
    site.enrolments.register.block(&name("n1")).unwrap();
    assert!(matches!(admit(&with(2, NOW + 200)), Err(EnrolmentRefusal::Pin(PinRefusal::Blocked { .. }))));
}

#[test]
fn a_message_enrols_and_another_form_counts_as_a_failed_attempt() {
    let site = Site::new();
    let own = request();
    let encoded = STANDARD.encode(&own);
    let message = |request: &str, munge: Option<String>, code: Option<&str>| {
        let (node, code) = (name("n1"), code.map(mytoken_wire::Secret::new));
        EnrolRequest { node, request: request.to_owned(), munge, code }
    };
    let credential = || Some(site.credential("n1", &own));
    let enrol = |message: EnrolRequest| enrol_from(host(1), &site.enrolments, &message);
    for (wrong, word) in [
        (message(&encoded, None, None), "and not both"),
        (message(&encoded, credential(), Some("0000")), "and not both"),
        (message("?", credential(), None), "is not base64"),
    ] {
        let refusal = enrol(wrong).unwrap_err();
        assert!(refusal.to_string().contains(word) && refusal.kind() == RefusalKind::Refused, "{refusal}");
    }
    assert_eq!(site.programs_run(), 0);
    assert_eq!(enrol(message(&encoded, credential(), None)).unwrap().pinned, Pinned::New);
    let code = site.enrolments.codes.issue(&name("n1"), NOW).unwrap();
    assert_eq!(enrol(message(&encoded, None, Some(&code))).unwrap().pinned, Pinned::Again);
    site.clock.0.store(NOW + 2 * authority::DAY, Ordering::Relaxed);
    let renew = |request| site.enrolments.renew_by(&RenewRequest { request }, &peer("n1", key(&own)));
    assert!(matches!(renew("?".to_owned()), Err(EnrolmentRefusal::Form(_))));
    assert_eq!(renew(encoded).unwrap().ends, NOW + 2 * authority::DAY + NODE_LIFE);
    site.clock.0.store(NOW, Ordering::Relaxed);
    for _ in 0..20 {
        let _ = enrol_from(host(66), &site.enrolments, &message("?", None, None));
    }
    let refusal = enrol_from(host(66), &site.enrolments, &message("?", None, None)).unwrap_err();
    assert!(matches!(refusal.kind(), RefusalKind::Wait(_)), "{refusal}");
    // Those of other addresses do not add up for their network: they cost nothing.
    let other = |number: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, number]);
    for number in 0..2_000 {
        let refusal = enrol_from(other(number), &site.enrolments, &message("?", None, None)).unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::Refused, "{refusal}");
    }
}
