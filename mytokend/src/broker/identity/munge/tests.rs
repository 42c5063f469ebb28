// SPDX-License-Identifier: MIT OR Apache-2.0
//! Credentials of root on the node, and everything else.

use proptest::prelude::*;

use super::*;
use crate::programs;

const REQUEST: [u8; 32] = [7; 32];

fn node() -> NodeName {
    "n1".parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn claim(node: &NodeName) -> Claim<'_> {
    Claim {
        cluster: "testbed",
        node,
        request: REQUEST,
        connection: address("10.0.0.1"),
        check: ConnectionAddress::Checked,
    }
}

/// As unmunge 0.5.15 prints it.
fn output(status: u32, host: &str, uid: u32, payload: &str) -> String {
    let length = payload.len();
    format!(
        "STATUS:          {status}\nENCODE_HOST:     {host}\nUID:             {uid}\nLENGTH:          {length}\n\n{payload}"
    )
}

#[test]
fn the_output_of_unmunge_is_read() {
    let payload = payload("testbed", &node(), &REQUEST);
    let expected = Decoded { host: address("10.0.0.1"), uid: 0, payload: payload.clone() };
    assert_eq!(parse(&output(0, "10.0.0.1", 0, &payload), true), Ok(expected));
    let empty = Decoded { host: address("0.0.0.0"), uid: 65_534, payload: String::new() };
    assert_eq!(parse(&output(0, "0.0.0.0", 65_534, ""), true), Ok(empty));
    let lines = "x\n\nUID: 0\nSTATUS: 0\n\n";
    assert_eq!(parse(&output(0, "10.0.0.1", 7, lines), true).unwrap().payload, lines);
}

#[test]
fn everything_but_success_is_refused() {
    for (status, expected) in [
        (15, NotDecoded::Expired),
        (16, NotDecoded::Rewound),
        (17, NotDecoded::Replayed),
        (18, NotDecoded::Status(18)),
        (1, NotDecoded::Status(1)),
        (4711, NotDecoded::NoAnswer),
    ] {
        for success in [true, false] {
            assert_eq!(parse(&output(status, "10.0.0.1", 0, ""), success), Err(expected));
        }
    }
    let good = output(0, "10.0.0.1", 0, "text");
    assert_eq!(parse(&good, false), Err(NotDecoded::NoAnswer), "the exit status counts, too");
    for wrong in [
        String::new(),
        "unmunge: Error: Invalid credential version 0".to_owned(),
        "\n\n".to_owned(),
        good.replace("LENGTH:          4", "LENGTH:          5"),
        good.replace("LENGTH:          4", "LENGTH:          3"),
        good.replace("UID:             0", "UID:             root (0)"),
        good.replace("UID:             0", "UID:             +0"),
        good.replace("UID:             0", "UID:             -1"),
        good.replace("UID:             0", "UID:             4294967296"),
        good.replace("UID:             0", "UID:"),
        good.replace("UID:             0\n", ""),
        good.replace("UID:             0\n", "UID: 0\nUID: 0\n"),
        good.replace("UID:", "GID:"),
        good.replace("10.0.0.1", "n1 (10.0.0.1)"),
        good.replace("10.0.0.1", "n1"),
        good.replace("STATUS:          0", "STATUS: Success (0)"),
        good.replace("STATUS:          0", "Success"),
        good.replace("\n\n", "\n"),
        good.replace('\n', "\r\n"),
    ] {
        assert_eq!(parse(&wrong, true), Err(NotDecoded::NoAnswer), "{wrong}");
    }
}

#[test]
fn a_credential_is_for_one_request_of_one_node_by_root() {
    let (node, other) = (node(), "n2".parse().unwrap());
    let decoded = |uid, payload| Decoded { host: address("10.0.0.1"), uid, payload };
    let own = payload("testbed", &node, &REQUEST);
    assert_eq!(decide_content(&decoded(0, own.clone()), &claim(&node)), Ok(()));
    assert_eq!(decide_content(&decoded(1000, own.clone()), &claim(&node)), Err(MungeRefusal::NotRoot { uid: 1000 }));
    for wrong in [
        payload("other", &node, &REQUEST),
        payload("testbed", &other, &REQUEST),
        payload("testbed", &node, &[8; 32]),
        own.replace("enrolment 1", "enrolment 2"),
        own.trim().to_owned(),
        format!("{own}\n"),
        String::new(),
    ] {
        let refused = decide_content(&decoded(0, wrong), &claim(&node)).unwrap_err();
        assert!(refused.to_string().contains("not made for this request of the node n1"), "{refused}");
    }
    assert_eq!(payload("a\nnode n2", &node, &REQUEST).lines().count(), 4);
}

