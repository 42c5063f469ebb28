// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records of logins that never open a session: they are removed, and they do not slow down other logins.

use std::fs;
use std::path::PathBuf;

use crate::session_fixture::{NOW, Runtime, accepted, claimant};
use mytoken_login::Process;
use mytoken_login::handover::{ACCOUNT_LIMIT, LEFT_LIMIT, Record, RecordError};
use mytoken_wire::clock::FixedClock;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

/// A running process.
fn running() -> Process {
    Process::own().unwrap()
}

/// A process that has ended. Its id belongs to another process now.
fn ended() -> Process {
    Process { start: running().start + 1, ..running() }
}

/// The record of a login to account `uid`. `processes` may take it.
fn record(uid: u32, created: u64, processes: &[Process]) -> Record {
    let mut accepted = accepted();
    accepted.account.uid = uid;
    Record::new(&accepted, "sshd", processes.to_vec(), &FixedClock(created)).unwrap()
}

#[test]
fn records_of_ended_processes_are_removed_and_others_stay() {
    let runtime = Runtime::new();
    let kept = runtime.handover.store(&record(1_001, NOW, &[ended(), running()])).unwrap();
    runtime.handover.store(&record(1_001, NOW, &[ended()])).unwrap();
    runtime.handover.store(&record(1_002, NOW, &[ended(), ended()])).unwrap();
    runtime.handover.store(&record(1_003, NOW - 601, &[running()])).unwrap();
    assert_eq!(runtime.record_files().len(), 4);
    runtime.handover.sweep_all(&FixedClock(NOW));
    assert_eq!(runtime.record_files().len(), 1);
    let directory = runtime.records_dir();
    assert!(!directory.join("1002").exists() && !directory.join("1003").exists(), "empty directories are removed");
    assert!(runtime.handover.take(&kept, &claimant(), &FixedClock(NOW)).is_ok());
    runtime.handover.sweep_all(&FixedClock(NOW));
    assert_eq!(runtime.handover.take(&kept, &claimant(), &FixedClock(NOW)), Err(RecordError::Missing));
}

#[test]
fn a_sweep_opens_no_record() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&record(1_001, NOW, &[ended()])).unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    let file = runtime.record_file(&handle);
    inotify.add_watch(&file, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS).unwrap();
    // With a second link, the removal does not end the watch.
    fs::hard_link(&file, runtime.path.join("second")).unwrap();
    runtime.handover.sweep_all(&FixedClock(NOW));
    assert!(!file.exists());
    assert!(inotify.read_events().is_err(), "the sweep opened the record");
}

#[test]
fn logins_sweep_once_a_minute_and_a_limited_number_of_names() {
    let runtime = Runtime::new();
    for uid in 0..250 {
        runtime.handover.store(&record(uid, NOW, &[ended()])).unwrap();
    }
    runtime.handover.sweep(&FixedClock(NOW));
    let after_one = runtime.record_files().len();
    assert!((100..250).contains(&after_one), "{after_one} of 250 are left");
    runtime.handover.sweep(&FixedClock(NOW + 59));
    assert_eq!(runtime.record_files().len(), after_one, "the same minute");
    runtime.handover.sweep(&FixedClock(NOW + 60));
    runtime.handover.sweep(&FixedClock(NOW - 60));
    assert_eq!(runtime.record_files().len(), 0, "a clock that is set back does not stop the sweeps");
}

#[test]
fn the_records_of_an_account_are_limited_and_others_are_not_affected() {
    let runtime = Runtime::new();
    for _ in 0..ACCOUNT_LIMIT {
        runtime.handover.store(&record(1_001, NOW, &[running()])).unwrap();
    }
    let full = runtime.handover.store(&record(1_001, NOW, &[running()])).unwrap_err();
    assert!(full.to_string().contains("64 logins of this account are waiting"), "{full}");
    runtime.handover.store(&record(1_002, NOW, &[running()])).unwrap();
    // Records of ended processes are replaced at once.
    for _ in 0..2 * ACCOUNT_LIMIT {
        runtime.handover.store(&record(1_003, NOW, &[ended()])).unwrap();
    }
    assert!(runtime.record_files().len() <= 2 * ACCOUNT_LIMIT + 1);
}

