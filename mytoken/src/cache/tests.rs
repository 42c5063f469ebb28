// SPDX-License-Identifier: MIT OR Apache-2.0
//! Caches on disk: owners, modes, the second directory, the lock.

use std::os::unix::fs::PermissionsExt;

use nix::fcntl::{Flock, FlockArg};

use super::*;

fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

#[test]
fn a_file_that_others_can_write_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
    assert_eq!(cache.read("a"), None);
    cache.write("a", b"x").unwrap();
    assert_eq!(cache.read("a").unwrap(), b"x");
    let file = dir.path().join("cache/a");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o646)).unwrap();
    assert_eq!(cache.read("a"), None);
    let foreign = DiskCache::new(&dir.path().join("cache"), Owner { uid: 4_242, gid: 4_242 });
    assert_eq!(foreign.read("a"), None);
}

#[test]
fn the_second_directory_is_used_when_the_first_is_not_writable() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("var/cache");
    std::fs::create_dir(dir.path().join("var")).unwrap();
    let cache = DiskCache::new(&first, Owner::current()).or(&dir.path().join("run/mytoken"));
    let made = |path: &str| dir.path().join(path).exists();
    assert!(cache.check().is_empty() && !made("run") && !first.exists(), "a check makes no directory");
    cache.write("a", b"1").unwrap();
    assert!(cache.check().is_empty() && first.join("a").exists());

    std::fs::rename(dir.path().join("var"), dir.path().join("gone")).unwrap();
    assert!(cache.read("a").is_none() && !made("run") && !made("var"), "reading makes no directory");
    assert_eq!(cache.check().len(), 1);
    assert!(!made("run"), "a check makes no directory");
    cache.write("a", b"2").unwrap();
    assert_eq!(cache.read("a").unwrap(), b"2");

    std::fs::rename(dir.path().join("gone"), dir.path().join("var")).unwrap();
    assert_eq!(cache.read("a").unwrap(), b"2", "the newer content");
    let mut seen = None;
    cache
        .update("a", patience(), &mut |old| {
            seen = old.map(<[u8]>::to_vec);
            Some(b"3".to_vec())
        })
        .unwrap();
    assert_eq!(seen.unwrap(), b"2");
    assert!(!dir.path().join("run/mytoken/a").exists());
    assert_eq!(cache.read("a").unwrap(), b"3");
    cache.remove("a");
    assert_eq!(cache.read("a"), None);
}

#[test]
fn a_check_tells_what_a_write_would_do_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (above, own) = (dir.path().join("run"), dir.path().join("run/cache"));
    let first = dir.path().join("cache");
    std::fs::create_dir(&above).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let mode_of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    mode(&above, 0o700);
    let cache = DiskCache::new(&first, Owner::current()).or(&own);
    let errors = |count| {
        assert_eq!(cache.check().len(), count, "{:?}", cache.check());
    };
    // A write would correct both modes.
    errors(0);
    std::fs::create_dir(&own).unwrap();
    mode(&own, 0o755);
    errors(0);
    assert_eq!((mode_of(&above), mode_of(&own), first.exists()), (0o700, 0o755, false));
    std::fs::remove_dir(&own).unwrap();
    std::fs::write(&own, "").unwrap();
    errors(1);
    std::fs::write(&first, "").unwrap();
    errors(2);
    cache.write("a", b"1").unwrap_err();
}

#[test]
fn the_second_directory_keeps_a_file_until_the_first_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let here = |path: &str| dir.path().join(path);
    std::fs::create_dir(here("var")).unwrap();
    let cache = DiskCache::new(&here("var/cache"), Owner::current()).or(&here("run/mytoken"));
    cache.write("a", b"old").unwrap();
    let second = cache.second.clone().unwrap();
    second.update("a", patience(), &|own| own, &mut |_| Some(b"new".to_vec())).unwrap();
    // An update without a change keeps the file.
    let seen = |cache: &DiskCache| {
        let mut seen = None;
        let mut look = |old: Option<&[u8]>| {
            seen = old.map(<[u8]>::to_vec);
            None
        };
        cache.update("a", patience(), &mut look).unwrap();
        seen.unwrap()
    };
    assert_eq!((seen(&cache), seen(&cache)), (b"new".to_vec(), b"new".to_vec()));
    assert_eq!(cache.read("a").unwrap(), b"new");
    assert!(here("run/mytoken/a").exists());
    // A later update of the second directory gets the content that another process wrote there meanwhile.
    let mut late = None;
    let mut look = |old: Option<&[u8]>| {
        late = old.map(<[u8]>::to_vec);
        None
    };
    let written = second.update("a", patience(), &|own| own.or(Some(b"old".to_vec())), &mut look);
    assert!(!written.unwrap());
    assert_eq!(late.unwrap(), b"new");
}

#[test]
fn a_users_cache_makes_its_parent_directory_but_does_not_change_its_mode() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let home = tempfile::tempdir().unwrap();
    let (above, own) = (home.path().join(".cache"), home.path().join(USER_DIRECTORY));
    let cache = DiskCache::of_user(home.path());
    assert!(Storage::read(&cache, "a").is_none() && !above.exists());
    cache.replace("a", b"1").unwrap();
    assert_eq!((mode(&above), mode(&own)), (0o700, 0o700));
    std::fs::set_permissions(&above, std::fs::Permissions::from_mode(0o755)).unwrap();
    cache.replace("a", b"2").unwrap();
    assert_eq!((mode(&above), mode(&own.join("a"))), (0o755, 0o600));
    assert_eq!(Storage::read(&cache, "a").unwrap(), b"2");
}

#[test]
fn concurrent_updates_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
    let count = |old: Option<&[u8]>| old.map_or(0, |old| std::str::from_utf8(old).unwrap().parse::<u32>().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut one_more = |old: Option<&[u8]>| Some((count(old) + 1).to_string().into_bytes());
                    cache.update("n", patience(), &mut one_more).unwrap();
                }
            });
        }
    });
    assert_eq!(cache.read("n").unwrap(), b"80");
}

#[test]
fn a_lock_that_another_process_holds_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let cache = DiskCache::new(&dir.path().join("cache"), Owner::current());
    cache.write("a", b"1").unwrap();
    let held = std::fs::File::open(dir.path().join("cache")).unwrap();
    let held = Flock::lock(held, FlockArg::LockExclusive).unwrap();
    assert!(cache.write("a", b"2").unwrap_err().to_string().contains("locked"));
    drop(held);
    cache.write("a", b"2").unwrap();
}