#[test]
fn host_and_connection_must_be_the_nodes() {
    let node = node();
    let addresses = ["10.0.0.1", "10.1.0.1", "2001:db8::1"].map(address);
    let decide = |host: &str, connection: &str, check| {
        let claim = Claim { connection: address(connection), check, ..claim(&node) };
        decide_address(address(host), &claim, &addresses).map_err(|refused| match refused {
            MungeRefusal::OtherHost { .. } => "host",
            MungeRefusal::NoHost { .. } => "no host",
            MungeRefusal::OtherConnection { .. } => "connection",
            _ => "?",
        })
    };
    use ConnectionAddress::{Checked, Ignored};
    for (host, connection, checked, ignored) in [
        ("10.0.0.1", "10.0.0.1", Ok(()), Ok(())),
        ("10.0.0.1", "10.1.0.1", Ok(()), Ok(())),
        ("10.0.0.1", "::ffff:10.0.0.1", Ok(()), Ok(())),
        ("10.0.0.1", "2001:db8::1", Ok(()), Ok(())),
        ("10.0.0.1", "10.0.0.2", Err("connection"), Ok(())),
        ("10.0.0.1", "192.0.2.1", Err("connection"), Ok(())),
        ("10.0.0.2", "10.0.0.1", Err("host"), Err("host")),
        ("10.0.0.2", "10.0.0.2", Err("host"), Err("host")),
        ("0.0.0.0", "10.0.0.1", Ok(()), Err("no host")),
        ("127.0.1.1", "2001:db8::1", Ok(()), Err("no host")),
        ("0.0.0.0", "10.0.0.2", Err("connection"), Err("no host")),
        ("127.0.1.1", "127.0.0.1", Err("connection"), Err("no host")),
    ] {
        assert_eq!(decide(host, connection, Checked), checked, "{host} {connection}");
        assert_eq!(decide(host, connection, Ignored), ignored, "{host} {connection}");
    }
    let nowhere = decide_address(address("10.0.0.1"), &claim(&node), &[]);
    assert!(matches!(nowhere, Err(MungeRefusal::OtherHost { .. })), "a node without addresses");
}

#[test]
fn only_what_looks_like_a_credential_is_given_to_unmunge() {
    assert!(is_credential("MUNGE:AwQFAAC+FfSL/QUk==:"));
    let long = format!("MUNGE:{}:", "A".repeat(LONGEST));
    for wrong in
        ["", "MUNGE:", "MUNGE::", "MUNGE:AA", "AA", "MUNGE:A A:", "MUNGE:AA:\nMUNGE:AA:", "--help", "MUNGE:ä:", &long]
    {
        assert!(!is_credential(wrong), "{wrong}");
    }
}

/// Programs that print what they get.
fn fake(munge: &str, unmunge: &str) -> (tempfile::TempDir, Munge) {
    let temp = tempfile::tempdir().unwrap();
    for (name, script) in [("munge", munge), ("unmunge", unmunge)] {
        let path = temp.path().join(name);
        programs::write(&path, &format!("#!/bin/sh\n{script}\n")).unwrap();
    }
    let path = |name| temp.path().join(name);
    let munge = Munge::at(path("munge"), path("unmunge"), Duration::from_millis(800));
    (temp, munge)
}

struct At(&'static str);

impl NodeAddresses for At {
    fn addresses(&self, _: &NodeName) -> io::Result<Vec<IpAddr>> {
        if self.0.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![address(self.0)]) }
    }
}

