// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes that enrol, are removed, and come back with another key.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Elapsed time is set by the test; the time of day is ahead of the machine's, which the times of files have, by as much.
#[derive(Default)]
struct TestClock(AtomicU64);

impl TestClock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl ScheduleClock for TestClock {
    fn unix_millis(&self) -> u64 {
        mytoken::SystemClock.unix_millis() + self.0.load(Ordering::Relaxed) * 1000
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

struct Site {
    temp: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Site {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    fn open(&self) -> Register {
        let directory = Directory::open(self.temp.path()).unwrap();
        Register::open(directory, Owner::current(), Arc::clone(&self.clock) as _).unwrap()
    }

    fn file(&self, node: &str) -> std::path::PathBuf {
        self.temp.path().join(format!("{node}.json"))
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

const MUNGE: Proof = Proof::Munge { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)) };
const ONE: KeyHash = KeyHash([1; 32]);
const TWO: KeyHash = KeyHash([2; 32]);

#[test]
fn a_key_replaces_another_one_only_where_the_table_says_so() {
    let entry = |proof: Option<&Proof>| NodeEntry {
        node: node("n1"),
        key: proof.map(|_| ONE),
        enrolled: 0,
        proof: proof.cloned(),
        certificate_ends: 100,
        address: None,
    };
    let refused = || PinRefusal::OtherKey { node: node("n1") };
    let (site, code) = (Proof::Site, Proof::Code);
    let decided =
        |existing: Option<&NodeEntry>, key, proof, ends, repin| decide(existing, &node("n1"), key, proof, ends, repin);
    for (existing, key, proof, repin, expected) in [
        (None, ONE, &MUNGE, Repin::Refused, Ok(Pinned::New)),
        (None, ONE, &code, Repin::Refused, Ok(Pinned::New)),
        (Some(&MUNGE), ONE, &MUNGE, Repin::Refused, Ok(Pinned::Again)),
        (Some(&code), ONE, &site, Repin::Refused, Ok(Pinned::Again)),
        (Some(&MUNGE), TWO, &MUNGE, Repin::Refused, Err(refused())),
        (Some(&MUNGE), TWO, &MUNGE, Repin::Allowed, Ok(Pinned::Replaced(ONE))),
        (Some(&code), TWO, &MUNGE, Repin::Allowed, Ok(Pinned::Replaced(ONE))),
        (Some(&MUNGE), TWO, &code, Repin::Refused, Err(refused())),
        (Some(&MUNGE), TWO, &code, Repin::Allowed, Err(refused())),
        (Some(&code), TWO, &code, Repin::Allowed, Err(refused())),
        (Some(&site), TWO, &site, Repin::Refused, Ok(Pinned::Replaced(ONE))),
        (Some(&MUNGE), TWO, &site, Repin::Allowed, Err(refused())),
        (Some(&site), TWO, &MUNGE, Repin::Refused, Err(refused())),
    ] {
        let existing = existing.map(|proof| entry(Some(proof)));
        assert_eq!(decided(existing.as_ref(), key, proof, 100, repin), expected, "{existing:?} {proof} {repin:?}");
    }
    for proof in [&MUNGE, &code, &site] {
        let blocked = decided(Some(&entry(None)), ONE, proof, 100, Repin::Allowed).unwrap_err();
        assert!(blocked.to_string().contains("mytokenctl node remove n1"), "{blocked}");
    }
    assert_eq!(decided(Some(&entry(Some(&site))), TWO, &site, 99, Repin::Allowed), Err(refused()), "the one before");
}

#[test]
fn a_pinned_node_is_known_after_a_restart() {
    let site = Site::new();
    let register = site.open();
    assert!(!register.is_pinned(&node("n1"), ONE));
    assert_eq!(register.would_pin(&node("n1"), ONE, &MUNGE, 9_000, Repin::Refused), Ok(Pinned::New));
    assert_eq!(register.pin(&node("n1"), ONE, MUNGE, 9_000, Repin::Refused), Ok(Pinned::New));
    assert_eq!(register.pin(&node("n2"), TWO, Proof::Code, 9_000, Repin::Refused), Ok(Pinned::New));
    for register in [&register, &site.open()] {
        assert!(register.is_pinned(&node("n1"), ONE) && register.is_pinned(&node("n2"), TWO));
        assert!(!register.is_pinned(&node("n1"), TWO) && !register.is_pinned(&node("n3"), ONE));
        assert!(!register.is_pinned(&node("N1"), ONE), "another node");
        let list = register.list();
        assert_eq!((list.entries.len(), list.unreadable.len()), (2, 0));
        assert_eq!((&list.entries[0].proof, list.entries[0].certificate_ends), (&Some(MUNGE), 9_000));
    }
    assert!(register.pin(&node("n1"), TWO, MUNGE, 9_000, Repin::Refused).is_err());
    assert!(register.is_pinned(&node("n1"), ONE));
    assert_eq!(register.renewed(&node("n1"), ONE, 10_000), Ok(true));
    assert_eq!(register.renewed(&node("n1"), TWO, 11_000), Ok(false));
    assert_eq!(site.open().list().entries[0].certificate_ends, 10_000);
    assert_eq!(register.pin(&node("n1"), TWO, MUNGE, 9_000, Repin::Allowed), Ok(Pinned::Replaced(ONE)));
    assert!(register.is_pinned(&node("n1"), TWO) && !register.is_pinned(&node("n1"), ONE));
}

#[test]
fn a_removal_by_another_process_is_seen_within_seconds() {
    let site = Site::new();
    let broker = site.open();
    for name in ["n1", "n2"] {
        broker.pin(&node(name), ONE, MUNGE, 9_000, Repin::Refused).unwrap();
    }
    let command_line = site.open();
    assert_eq!(command_line.remove(&node("n1")), Ok(true));
    assert_eq!(command_line.remove(&node("n1")), Ok(false));
    site.clock.advance(2);
    assert!(!broker.is_pinned(&node("n1"), ONE) && broker.is_pinned(&node("n2"), ONE));
    assert_eq!(broker.pin(&node("n1"), TWO, MUNGE, 9_000, Repin::Refused), Ok(Pinned::New), "it can enrol again");
    command_line.block(&node("n2")).unwrap();
    site.clock.advance(2);
    assert!(!broker.is_pinned(&node("n2"), ONE));
    assert!(matches!(broker.pin(&node("n2"), ONE, MUNGE, 1, Repin::Allowed), Err(PinRefusal::Blocked { .. })));
    assert!(command_line.remove(&node("n2")).unwrap());
    assert_eq!(broker.pin(&node("n2"), TWO, MUNGE, 1, Repin::Refused), Ok(Pinned::New));
}

#[test]
fn changes_that_follow_each_other_at_once_are_all_seen() {
    let site = Site::new();
    let broker = site.open();
    broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap();
    let first = std::fs::read_to_string(site.file("n1")).unwrap();
    let directory = Directory::open(site.temp.path()).unwrap();
    for round in 0..200_u8 {
        let key = KeyHash([round; 32]);
        // Not durably: several changes and looks within one step of the time of files.
        let changed = first.replace(&ONE.to_string(), &key.to_string());
        directory.write("n1.json", changed.as_bytes(), Owner::current(), MODE).unwrap();
        site.clock.advance(2);
        assert!(broker.is_pinned(&node("n1"), key), "round {round}");
    }
}

/// Kernels before 6.13 give all changes within some milliseconds the same time.
#[test]
fn after_a_recent_change_the_files_are_read_again() {
    let site = Site::new();
    let broker = site.open();
    broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap();
    broker.reload().unwrap();
    assert!(broker.hold().is_to_be_read(), "another change could have the same time");
    site.clock.advance(10);
    assert!(broker.is_pinned(&node("n1"), ONE));
    assert!(!broker.hold().is_to_be_read());
}

#[test]
fn between_looks_the_files_are_not_read() {
    let site = Site::new();
    let broker = site.open();
    broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap();
    site.clock.advance(2);
    assert!(broker.is_pinned(&node("n1"), ONE));
    std::fs::remove_file(site.file("n1")).unwrap();
    assert!(broker.is_pinned(&node("n1"), ONE), "within the same second");
    broker.reload().unwrap();
    assert!(!broker.is_pinned(&node("n1"), ONE));
}

#[test]
fn a_file_that_cannot_be_read_lets_nobody_in() {
    let site = Site::new();
    let broker = site.open();
    broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap();
    let good = std::fs::read_to_string(site.file("n1")).unwrap();
    let foreign = good.replace("n1", "n2");
    let short = good.replace("0101", "01");
    let long = format!("{good}{}", " ".repeat(5000));
    for content in ["", "{}", foreign.as_str(), short.as_str(), long.as_str(), "\u{0}"] {
        std::fs::write(site.file("n1"), content).unwrap();
        broker.reload().unwrap();
        assert!(!broker.is_pinned(&node("n1"), ONE), "{content}");
        for key in [ONE, TWO] {
            let refused = broker.pin(&node("n1"), key, MUNGE, 1, Repin::Allowed).unwrap_err();
            assert!(refused.to_string().contains("n1.json"), "{refused}");
        }
        assert_eq!(broker.list().unreadable.len(), 1);
    }
    std::fs::write(site.file("n1"), good).unwrap();
    std::fs::write(site.temp.path().join(".n2.json.0123"), "half").unwrap();
    std::fs::write(site.temp.path().join("notes"), "of an admin").unwrap();
    broker.reload().unwrap();
    assert!(broker.is_pinned(&node("n1"), ONE) && broker.list().unreadable.is_empty());
}

#[test]
fn a_register_that_has_vanished_lets_nobody_in() {
    let site = Site::new();
    let nodes = site.temp.path().join("nodes");
    std::fs::create_dir(&nodes).unwrap();
    let clock = Arc::clone(&site.clock) as _;
    let broker = Register::open(Directory::open(&nodes).unwrap(), Owner::current(), clock).unwrap();
    broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap();
    std::fs::remove_dir_all(&nodes).unwrap();
    site.clock.advance(2);
    assert!(!broker.is_pinned(&node("n1"), ONE));
    assert!(broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap_err().to_string().contains("n1.json"));
}

#[test]
fn one_of_many_questions_reads_the_files_and_none_waits() {
    let site = Site::new();
    let broker = site.open();
    broker.pin(&node("n1"), ONE, MUNGE, 1, Repin::Refused).unwrap();
    let held = broker.hold();
    site.clock.advance(2);
    assert!(broker.is_pinned(&node("n1"), ONE), "another thread reads the files");
    assert!(!broker.is_look_due(), "who looks would do nothing");
    assert_eq!(broker.list().entries.len(), 1, "the list does not wait for it");
    drop(held);
    assert!(broker.is_look_due());
    broker.follow();
    assert!(!broker.is_look_due() && broker.knows(&node("n1"), ONE));
}
