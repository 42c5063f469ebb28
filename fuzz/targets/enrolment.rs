// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes what reaches a broker before a node is enrolled: the output of unmunge, which has the sender's payload, the certificate request,
//! certificates, names of nodes, and files of the register.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mytokend::broker::identity::munge::{self, Claim, ConnectionAddress};
use mytokend::broker::identity::register::{PinRefusal, Proof, Repin, decide};
use mytokend::broker::identity::{CertificateRequest, KeyHash, NodeEntry, NodeName, certificate};

fuzz_target!(|data: &[u8]| {
    let (kind, data) = data.split_first().unwrap_or((&0, data));
    if let Ok(request) = CertificateRequest::read(data) {
        assert!(CertificateRequest::read(data).is_ok_and(|again| again.key() == request.key()));
    }
    let _ = certificate::read(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let node: NodeName = "n1".parse().expect("a name");
    if let Ok(other) = text.parse::<NodeName>() {
        assert_eq!(NodeName::from_uri(&other.to_uri()), Some(other));
    }
    if let Ok(entry) = serde_json::from_str::<NodeEntry>(text) {
        for (proof, repin) in [(Proof::Code, Repin::Allowed), (Proof::Site, Repin::Refused)] {
            let decided = decide(Some(&entry), &node, KeyHash([7; 32]), &proof, u64::from(*kind), repin);
            assert!(!entry.is_blocked() || matches!(decided, Err(PinRefusal::Blocked { .. })));
        }
    }
    if let Ok(decoded) = munge::parse(text, kind % 2 == 0) {
        assert!(kind % 2 == 0 && text.ends_with(&decoded.payload));
        let connection = decoded.host;
        let claim =
            Claim { cluster: "testbed", node: &node, request: [7; 32], connection, check: ConnectionAddress::Checked };
        if munge::decide_content(&decoded, &claim).is_ok() {
            assert_eq!(decoded.uid, 0);
            assert_eq!(decoded.payload, munge::payload("testbed", &node, &[7; 32]));
        }
        assert!(munge::decide_address(decoded.host, &claim, &[]).is_err());
    }
});
