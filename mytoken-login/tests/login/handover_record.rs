// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which hand-over records a session can use: whose they are, how old, of which version, and who could have written them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::session_fixture::{NOW, Runtime, accepted, claimant, record};
use mytoken::private_files::Owner;
use mytoken_login::Process;
use mytoken_login::handover::{Claimant, Handover, Record, RecordError};
use mytoken_wire::clock::FixedClock;
use serde_json::{Value, json};

const CLOCK: FixedClock = FixedClock(NOW);

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_record_can_be_taken_once() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&record()).unwrap();
    let file = runtime.record_file(&handle);
    assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(&runtime.path)), (0o600, 0o700, 0o711));
    let read = runtime.handover.read(&handle, &claimant(), &CLOCK).unwrap();
    let taken = runtime.handover.take(&handle, &claimant(), &CLOCK).unwrap();
    assert_eq!((&read, &taken), (&record(), &record()));
    assert!(!file.exists());
    assert_eq!(runtime.handover.take(&handle, &claimant(), &CLOCK), Err(RecordError::Missing));
}

#[test]
fn a_record_that_another_login_takes_is_refused_and_removed() {
    let other_start = Process { start: Process::own().unwrap().start + 1, ..Process::own().unwrap() };
    let table = [
        (Claimant { user: "bob", ..claimant() }, "user"),
        (Claimant { service: "su", ..claimant() }, "service"),
        (Claimant { process: Process::parent(), ..claimant() }, "process"),
        (Claimant { process: Some(other_start), ..claimant() }, "process"),
        (Claimant { process: None, ..claimant() }, "process"),
    ];
    for (other, difference) in table {
        let runtime = Runtime::new();
        let handle = runtime.handover.store(&record()).unwrap();
        assert_eq!(runtime.handover.take(&handle, &other, &CLOCK), Err(RecordError::Foreign(difference)));
        let second = runtime.handover.take(&handle, &claimant(), &CLOCK);
        assert_eq!(second, Err(RecordError::Missing), "{difference}");
    }
}

#[test]
fn a_record_expires_after_ten_minutes() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&record()).unwrap();
    assert_eq!(runtime.handover.read(&handle, &claimant(), &FixedClock(NOW + 601)), Err(RecordError::Old));
    runtime.handover.sweep_all(&FixedClock(NOW + 600));
    assert!(runtime.handover.read(&handle, &claimant(), &CLOCK).is_ok());
    runtime.handover.sweep_all(&FixedClock(NOW + 601));
    assert_eq!(runtime.handover.read(&handle, &claimant(), &CLOCK), Err(RecordError::Missing));
}

/// The account phase checks the expiry again. It must use the same `leeway`.
#[test]
fn a_token_that_only_the_leeway_accepts_is_valid_in_the_account_phase() {
    let mut late = accepted();
    let credential = late.credential.as_mut().unwrap();
    (credential.exp, credential.good_until) = (NOW - 10, NOW + 20);
    let record = Record::new(&late, "sshd", Vec::new(), &CLOCK).unwrap();
    assert!(!record.has_expired(&CLOCK) && record.has_expired(&FixedClock(NOW + 20)));
}

#[test]
fn files_that_another_user_could_have_written_are_not_used() {
    let runtime = Runtime::new();
    let file = runtime.record_file(&runtime.handover.store(&record()).unwrap());
    let handle = |digit: &str| format!("f:{}:1-{}", Owner::current().uid, digit.repeat(32));
    let at = |digit: &str| runtime.record_file(&handle(digit));

    fs::copy(&file, at("a")).unwrap();
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&file, at("b")).unwrap();
    fs::hard_link(&file, at("c")).unwrap();
    fs::write(at("d"), "{}").unwrap();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o600)).unwrap();
    let take = |handle: &str| runtime.handover.take(handle, &claimant(), &CLOCK);
    for (digit, reason) in
        [("a", "with mode 0640"), ("b", "it is a symbolic link"), ("c", "not a regular file"), ("d", "malformed")]
    {
        let told = take(&handle(digit)).unwrap_err().to_string();
        let kept =
            runtime.records_dir().join("unreadable").join(format!("{}-1-{}", Owner::current().uid, digit.repeat(32)));
        assert!(told.contains(reason) && told.ends_with(&format!("; it is kept as {}", kept.display())), "{told}");
        assert!(fs::symlink_metadata(kept).is_ok() && fs::symlink_metadata(at(digit)).is_err());
        assert_eq!(take(&handle(digit)), Err(RecordError::Missing));
    }
    runtime.handover.sweep_all(&FixedClock(NOW + 100_000));
    assert_eq!(fs::read_dir(runtime.records_dir().join("unreadable")).unwrap().count(), 4, "no sweep removes them");
}

