// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records of logins that never open a session: they are removed, and they do not slow down other logins.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use mytoken::Secret;
use mytoken::private_files::Owner;
use mytoken_login::handover::{ACCOUNT_LIMIT, Claimant, Handover, Record, RecordError};
use mytoken_login::{Accepted, Identity, LocalAccount, Process, SessionCredential};
use mytoken_wire::clock::FixedClock;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

const NOW: u64 = 1_800_000_000;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
    handover: Handover,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mytoken/handover");
    let handover = Handover::new(&path, Owner::current());
    Place { path, handover, _dir: dir }
}

/// A running process.
fn living() -> Process {
    Process::own().unwrap()
}

/// A process that has ended. Its id belongs to another process now.
fn dead() -> Process {
    Process { start: living().start + 1, ..living() }
}

fn record(uid: u32, created: u64, processes: &[Process]) -> Record {
    let accepted = Accepted {
        account: LocalAccount { name: "alice".into(), uid, gid: uid, system: false },
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
            renewal: None,
            delegated: false,
        },
    };
    Record::new(&accepted, "sshd", processes.to_vec(), &FixedClock(created))
}

/// The files of the records: `<uid>/<name>`.
fn left(place: &Place) -> Vec<PathBuf> {
    let below = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    below(&place.path).iter().filter(|path| path.is_dir()).flat_map(|account| below(account)).collect()
}

#[test]
fn records_of_ended_processes_are_removed_and_others_stay() {
    let place = place();
    let kept = place.handover.store(&record(1_001, NOW, &[dead(), living()])).unwrap();
    place.handover.store(&record(1_001, NOW, &[dead()])).unwrap();
    place.handover.store(&record(1_002, NOW, &[dead(), dead()])).unwrap();
    place.handover.store(&record(1_003, NOW - 601, &[living()])).unwrap();
    assert_eq!(left(&place).len(), 4);
    place.handover.sweep_all(&FixedClock(NOW));
    assert_eq!(left(&place).len(), 1);
    assert!(!place.path.join("1002").exists() && !place.path.join("1003").exists(), "directories without records stay");
    let login = Claimant { user: "alice", service: "sshd", process: Process::own() };
    assert!(place.handover.take(&kept, &login, &FixedClock(NOW)).is_ok());
    place.handover.sweep_all(&FixedClock(NOW));
    assert_eq!(place.handover.take(&kept, &login, &FixedClock(NOW)), Err(RecordError::Missing));
}

#[test]
fn a_sweep_opens_no_record() {
    let place = place();
    let handle = place.handover.store(&record(1_001, NOW, &[dead()])).unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    let file = place.path.join(handle.strip_prefix("f:").unwrap().replace(':', "/"));
    inotify.add_watch(&file, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS).unwrap();
    // With a second link, the removal does not end the watch.
    fs::hard_link(&file, place.path.parent().unwrap().join("second")).unwrap();
    place.handover.sweep_all(&FixedClock(NOW));
    assert!(!file.exists());
    assert!(inotify.read_events().is_err(), "it was opened");
}

#[test]
fn logins_sweep_once_a_minute_and_a_limited_number_of_names() {
    let place = place();
    for uid in 0..250 {
        place.handover.store(&record(uid, NOW, &[dead()])).unwrap();
    }
    place.handover.sweep(&FixedClock(NOW));
    let after_one = left(&place).len();
    assert!((100..250).contains(&after_one), "{after_one} of 250 are left");
    place.handover.sweep(&FixedClock(NOW + 59));
    assert_eq!(left(&place).len(), after_one, "the same minute");
    place.handover.sweep(&FixedClock(NOW + 60));
    place.handover.sweep(&FixedClock(NOW - 60));
    assert_eq!(left(&place).len(), 0, "a clock that is set back does not stop the sweeps");
}

#[test]
fn the_records_of_an_account_are_limited_and_others_are_not_affected() {
    let place = place();
    for _ in 0..ACCOUNT_LIMIT {
        place.handover.store(&record(1_001, NOW, &[living()])).unwrap();
    }
    let full = place.handover.store(&record(1_001, NOW, &[living()])).unwrap_err();
    assert!(full.to_string().contains("64 logins of this account are waiting"), "{full}");
    place.handover.store(&record(1_002, NOW, &[living()])).unwrap();
    // Records of ended processes are replaced at once.
    for _ in 0..2 * ACCOUNT_LIMIT {
        place.handover.store(&record(1_003, NOW, &[dead()])).unwrap();
    }
    assert!(left(&place).len() <= 2 * ACCOUNT_LIMIT + 1);
}

/// How many directories of other accounts a login lists, and how many of their records it opens or reads.
fn accesses(place: &Place, others: u32) -> usize {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    let all = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS;
    for uid in 0..others {
        inotify.add_watch(&place.path.join((2_000 + uid).to_string()), all).unwrap();
    }
    inotify.add_watch(&place.path, AddWatchFlags::IN_ACCESS).unwrap();
    place.handover.sweep(&FixedClock(NOW + 1));
    let handle = place.handover.store(&record(1_001, NOW, &[living()])).unwrap();
    let login = Claimant { user: "alice", service: "sshd", process: Process::own() };
    place.handover.read(&handle, &login, &FixedClock(NOW)).unwrap();
    place.handover.take(&handle, &login, &FixedClock(NOW)).unwrap();
    let read = || inotify.read_events().unwrap_or_default();
    // The directory of its own account and the marker are in the watched directory.
    let own = |event: &&InotifyEvent| event.name.as_ref().is_some_and(|name| name == "swept" || name == "1001");
    let count = |events: Vec<InotifyEvent>| events.iter().filter(|event| !own(event)).count();
    std::iter::repeat_with(read).take_while(|events| !events.is_empty()).map(count).sum()
}

#[test]
fn a_login_opens_no_record_of_other_accounts() {
    let place = place();
    place.handover.store(&record(1_001, NOW, &[dead()])).unwrap();
    place.handover.sweep(&FixedClock(NOW));
    assert_eq!(accesses(&place, 0), 0);
    for number in 0..1_000 {
        place.handover.store(&record(2_000 + number % 20, NOW, &[living()])).unwrap();
    }
    assert_eq!(accesses(&place, 20), 0);
    assert_eq!(left(&place).len(), 1_000);
}
