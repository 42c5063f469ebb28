// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a session: which records are used, and the message to the agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken::{Deadline, Secret};
use mytoken_login::handover::{Claimant, Handover, Record, RecordError};
use mytoken_login::session::{Installed, register};
use mytoken_login::{Accepted, Identity, LocalAccount, Process, SessionCredential};
use mytoken_wire::agent::{Answer, Envelope, RenewalCredential};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn record(renewal: bool) -> Record {
    let me = Owner::current();
    let accepted = Accepted {
        account: LocalAccount { name: "alice".into(), uid: me.uid, gid: me.gid, system: false },
        identity: Identity {
            issuer: "op".into(),
            iss: "https://op.example.org".into(),
            sub: "s-1".into(),
            scopes: Vec::new(),
            claims: serde_json::Map::new(),
        },
        rule: "hpc".into(),
        credential: SessionCredential {
            access_token: Secret::new("the.access.token"),
            exp: NOW + 3_600,
            good_until: NOW + 3_630,
            lifetime: 3_500,
            renewal: renewal.then(|| RenewalCredential {
                server: "testbed".into(),
                mytoken: Secret::new("the.my.token"),
                scope: "openid".into(),
                audience: "https://testbed".into(),
            }),
            delegated: false,
        },
    };
    Record::new(&accepted, "sshd", vec![Process::own().unwrap()], &FixedClock(NOW))
}

/// After an upgrade a record can be of another version, in which members have other meanings.
#[test]
fn a_record_of_another_version_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mytoken/handover");
    let handover = Handover::new(&path, Owner::current());
    let login = Claimant { user: "alice", service: "sshd", process: Process::own() };
    let own = serde_json::to_value(record(true)).unwrap()["v"].as_u64().unwrap();
    for (version, good) in [
        (json!(own), true),
        (json!(own - 1), false),
        (json!(own + 1), false),
        (json!(u32::MAX), false),
        (json!(own.to_string()), false),
        (Value::Null, false),
    ] {
        let handle = handover.store(&record(true)).unwrap();
        let (uid, name) = handle.strip_prefix("f:").unwrap().split_once(':').unwrap();
        let file = path.join(uid).join(name);
        let mut written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        written["v"] = version.clone();
        fs::write(&file, written.to_string()).unwrap();
        for _ in 0..2 {
            let seen = handover.read(&handle, &login, &FixedClock(NOW));
            assert_eq!(seen, if good { Ok(record(true)) } else { Err(RecordError::Malformed) }, "{version}");
        }
        let taken = handover.take(&handle, &login, &FixedClock(NOW));
        assert_eq!(taken.is_ok(), good, "{version}");
        assert!(!file.exists(), "{version}: it is removed in any case");
    }
}

/// The message that `register` sends for this record.
fn registration(record: &Record, installed: &Installed) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let answer = serde_json::to_string(&Envelope::of(Answer::Done {})).unwrap();
        stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
        line
    });
    register(&socket, record, installed, 4_242, Deadline::after(Duration::from_secs(5))).unwrap();
    serde_json::from_str(&agent.join().unwrap()).unwrap()
}

#[test]
fn the_agent_gets_expiry_and_lifetime_of_the_access_token_and_the_mytoken() {
    let installed = Installed {
        session: "0123456789abcdef0123456789abcdef".into(),
        bearer_token_file: Some(PathBuf::from("/x")),
        mytoken_file: None,
    };
    let me = Owner::current();
    let start = json!({"v": 1, "call": "session_start", "session": installed.session, "uid": me.uid, "gid": me.gid,
        "pid": 4_242, "server": "testbed", "mytoken": "the.my.token", "scope": "openid", "audience": "https://testbed",
        "exp": NOW + 3_600, "lifetime": 3_500});
    assert_eq!(registration(&record(true), &installed), start);

    // Without the file or without a mytoken there is nothing to renew. The message holds no secret then.
    let without = json!({"v": 1, "call": "session_start", "session": installed.session, "uid": me.uid, "gid": me.gid,
        "pid": 4_242, "exp": NOW + 3_600, "lifetime": 3_500});
    assert_eq!(registration(&record(false), &installed), without);
    let installed = Installed { bearer_token_file: None, ..installed };
    assert_eq!(registration(&record(true), &installed), without);
}