#[test]
fn the_programs_get_their_texts_by_standard_input() {
    let node = node();
    let (_temp, munge) = fake(
        "test \"$*\" = --input=- && printf 'MUNGE:'; base64 -w0; echo :",
        "test \"$*\" = '--input=- --numeric --keys=STATUS,ENCODE_HOST,UID,LENGTH' || exit 1\n\
         text=$(sed 's/^MUNGE://;s/:$//' | base64 -d; echo x)\n\
         text=${text%x}\n\
         printf 'STATUS: 0\\nENCODE_HOST: 10.0.0.1\\nUID: 0\\nLENGTH: %s\\n\\n%s' ${#text} \"$text\"",
    );
    let credential = munge.encode("testbed", &node, &REQUEST).unwrap();
    let verified = munge.verify(&credential, &claim(&node), &At("10.0.0.1")).unwrap();
    assert_eq!(verified, Ok(address("10.0.0.1")));
    let other = Claim { request: [8; 32], ..claim(&node) };
    let refused = munge.verify(&credential, &other, &At("10.0.0.1")).unwrap();
    assert!(matches!(refused, Err(MungeRefusal::OtherPayload { .. })), "{refused:?}");
    let refused = munge.verify(&credential, &claim(&node), &At("10.0.0.2")).unwrap();
    assert!(matches!(refused, Err(MungeRefusal::OtherHost { .. })), "{refused:?}");
    let unknown = munge.verify(&credential, &claim(&node), &At("")).unwrap_err().to_string();
    assert!(unknown.contains("addresses of the node n1"), "{unknown}");
    assert_eq!(munge.verify("hello", &claim(&node), &At("10.0.0.1")).unwrap(), Err(MungeRefusal::Malformed));
}

#[test]
fn a_program_that_fails_is_not_a_refusal() {
    let node = node();
    let verify = |script: &str| {
        let (_temp, munge) = fake("exit 6", script);
        munge.verify("MUNGE:AAAA:", &claim(&node), &At("10.0.0.1")).map_err(|error| error.to_string())
    };
    for (script, word) in [
        ("echo 'unmunge: Error: Failed to access \"/run/munge/munge.socket.2\"' >&2; exit 6", "Failed to access"),
        ("exec sleep 30", "did not answer in time"),
        ("kill -KILL $$", "SIGKILL"),
        ("cat /dev/zero", "longer than"),
    ] {
        let error = verify(script).unwrap_err();
        assert!(error.contains("unmunge") && error.contains(word), "{error}");
    }
    let refused = verify("echo 'unmunge: Error: Invalid credential version 0' >&2; exit 9").unwrap().unwrap_err();
    assert!(refused.to_string().contains("Invalid credential version 0"), "{refused}");
    let replayed = verify("printf 'STATUS: 17\\nENCODE_HOST: 10.0.0.1\\nUID: 0\\nLENGTH: 0\\n\\n'; exit 17").unwrap();
    assert_eq!(replayed, Err(MungeRefusal::NotDecoded(NotDecoded::Replayed)));
    let (_temp, munge) = fake("echo 'munge: Error: Failed to access' >&2; exit 6", "");
    assert!(munge.encode("testbed", &node, &REQUEST).unwrap_err().to_string().contains("munge failed: munge: Error"));
    let (_temp, munge) = fake("echo hello", "");
    assert!(munge.encode("testbed", &node, &REQUEST).is_err());
}

proptest! {
    #[test]
    fn a_payload_adds_nothing_to_what_unmunge_says(payload in "[A-Z_: \n0]{0,60}", uid in any::<u32>()) {
        let decoded = parse(&output(0, "10.0.0.1", uid, &payload), true).unwrap();
        prop_assert_eq!(decoded, Decoded { host: address("10.0.0.1"), uid, payload });
    }

    #[test]
    fn a_credential_for_another_claim_is_refused(cluster in "[a-z\n]{1,5}", node in "[a-c]{1,2}", request in 0_u8..3) {
        let own = NodeName::try_from("a".to_owned()).unwrap();
        let claim = Claim { cluster: "a", request: [0; 32], ..claim(&own) };
        let same = cluster == "a" && node == "a" && request == 0;
        let payload = payload(&cluster, &node.parse().unwrap(), &[request; 32]);
        let decided = decide_content(&Decoded { host: address("10.0.0.1"), uid: 0, payload }, &claim);
        prop_assert_eq!(decided.is_ok(), same);
    }
}
