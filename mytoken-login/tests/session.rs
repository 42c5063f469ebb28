// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record from the auth child to the session, and the session's files, in a temporary directory of the user who runs the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../tests/skipped.rs"]
mod skipped;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_login::handover::{Claimant, Handover, Record, RecordError};
use mytoken_login::session::Sessions;
use mytoken_login::{Accepted, Identity, LocalAccount, Process, SessionCredential, SessionMytoken, SessionSettings};
use mytoken_wire::agent::RenewalCredential;
use mytoken_wire::clock::FixedClock;
use skipped::skip;

const NOW: u64 = 1_800_000_000;

fn accepted(delegated: bool) -> Accepted {
    let me = Owner::current();
    Accepted {
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
            lifetime: 3_600,
            renewal: Some(RenewalCredential {
                server: "testbed".into(),
                mytoken: Secret::new("the.my.token"),
                scope: "openid".into(),
                audience: "https://testbed".into(),
            }),
            delegated,
        },
    }
}

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
    handover: Handover,
    sessions: Sessions,
}

impl Place {
    /// The file of a handle: of `f:<uid>:<name>` it is `<uid>/<name>`.
    fn file(&self, handle: &str) -> PathBuf {
        let (uid, name) = handle.strip_prefix("f:").unwrap().split_once(':').unwrap();
        self.path.join("handover").join(uid).join(name)
    }
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mytoken");
    let me = Owner::current();
    let handover = Handover::new(&path.join("handover"), me);
    let sessions = Sessions::new(&path, me);
    Place { _dir: dir, path, handover, sessions }
}

fn login() -> Claimant<'static> {
    Claimant { user: "alice", service: "sshd", process: Process::own() }
}

fn record() -> Record {
    Record::new(&accepted(true), "sshd", vec![Process::own().unwrap()], &FixedClock(NOW))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// The account phase checks the expiry again. It must use the same `leeway`.
#[test]
fn a_token_that_only_the_leeway_accepts_is_valid_in_the_account_phase() {
    let mut late = accepted(false);
    (late.credential.exp, late.credential.good_until) = (NOW - 10, NOW + 20);
    let record = Record::new(&late, "sshd", Vec::new(), &FixedClock(NOW));
    assert!(!record.has_expired(&FixedClock(NOW)) && record.has_expired(&FixedClock(NOW + 20)));
}

#[test]
fn a_record_can_be_taken_once() {
    let place = place();
    let handle = place.handover.store(&record()).unwrap();
    let file = place.file(&handle);
    assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(&place.path)), (0o600, 0o700, 0o711));
    let seen = place.handover.read(&handle, &login(), &FixedClock(NOW)).unwrap();
    let taken = place.handover.take(&handle, &login(), &FixedClock(NOW)).unwrap();
    assert_eq!((&seen, &taken), (&record(), &record()));
    assert!(!file.exists());
    assert_eq!(place.handover.take(&handle, &login(), &FixedClock(NOW)), Err(RecordError::Missing));
}

#[test]
fn a_record_that_another_login_takes_is_refused_and_removed() {
    let other_start = Process { start: Process::own().unwrap().start + 1, ..Process::own().unwrap() };
    let table = [
        (Claimant { user: "bob", ..login() }, "user"),
        (Claimant { service: "su", ..login() }, "service"),
        (Claimant { process: Process::parent(), ..login() }, "process"),
        (Claimant { process: Some(other_start), ..login() }, "process"),
        (Claimant { process: None, ..login() }, "process"),
    ];
    for (other, what) in table {
        let place = place();
        let handle = place.handover.store(&record()).unwrap();
        assert_eq!(place.handover.take(&handle, &other, &FixedClock(NOW)), Err(RecordError::Foreign(what)));
        assert_eq!(place.handover.take(&handle, &login(), &FixedClock(NOW)), Err(RecordError::Missing), "{what}");
    }
}

#[test]
fn a_record_expires_after_ten_minutes() {
    let place = place();
    let handle = place.handover.store(&record()).unwrap();
    assert_eq!(place.handover.read(&handle, &login(), &FixedClock(NOW + 601)), Err(RecordError::Old));
    place.handover.sweep_all(&FixedClock(NOW + 600));
    assert!(place.handover.read(&handle, &login(), &FixedClock(NOW)).is_ok());
    place.handover.sweep_all(&FixedClock(NOW + 601));
    assert_eq!(place.handover.read(&handle, &login(), &FixedClock(NOW)), Err(RecordError::Missing));
}

