// SPDX-License-Identifier: MIT OR Apache-2.0
//! The new credentials on a disk that works, and on one that does not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

const SERVER: &str = "https://mytoken";

fn replacement(handle: &str) -> Replacement {
    let sealed = format!("mt1.00000000.{handle}");
    let text = TextHash::of(&sealed);
    Replacement {
        sealed,
        text,
        handle: handle.into(),
        made: 100,
        exp: 1_000,
        server: SERVER.into(),
        follows: true,
        retired: Vec::new(),
    }
}

/// The submission with this handle.
fn key(handle: &str) -> SubmissionKey {
    replacement(handle).key(2001)
}

fn of(uid: u32, job: u32) -> Leader {
    Leader { uid, job }
}

fn open(path: &Path) -> (Replacements, Vec<String>) {
    Replacements::open(Directory::open(path).unwrap(), Owner::current()).unwrap()
}

fn handle(replacements: &Replacements, leader: Leader) -> Option<String> {
    replacements.get(leader).map(|own| own.handle.clone())
}

#[test]
fn a_new_credential_serves_older_ones_and_those_that_it_has_retired() {
    let new = Replacement { retired: vec!["late".into()], ..replacement("new") };
    for (handle, made, expected) in [
        ("old", 0, true),
        ("old", 100, true),
        ("running", 101, false),
        ("late", 101, true),
        ("new", 100, false),
        ("new", 0, false),
    ] {
        assert_eq!(new.replaces(&key(handle), made), expected, "{handle} {made}");
    }
    let mut many = replacement("new");
    (0..100).for_each(|number| many.retire(key(&number.to_string()).retired_name()));
    many.retire(key("99").retired_name());
    let has = |handle: &str| many.has_retired(&key(handle));
    assert_eq!((many.retired.len(), has("99"), has("0")), (MOST_RETIRED, true, false));
    let other = SubmissionKey::new(2001, "99", "of somebody else");
    assert!(!many.has_retired(&other), "the same handle, but another text");
}

