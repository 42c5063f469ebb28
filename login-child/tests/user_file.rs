// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of users, also hostile ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../tests/skipped.rs"]
mod skipped;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use login_child::{FileFault, ReadFailed, User, UserFile, read};
use mytoken_wire::clock::Deadline;
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid, mkfifo};
use skipped::skip;
use tempfile::TempDir;

const PATH: &str = ".config/mytoken/authorized_identities";
const LIMIT: usize = 1024;

fn me() -> User {
    User { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A home with a good file.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join(".config/mytoken")).unwrap();
    fs::write(home.path().join(PATH), "op s-1\n").unwrap();
    for part in ["", ".config", ".config/mytoken", PATH] {
        set_mode(&home.path().join(part), if part == PATH { 0o644 } else { 0o755 });
    }
    home
}

fn read_as(user: User, home: &Path) -> Result<Vec<u8>, ReadFailed> {
    let began = Instant::now();
    let file = UserFile { home, path: Path::new(PATH), user, limit: LIMIT };
    let result = read(&file, Deadline::after(Duration::from_secs(20)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    result
}

fn unusable(part: PathBuf, fault: FileFault) -> Result<Vec<u8>, ReadFailed> {
    Err(ReadFailed::Unusable { part, fault })
}

#[test]
fn a_file_that_only_its_owner_can_change_is_read() {
    let home = home();
    assert_eq!(read_as(me(), home.path()).unwrap(), b"op s-1\n");
    // The home itself may be reached by a link: root made it.
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(home.path(), elsewhere.path().join("alice")).unwrap();
    assert_eq!(read_as(me(), &elsewhere.path().join("alice")).unwrap(), b"op s-1\n");
    fs::write(home.path().join(PATH), vec![b'#'; LIMIT]).unwrap();
    assert_eq!(read_as(me(), home.path()).unwrap().len(), LIMIT);
    fs::write(home.path().join(PATH), "").unwrap();
    assert_eq!(read_as(me(), home.path()).unwrap(), b"");
}

#[test]
fn a_link_at_any_place_is_refused() {
    for part in [".config", ".config/mytoken", PATH] {
        let home = home();
        let place = home.path().join(part);
        let moved = home.path().join("moved");
        fs::rename(&place, &moved).unwrap();
        for target in [moved.as_path(), Path::new("/etc/passwd"), Path::new("/proc/self/fd/0")] {
            symlink(target, &place).unwrap();
            assert_eq!(read_as(me(), home.path()), unusable(place.clone(), FileFault::Link), "{part}");
            fs::remove_file(&place).unwrap();
        }
        assert_eq!(read_as(me(), home.path()), unusable(place, FileFault::Missing), "{part}");
    }
}

#[test]
fn what_others_can_change_is_refused() {
    for part in ["", ".config", ".config/mytoken", PATH] {
        let home = home();
        let place = home.path().join(part);
        for mode in [0o775, 0o757, 0o1777] {
            set_mode(&place, mode);
            assert_eq!(read_as(me(), home.path()), unusable(place.clone(), FileFault::Writable(mode)), "{part}");
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let home = home();
    let place = home.path().join(PATH);
    let refused = |fault| assert_eq!(read_as(me(), home.path()), unusable(place.clone(), fault));
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    set_mode(&place, 0o755);
    refused(FileFault::NotRegular);
    fs::remove_dir(&place).unwrap();
    // Nobody writes to it.
    mkfifo(&place, Mode::from_bits_truncate(0o600)).unwrap();
    refused(FileFault::NotRegular);
    fs::remove_file(&place).unwrap();
    let listener = UnixListener::bind(&place).unwrap();
    refused(FileFault::NotRegular);
    drop(listener);
    fs::remove_file(&place).unwrap();
    refused(FileFault::Missing);
    fs::remove_dir(home.path().join(".config/mytoken")).unwrap();
    fs::write(home.path().join(".config/mytoken"), "x").unwrap();
    let part = home.path().join(".config/mytoken");
    assert_eq!(read_as(me(), home.path()), unusable(part, FileFault::NotDirectory));
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let home = home();
    let place = home.path().join(PATH);
    for size in [LIMIT as u64 + 1, 1 << 40] {
        fs::File::create(&place).unwrap().set_len(size).unwrap();
        assert_eq!(read_as(me(), home.path()), unusable(place.clone(), FileFault::TooLarge), "{size}");
    }
}

#[test]
fn a_path_that_leaves_the_home_is_refused() {
    let home = home();
    for path in ["../x", "/etc/passwd", ".config/../../x"] {
        let file = UserFile { home: home.path(), path: Path::new(path), user: me(), limit: LIMIT };
        assert!(matches!(read(&file, Deadline::after(Duration::from_secs(20))), Err(ReadFailed::Failed(_))), "{path}");
    }
}

#[test]
fn a_file_is_read_with_the_rights_of_the_user_only() {
    if !geteuid().is_root() {
        return skip("only root can become another user").unwrap();
    }
    let (alice, bob) = (2_001, 2_002);
    let user = User { uid: alice, gid: alice };
    let home = home();
    for part in ["", ".config", ".config/mytoken", PATH] {
        chown(home.path().join(part), Some(alice), Some(alice)).unwrap();
    }
    let place = home.path().join(PATH);
    set_mode(&place, 0o600);
    assert_eq!(read_as(user, home.path()).unwrap(), b"op s-1\n");
    // Root's own file is fine if the user may read it.
    chown(&place, Some(0), Some(0)).unwrap();
    set_mode(&place, 0o644);
    assert_eq!(read_as(user, home.path()).unwrap(), b"op s-1\n");
    set_mode(&place, 0o600);
    let denied = unusable(place.clone(), FileFault::Unreadable(login_child::Errno::EACCES));
    assert_eq!(read_as(user, home.path()), denied);
    set_mode(&place, 0o644);
    for part in ["", ".config", ".config/mytoken", PATH] {
        let place = home.path().join(part);
        chown(&place, Some(bob), None).unwrap();
        assert_eq!(read_as(user, home.path()), unusable(place.clone(), FileFault::Owner(bob)), "{part}");
        chown(&place, Some(alice), None).unwrap();
    }
}