/// The record of a login whose mytoken was made for its session alone.
fn own_record(uid: u32, created: u64, processes: &[Process]) -> Record {
    let mut accepted = accepted();
    accepted.account.uid = uid;
    accepted.credential.as_mut().unwrap().for_session = true;
    Record::new(&accepted, "sshd", processes.to_vec(), &FixedClock(created)).unwrap()
}

#[test]
fn a_record_whose_mytoken_is_to_be_revoked_waits_for_the_agent() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&own_record(1_001, NOW, &[ended()])).unwrap();
    runtime.handover.store(&own_record(1_002, NOW, &[running()])).unwrap();
    for _ in 0..2 {
        runtime.handover.sweep_all(&FixedClock(NOW));
        assert_eq!(runtime.record_files().len(), 2);
    }
    let (found, problems) = runtime.handover.abandoned(&FixedClock(NOW));
    assert_eq!((found.len(), problems.len()), (1, 0), "the other one waits for its session");
    assert_eq!((found[0].uid, found[0].renewal.mytoken.expose()), (1_001, "the.my.token"));
    assert!(handle.ends_with(&found[0].id) && !found[0].had_session && found[0].verified);
    assert_eq!(runtime.handover.abandoned(&FixedClock(NOW)).0, found, "it stays until the agent has stored it");
    runtime.handover.settle(&found[0]);
    assert_eq!(runtime.record_files().len(), 1);
    // Too old for its session.
    assert_eq!(runtime.handover.abandoned(&FixedClock(NOW + 601)).0.len(), 1);
    // No agent has come for a day.
    runtime.handover.sweep(&FixedClock(NOW + 24 * 3_600));
    assert_eq!(runtime.record_files().len(), 1);
    runtime.handover.sweep(&FixedClock(NOW + 24 * 3_600 + 61));
    assert_eq!(runtime.record_files().len(), 0);
}

#[test]
fn a_record_that_another_login_asks_for_stays_for_the_agent() {
    for (record, left) in [(own_record(1_001, NOW, &[ended()]), 1), (record(1_001, NOW, &[ended()]), 0)] {
        let runtime = Runtime::new();
        let handle = runtime.handover.store(&record).unwrap();
        let taken = runtime.handover.take(&handle, &claimant(), &FixedClock(NOW));
        assert_eq!(taken, Err(RecordError::Foreign("process")));
        assert_eq!(runtime.record_files().len(), left);
    }
}

#[test]
fn records_for_the_agent_take_no_place_of_a_login_and_none_is_lost() {
    let runtime = Runtime::new();
    for _ in 0..ACCOUNT_LIMIT {
        runtime.handover.store(&own_record(1_001, NOW, &[ended()])).unwrap();
        runtime.handover.store_for_end(&own_record(1_001, NOW, &[ended()]), running()).unwrap();
        runtime.handover.store_for_revocation(&own_record(1_001, NOW, &[ended()])).unwrap();
    }
    for _ in 0..ACCOUNT_LIMIT {
        runtime.handover.store(&own_record(1_001, NOW, &[running()])).unwrap();
    }
    assert!(runtime.handover.store(&own_record(1_001, NOW, &[running()])).is_err(), "no more logins at once");
    runtime.handover.store_for_revocation(&own_record(1_001, NOW, &[ended()])).unwrap();
    assert_eq!(runtime.handover.abandoned(&FixedClock(NOW)).0.len(), 2 * ACCOUNT_LIMIT + 1);
}