#[test]
fn the_oldest_kept_records_make_room() {
    let runtime = Runtime::new();
    for number in 0..66_u64 {
        let handle = runtime.handover.store(&record()).unwrap();
        let file = runtime.record_file(&handle);
        fs::write(&file, format!("record {number}")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW + number);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        runtime.handover.take(&handle, &claimant(), &CLOCK).unwrap_err();
    }
    let kept = fs::read_dir(runtime.records_dir().join("unreadable")).unwrap();
    let mut kept: Vec<String> = kept.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    kept.sort_by_key(|text| text.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!((kept.len(), kept[0].as_str(), kept[63].as_str()), (64, "record 2", "record 65"));
}

#[test]
fn malformed_handles_are_refused() {
    let runtime = Runtime::new();
    runtime.handover.store(&record()).unwrap();
    let good = format!("f:{}:1-{}", Owner::current().uid, "a".repeat(32));
    assert_eq!(runtime.handover.read(&good, &claimant(), &CLOCK), Err(RecordError::Missing));
    let (leading_zero, longer, not_hexadecimal) =
        (good.replace("f:", "f:0"), format!("{good}0"), good.replace("aa", "gg"));
    for handle in ["", "f:", "k:x", "f:../../../etc/shadow", "f:.:.", &leading_zero, &longer, &not_hexadecimal] {
        assert_eq!(runtime.handover.take(handle, &claimant(), &CLOCK), Err(RecordError::Handle), "{handle}");
    }
}

#[test]
fn a_directory_of_another_owner_is_not_used() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&record()).unwrap();
    let stranger = Handover::new(&runtime.records_dir(), Owner { uid: 4_242, gid: 4_242 });
    assert!(matches!(stranger.read(&handle, &claimant(), &CLOCK), Err(RecordError::File(_))));
}

/// Stores a record, replaces its content, and checks that it cannot be used, and is kept aside by the phase that finds it.
fn check_refused_and_kept(runtime: &Runtime, content: &Value) {
    for by_session in [false, true] {
        let handle = runtime.handover.store(&record()).unwrap();
        let file = runtime.record_file(&handle);
        fs::write(&file, content.to_string()).unwrap();
        let found = if by_session {
            runtime.handover.take(&handle, &claimant(), &CLOCK)
        } else {
            runtime.handover.read(&handle, &claimant(), &CLOCK)
        };
        let told = found.unwrap_err().to_string();
        let kept = told.strip_prefix("the record is malformed; it is kept as ").unwrap_or_default();
        assert_eq!(fs::read_to_string(kept).unwrap_or(told), content.to_string());
        assert!(!file.exists(), "{content}");
    }
}

#[test]
fn a_record_of_another_version_is_refused_and_kept() {
    let runtime = Runtime::new();
    let written = serde_json::to_value(record()).unwrap();
    let own = written["v"].as_u64().unwrap();
    for version in [json!(own - 1), json!(own + 1), json!(u32::MAX), json!(own.to_string()), Value::Null] {
        let mut other = written.clone();
        other["v"] = version;
        check_refused_and_kept(&runtime, &other);
    }
}

/// A record as modules before version 2 wrote it, for a login that this process may open: `delegated` is a member of `renewal`.
fn version_1() -> Value {
    let (me, process) = (Owner::current(), Process::own().unwrap());
    json!({
        "v": 1, "user": "alice", "uid": me.uid, "gid": me.gid, "service": "sshd", "issuer": "op", "sub": "s-1",
        "rule": "hpc", "access_token": "the.access.token", "exp": NOW + 3_600, "good_until": NOW + 3_630,
        "lifetime": 3_500,
        "renewal": {
            "server": "testbed", "mytoken": "the.my.token", "scope": "openid", "audience": "https://testbed",
            "delegated": true,
        },
        "created": NOW, "processes": [{"pid": process.pid, "start": process.start}],
    })
}

/// An upgrade can replace the module between the authentication and the session of a login.
#[test]
fn a_record_of_version_1_is_refused_and_kept() {
    check_refused_and_kept(&Runtime::new(), &version_1());
}

/// Why the version was raised: the members of version 1 can be read as version 2, but `delegated` would get lost. The session would
/// have no mytoken, and no later step would revoke it.
#[test]
fn version_1_read_as_version_2_would_lose_the_delegation() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&record()).unwrap();
    let mut relabelled = version_1();
    relabelled["v"] = json!(2);
    fs::write(runtime.record_file(&handle), relabelled.to_string()).unwrap();
    let read = runtime.handover.read(&handle, &claimant(), &CLOCK).unwrap();
    assert!(read.credential.renewal.is_some());
    assert_eq!(read.credential.delegated(), None);
}