#[test]
fn a_new_credential_survives_the_broker_and_the_next_one_remembers_it() {
    let temp = tempfile::tempdir().unwrap();
    let (alice, bob) = (of(2001, 40), of(2002, 40));
    let (known, _) = open(temp.path());
    assert_eq!(known.put(alice, replacement("a")).unwrap(), None);
    known.put(bob, Replacement { exp: 2_000, ..replacement("b") }).unwrap();
    known.retire(alice, &key("old"));
    let before = known.put(alice, replacement("c")).unwrap().unwrap();
    assert_eq!(before.handle, "a");
    let file = temp.path().join("2001-40.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    drop(known);

    std::fs::write(temp.path().join("other"), "x").unwrap();
    std::fs::write(temp.path().join(".2001-41.json.00"), "x").unwrap();
    // Whatever this is, it is not the broker's, and a directory cannot be removed.
    std::fs::create_dir(temp.path().join(".snapshot")).unwrap();
    std::fs::create_dir(temp.path().join(".2001-43.json.00")).unwrap();
    std::fs::write(temp.path().join("2001-42.json"), "{").unwrap();
    std::fs::set_permissions(temp.path().join("2001-42.json"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (known, unreadable) = open(temp.path());
    assert_eq!(unreadable, ["the content of 2001-42.json is damaged"]);
    assert!(!temp.path().join(".2001-41.json.00").exists() && temp.path().join("other").exists());
    let own = known.get(alice).unwrap();
    assert_eq!(
        (own.handle.as_str(), &own.retired[..]),
        ("c", &["old", "a"].map(|handle| key(handle).retired_name())[..])
    );
    assert!(known.has_any(2001) && known.has_any(2002) && !known.has_any(2003));
    assert_eq!((known.all().len(), known.of_user(2001).len()), (2, 1));

    known.expire(|_| 999);
    assert_eq!(known.all().len(), 2);
    known.expire(|server| if server == SERVER { 1_000 } else { 0 });
    known.sweep().unwrap();
    assert_eq!((handle(&known, alice), handle(&known, bob), file.exists()), (None, Some("b".into()), false));
}

#[test]
fn one_that_is_over_has_no_file_and_is_known_until_nobody_needs_it() {
    let temp = tempfile::tempdir().unwrap();
    let (known, _) = open(temp.path());
    let alice = of(2001, 40);
    known.put(alice, replacement("a")).unwrap();
    known.forget(alice, "other");
    assert_eq!(handle(&known, alice), Some("a".into()));
    known.forget(alice, "a");
    known.forget(alice, "a");
    known.sweep().unwrap();
    assert_eq!((handle(&known, alice), known.has_any(2001), known.of_user(2001).len()), (None, false, 1));
    assert!(!temp.path().join("2001-40.json").exists());
    known.prune(|_, own| own.handle == "a");
    assert_eq!(known.of_user(2001).len(), 1);
    known.prune(|_, _| false);
    assert_eq!(known.of_user(2001).len(), 0);
}

#[test]
fn a_user_cannot_fill_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let (known, _) = open(temp.path());
    let entry = || Entry::new(Arc::new(replacement("a")));
    let many = (0..1_000).map(|job| (of(1, job), entry()));
    known.memory().entries.extend(many);
    assert!(matches!(known.put(of(1, 5_000), replacement("b")), Err(ReplacementError::TooManyOfUser)));
    known.put(of(1, 7), replacement("b")).unwrap();
    known.put(of(2, 7), replacement("b")).unwrap();
    known.memory().entries.extend((0..20_000).map(|job| (of(3, job), entry())));
    assert!(matches!(known.put(of(4, 7), replacement("b")), Err(ReplacementError::TooMany)));
}

/// Files in memory, on a disk that can be broken.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Broken>>);

#[derive(Debug, Default)]
struct Broken {
    files: BTreeMap<String, Vec<u8>>,
    reads: bool,
    /// Files are written, and the error comes after that.
    writes: bool,
    removes: bool,
}

impl Disk {
    fn of(&self, is_broken: impl Fn(&Broken) -> bool) -> Result<MutexGuard<'_, Broken>, FileError> {
        let disk = self.0.lock().unwrap();
        if is_broken(&disk) { Err(broken()) } else { Ok(disk) }
    }

    fn handle_of(&self, name: &str) -> Option<String> {
        Some(parse(self.0.lock().unwrap().files.get(name)?).unwrap().handle)
    }
}

fn broken() -> FileError {
    let temp = tempfile::tempdir().unwrap();
    Directory::open(&temp.path().join("none")).unwrap_err()
}

impl TextFiles for Disk {
    fn names(&self) -> Result<Vec<String>, FileError> {
        Ok(self.of(|_| false)?.files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.of(|disk| disk.reads)?.files.get(name).cloned())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.of(|_| false)?.files.insert(name.to_owned(), bytes.to_vec());
        self.of(|disk| disk.writes).map(drop)
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        self.of(|disk| disk.removes)?.files.remove(name);
        Ok(())
    }
}

fn on(disk: &Disk) -> (Replacements, Vec<String>) {
    Replacements::with_files(Box::new(disk.clone())).unwrap()
}

#[test]
fn what_a_failed_write_has_left_is_put_back() {
    let disk = Disk::default();
    let ((known, _), alice, bob) = (on(&disk), of(2001, 40), of(2002, 40));
    known.put(alice, replacement("a")).unwrap();
    disk.0.lock().unwrap().writes = true;
    disk.0.lock().unwrap().removes = true;
    assert!(known.put(alice, replacement("b")).is_err() && known.put(bob, replacement("c")).is_err());
    assert_eq!((handle(&known, alice), handle(&known, bob)), (Some("a".into()), None));
    assert_eq!(disk.handle_of("2001-40.json"), Some("a".into()), "written, whatever the disk says");
    assert_eq!(disk.handle_of("2002-40.json"), Some("c".into()), "it cannot be removed yet");
    assert!(known.sweep().is_err());
    disk.0.lock().unwrap().removes = false;
    assert!(known.sweep().is_err(), "the other one");
    assert_eq!(disk.handle_of("2002-40.json"), None);
    disk.0.lock().unwrap().writes = false;
    known.sweep().unwrap();
    assert_eq!(on(&disk).0.all(), known.all());
}

#[test]
fn who_revokes_does_not_wait_for_the_disk() {
    let disk = Disk::default();
    let ((known, _), alice) = (on(&disk), of(2001, 40));
    known.put(alice, replacement("a")).unwrap();
    // A write that hangs.
    let hangs = known.changing();
    known.retire(alice, &key("old"));
    assert!(known.get(alice).unwrap().has_retired(&key("old")));
    known.forget(alice, "a");
    known.expire(|_| 0);
    assert_eq!((handle(&known, alice), disk.handle_of("2001-40.json")), (None, Some("a".into())));
    drop(hangs);
    known.sweep().unwrap();
    assert_eq!(disk.handle_of("2001-40.json"), None);
}

#[test]
fn one_that_cannot_be_read_is_read_later_and_not_lost() {
    let disk = Disk::default();
    let alice = of(2001, 40);
    on(&disk).0.put(alice, replacement("a")).unwrap();
    disk.0.lock().unwrap().reads = true;
    let (known, unreadable) = on(&disk);
    assert_eq!((unreadable.len(), handle(&known, alice), known.read_again().len()), (1, None, 0));
    assert!(matches!(known.put(alice, replacement("b")), Err(ReplacementError::File(_))));
    known.sweep().unwrap();
    assert_eq!(disk.handle_of("2001-40.json"), Some("a".into()));
    disk.0.lock().unwrap().reads = false;
    assert_eq!((known.read_again().len(), known.read_again().len()), (1, 0));
    assert_eq!(handle(&known, alice), Some("a".into()));
    assert_eq!(known.put(alice, replacement("b")).unwrap().unwrap().handle, "a");
}

#[test]
fn one_that_no_submission_follows_is_over_with_its_job() {
    let disk = Disk::default();
    let ((known, _), alice, bob) = (on(&disk), of(2001, 40), of(2002, 40));
    known.put(alice, replacement("a")).unwrap();
    known.put(bob, replacement("b")).unwrap();
    let note = |standing| known.note(|leader, _| (leader == alice).then_some(standing));
    for standing in [Standing::NotShown, Standing::NotShown, Standing::GoesOn, Standing::NotShown, Standing::NotShown] {
        note(standing);
    }
    assert_eq!(handle(&known, alice), Some("a".into()), "it was shown between");
    note(Standing::NotShown);
    assert_eq!((handle(&known, alice), handle(&known, bob)), (None, Some("b".into())));
    known.sweep().unwrap();
    assert_eq!((disk.handle_of("2001-40.json"), disk.handle_of("2002-40.json")), (None, Some("b".into())));
    known.note(|_, _| Some(Standing::Over));
    assert_eq!(handle(&known, bob), None);
}