#[test]
fn without_an_agent_the_oldest_records_make_room() {
    let runtime = Runtime::new();
    runtime.handover.store_for_end(&own_record(1_001, NOW - 9, &[ended()]), running()).unwrap();
    let oldest = runtime.handover.store(&own_record(1_001, NOW - 1, &[ended()])).unwrap();
    for _ in 2..LEFT_LIMIT {
        runtime.handover.store_for_revocation(&own_record(1_001, NOW, &[])).unwrap();
    }
    assert!(runtime.record_file(&oldest).exists());
    runtime.handover.store(&own_record(1_001, NOW, &[running()])).unwrap();
    assert!(!runtime.record_file(&oldest).exists());
    assert_eq!(runtime.record_files().len(), LEFT_LIMIT);
    let is_of_session = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().starts_with('s');
    assert_eq!(runtime.record_files().iter().filter(|file| is_of_session(file)).count(), 1, "its session runs");
}

#[test]
fn a_damaged_record_is_kept_and_told() {
    let runtime = Runtime::new();
    let handle = runtime.handover.store(&own_record(1_001, NOW, &[ended()])).unwrap();
    fs::write(runtime.record_file(&handle), "{").unwrap();
    let (found, problems) = runtime.handover.abandoned(&FixedClock(NOW));
    assert!(found.is_empty() && problems[0].to_string().contains("it is kept as"), "{problems:?}");
    assert!(runtime.handover.abandoned(&FixedClock(NOW)).1.is_empty());
}

#[test]
fn the_record_of_a_session_waits_for_its_end() {
    let runtime = Runtime::new();
    runtime.handover.store_for_end(&own_record(1_001, NOW, &[ended()]), running()).unwrap();
    let later = FixedClock(NOW + 9 * 24 * 3_600);
    runtime.handover.sweep_all(&later);
    assert!(runtime.handover.abandoned(&later).0.is_empty());
    runtime.handover.store_for_end(&own_record(1_001, NOW, &[running()]), ended()).unwrap();
    runtime.handover.sweep_all(&later);
    let (found, _) = runtime.handover.abandoned(&later);
    assert_eq!((found.len(), found[0].had_session), (1, true));
}

#[test]
fn the_mytoken_of_a_session_that_gets_none_is_for_the_agent_at_once() {
    let runtime = Runtime::new();
    runtime.handover.store_for_revocation(&own_record(1_001, NOW, &[running()])).unwrap();
    runtime.handover.sweep_all(&FixedClock(NOW));
    let (found, _) = runtime.handover.abandoned(&FixedClock(NOW));
    assert_eq!((found.len(), found[0].had_session), (1, false));
}

/// How many directories of other accounts a login lists, and how many of their records it opens or reads.
fn accesses(runtime: &Runtime, others: u32) -> usize {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    let all = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS;
    for uid in 0..others {
        inotify.add_watch(&runtime.records_dir().join((2_000 + uid).to_string()), all).unwrap();
    }
    inotify.add_watch(&runtime.records_dir(), AddWatchFlags::IN_ACCESS).unwrap();
    runtime.handover.sweep(&FixedClock(NOW + 1));
    let handle = runtime.handover.store(&record(1_001, NOW, &[running()])).unwrap();
    runtime.handover.read(&handle, &claimant(), &FixedClock(NOW)).unwrap();
    runtime.handover.take(&handle, &claimant(), &FixedClock(NOW)).unwrap();
    let read = || inotify.read_events().unwrap_or_default();
    // The directory of its own account and the marker are in the watched directory.
    let own = |event: &&InotifyEvent| event.name.as_ref().is_some_and(|name| name == "swept" || name == "1001");
    let count = |events: Vec<InotifyEvent>| events.iter().filter(|event| !own(event)).count();
    std::iter::repeat_with(read).take_while(|events| !events.is_empty()).map(count).sum()
}

#[test]
fn a_login_opens_no_record_of_other_accounts() {
    let runtime = Runtime::new();
    runtime.handover.store(&record(1_001, NOW, &[ended()])).unwrap();
    runtime.handover.sweep(&FixedClock(NOW));
    assert_eq!(accesses(&runtime, 0), 0);
    for number in 0..1_000 {
        runtime.handover.store(&record(2_000 + number % 20, NOW, &[running()])).unwrap();
    }
    assert_eq!(accesses(&runtime, 20), 0);
    assert_eq!(runtime.record_files().len(), 1_000);
}