#[test]
fn files_that_another_user_could_have_written_are_not_used() {
    let place = place();
    let file = place.file(&place.handover.store(&record()).unwrap());
    let name = |digit: &str| format!("f:{}:1-{}", Owner::current().uid, digit.repeat(32));
    let at = |digit: &str| place.file(&name(digit));

    fs::copy(&file, at("a")).unwrap();
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&file, at("b")).unwrap();
    fs::hard_link(&file, at("c")).unwrap();
    fs::write(at("d"), "{}").unwrap();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o600)).unwrap();
    let take = |handle: &str| place.handover.take(handle, &login(), &FixedClock(NOW));
    assert!(matches!(take(&name("a")), Err(RecordError::File(_))));
    assert!(matches!(take(&name("b")), Err(RecordError::File(_))));
    assert!(matches!(take(&name("c")), Err(RecordError::File(_))));
    assert_eq!(take(&name("d")), Err(RecordError::Malformed));
    let twice = name("a").replace("f:", "f:0");
    for handle in ["", "f:", "k:x", "f:../../../etc/shadow", "f:.:.", &name("g"), &format!("{}0", name("a")), &twice] {
        assert_eq!(take(handle), Err(RecordError::Handle), "{handle}");
    }
}

#[test]
fn a_directory_of_another_mode_or_owner_is_not_used() {
    let place = place();
    let handle = place.handover.store(&record()).unwrap();
    let stranger = Owner { uid: 4_242, gid: 4_242 };
    let elsewhere = Handover::new(&place.path.join("handover"), stranger);
    assert!(matches!(elsewhere.read(&handle, &login(), &FixedClock(NOW)), Err(RecordError::File(_))));
}

#[test]
fn a_session_gets_its_files_and_they_are_removed_at_its_end() {
    let place = place();
    let me = Owner::current();
    let installed = place.sessions.install(&record(), &SessionSettings::default()).unwrap();
    let (bearer, mytoken) = (installed.bearer_token_file.unwrap(), installed.mytoken_file.unwrap());
    assert_eq!(bearer, place.path.join(format!("sessions/{}/{}/bt_u{}", me.uid, installed.session, me.uid)));
    assert_eq!(fs::read_to_string(&bearer).unwrap(), "the.access.token");
    assert_eq!(fs::read_to_string(&mytoken).unwrap(), "the.my.token\n");
    for file in [&bearer, &mytoken] {
        assert_eq!((mode(file), fs::metadata(file).unwrap().uid()), (0o600, me.uid));
    }
    assert_eq!(mode(bearer.parent().unwrap()), 0o700);
    assert_eq!(mode(bearer.parent().unwrap().parent().unwrap()), 0o700);
    assert_eq!(mode(&place.path.join("sessions")), 0o711);

    let second = place.sessions.install(&record(), &SessionSettings::default()).unwrap();
    place.sessions.remove(&installed.session, me);
    assert!(!bearer.parent().unwrap().exists());
    assert!(second.bearer_token_file.unwrap().exists(), "another session keeps its files");
    place.sessions.remove(&installed.session, me);
}

#[test]
fn a_session_gets_a_mytoken_only_when_it_is_delegated_and_configured() {
    let never = SessionSettings { mytoken: SessionMytoken::Never, ..SessionSettings::default() };
    let nothing = SessionSettings { access_token: false, mytoken: SessionMytoken::Never };
    for (delegated, settings, bearer, mytoken) in [
        (true, SessionSettings::default(), true, true),
        (false, SessionSettings::default(), true, false),
        (true, never, true, false),
        (true, nothing, false, false),
    ] {
        let place = place();
        let record = Record::new(&accepted(delegated), "sshd", Vec::new(), &FixedClock(NOW));
        let installed = place.sessions.install(&record, &settings).unwrap();
        assert_eq!((installed.bearer_token_file.is_some(), installed.mytoken_file.is_some()), (bearer, mytoken));
    }
}

#[test]
fn as_root_the_files_belong_to_the_user() {
    if Owner::current().uid != 0 {
        return skip("only root can write as another user").unwrap();
    }
    let place = place();
    let mut accepted = accepted(true);
    (accepted.account.uid, accepted.account.gid) = (4_242, 4_343);
    fs::set_permissions(place.path.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    let record = Record::new(&accepted, "sshd", Vec::new(), &FixedClock(NOW));
    let installed = place.sessions.install(&record, &SessionSettings::default()).unwrap();
    let bearer = installed.bearer_token_file.unwrap();
    for path in [bearer.as_path(), bearer.parent().unwrap(), bearer.parent().unwrap().parent().unwrap()] {
        let meta = fs::metadata(path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4_242, 4_343), "{}", path.display());
    }
    assert_eq!(fs::metadata(place.path.join("sessions")).unwrap().uid(), 0);

    // The user replaces the session's directory by a link to another directory. Nothing is removed there.
    let victim = place.path.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "x").unwrap();
    let session = bearer.parent().unwrap();
    fs::rename(session, session.with_extension("moved")).unwrap();
    symlink(&victim, session).unwrap();
    place.sessions.remove(&installed.session, Owner { uid: 4_242, gid: 4_343 });
    assert!(victim.join("precious").exists());
}
