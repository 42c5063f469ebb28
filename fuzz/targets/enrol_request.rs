// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the message of a host that wants to be a node, at a broker that has given out no code and has no MUNGE: nobody is enrolled.
#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fuzz::NOW;
use libfuzzer_sys::fuzz_target;
use mytoken::ScheduleClock;
use mytoken::config::FileTrust;
use mytoken::private_files::{Directory, Owner};
use mytokend::broker::identity::attempts::Attempts;
use mytokend::broker::identity::authority::{Authority, CERTIFICATE, KEY};
use mytokend::broker::identity::codes::{CodeRefusal, Codes};
use mytokend::broker::identity::enrolment::{EnrolmentRefusal, Enrolments, RefusalKind};
use mytokend::broker::identity::munge::{ConnectionAddress, NodeAddresses};
use mytokend::broker::identity::{NodeName, Register, Repin, RequestError, request};
use mytokend::broker::messages::EnrolRequest;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct FixedClock;

impl ScheduleClock for FixedClock {
    fn unix_millis(&self) -> u64 {
        NOW * 1000
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

struct NoAddresses;

impl NodeAddresses for NoAddresses {
    fn addresses(&self, _: &NodeName) -> std::io::Result<Vec<IpAddr>> {
        Ok(Vec::new())
    }
}

/// A broker's part of enrolment. Its directories are removed at once, so that none is left behind: to it, they are empty.
fn enrolments() -> Enrolments {
    let temp = tempfile::tempdir().expect("a directory");
    let directory = |name: &str| {
        let path = temp.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        Directory::open(&path).expect("a directory of this user")
    };
    let (keys, me, clock) = (temp.path().join("keys"), Owner::current(), Arc::new(FixedClock));
    Authority::create(&directory("keys"), "testbed", NOW).expect("an authority");
    let authority = Authority::load(&keys.join(KEY), &keys.join(CERTIFICATE), FileTrust::user(me.uid));
    Enrolments {
        authority: Arc::new(authority.expect("the authority")),
        register: Arc::new(Register::open(directory("nodes"), me, Arc::clone(&clock) as _).expect("a register")),
        cluster: "testbed".to_owned(),
        munge: None,
        resolver: Arc::new(NoAddresses),
        check: ConnectionAddress::Checked,
        repin: Repin::Refused,
        codes: Codes::new(directory("codes"), me),
        attempts: Attempts::default(),
        clock,
    }
}

thread_local! {
    static ENROLMENTS: RefCell<Enrolments> = RefCell::new(enrolments());
}

fuzz_target!(|data: &[u8]| {
    let Ok(message) = serde_json::from_slice::<EnrolRequest>(data) else { return };
    let refusal = ENROLMENTS.with(|enrolments| {
        let mut enrolments = enrolments.borrow_mut();
        enrolments.attempts = Attempts::default();
        let attempt = enrolments.begin(ADDRESS).expect("it is the first one");
        enrolments.enrol(&message, ADDRESS, attempt).expect_err("nothing proves who it is")
    });
    assert_eq!(refusal.kind(), RefusalKind::Refused, "{refusal}");
    let has_one_proof = message.munge.is_some() != message.code.is_some();
    let request = STANDARD.decode(&message.request).ok().filter(|_| has_one_proof);
    match (refusal, request) {
        (EnrolmentRefusal::Form(_), None) => {}
        (EnrolmentRefusal::Request(RequestError::TooLong), Some(request)) => assert!(request.len() > request::LONGEST),
        (EnrolmentRefusal::NoMunge, Some(_)) => assert!(message.munge.is_some()),
        (EnrolmentRefusal::Code(CodeRefusal::Invalid { node }), Some(_)) => {
            assert!(message.code.is_some() && node == message.node);
        }
        (refusal, _) => panic!("{message:?}: {refusal}"),
    }
});
