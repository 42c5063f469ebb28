// SPDX-License-Identifier: MIT OR Apache-2.0
//! Directories and files that other users try to replace, read or write.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::super::as_user;
use super::*;
use crate::private_files::FileError;
use crate::skipped::skip;

const ALICE: Owner = Owner { uid: 62_001, gid: 62_001 };

fn me() -> Owner {
    Owner::current()
}

fn is_root() -> bool {
    me().uid == 0
}

fn sandbox() -> (tempfile::TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let open = Directory::open(dir.path()).unwrap();
    (dir, open)
}

#[test]
fn a_file_is_written_with_owner_and_mode_and_replaced_whole() {
    let (temp, dir) = sandbox();
    dir.write("bt_u1", b"one", me(), 0o400).unwrap();
    let first = fs::metadata(temp.path().join("bt_u1")).unwrap();
    assert_eq!((first.mode() & 0o7777, first.uid()), (0o400, me().uid));
    let reader = fs::File::open(temp.path().join("bt_u1")).unwrap();
    dir.write("bt_u1", b"two, longer", me(), 0o400).unwrap();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "one", "a reader of the old file reads it to its end");
    assert_eq!(&dir.read("bt_u1", me(), 0o400, 100).unwrap().unwrap()[..], b"two, longer");
    assert_eq!(dir.names().unwrap(), ["bt_u1"], "no temporary file is left");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let (temp, dir) = sandbox();
    fs::create_dir(temp.path().join("taken")).unwrap();
    assert!(dir.write("taken", b"x", me(), 0o600).is_err());
    dir.write("old", b"old", me(), 0o600).unwrap();
    assert!(dir.write_new("old", b"new", me(), 0o600).unwrap_err().to_string().contains("old"));
    assert_eq!(&dir.read("old", me(), 0o600, 10).unwrap().unwrap()[..], b"old");
    let mut names = dir.names().unwrap();
    names.sort();
    assert_eq!(names, ["old", "taken"]);
}

#[test]
fn the_portable_rename_also_fails_if_the_name_exists() {
    let (temp, dir) = sandbox();
    for name in ["first", "second"] {
        fs::write(temp.path().join(name), name).unwrap();
    }
    assert_eq!(link_new(dir.handle(), "first", "second"), Err(Errno::EEXIST));
    assert_eq!(link_new(dir.handle(), "first", "third"), Ok(()));
    let mut names = dir.names().unwrap();
    names.sort();
    assert_eq!(names, ["second", "third"]);
    assert_eq!(fs::read_to_string(temp.path().join("second")).unwrap(), "second");
}

#[test]
fn a_write_replaces_a_symbolic_link_and_does_not_follow_it() {
    let (temp, dir) = sandbox();
    let victim = temp.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, temp.path().join("bt")).unwrap();
    assert!(dir.read("bt", me(), 0o777, 100).unwrap_err().to_string().contains("symbolic link"));
    dir.write("bt", b"token", me(), 0o400).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(temp.path().join("bt")).unwrap().is_file());
    symlink(&victim, temp.path().join("gone")).unwrap();
    dir.remove("gone").unwrap();
    assert!(victim.exists());
}

#[test]
fn a_symbolic_link_anywhere_in_the_path_is_refused() {
    let (temp, dir) = sandbox();
    fs::create_dir_all(temp.path().join("real/deep")).unwrap();
    symlink("real", temp.path().join("link")).unwrap();
    for path in ["link", "link/deep", "real/../real"] {
        assert!(Directory::open(&temp.path().join(path)).is_err(), "{path}");
    }
    assert!(Directory::open(Path::new("tmp")).is_err());
    assert!(dir.make("link", me(), 0o711).is_err());
    assert!(dir.enter("link", me(), 0o755).is_err());
    assert!(Directory::open(&temp.path().join("real/deep")).is_ok());
}

#[test]
fn replacing_an_open_directory_by_a_link_has_no_effect() {
    let (temp, dir) = sandbox();
    let session = dir.make("session", me(), 0o700).unwrap();
    fs::create_dir(temp.path().join("elsewhere")).unwrap();
    fs::rename(temp.path().join("session"), temp.path().join("moved")).unwrap();
    symlink("elsewhere", temp.path().join("session")).unwrap();
    session.write("at", b"token", me(), 0o600).unwrap();
    assert!(temp.path().join("moved/at").exists());
    assert_eq!(fs::read_dir(temp.path().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn directories_that_others_can_write_are_refused() {
    let (temp, _) = sandbox();
    let open = temp.path().join("open");
    fs::create_dir_all(open.join("below")).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(Directory::open(&open.join("below")).unwrap_err().to_string().contains("others can write"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(Directory::open(&open.join("below")).is_ok());
    assert!(Directory::open(&open).is_err(), "a sticky directory is not accepted as the last one");
}

#[test]
fn make_sets_owner_and_mode_of_new_and_existing_directories() {
    let (temp, dir) = sandbox();
    fs::create_dir(temp.path().join("left")).unwrap();
    for name in ["fresh", "left", "fresh"] {
        let made = dir.make(name, me(), 0o711).unwrap();
        assert_eq!(made.stat().unwrap().st_mode & 0o7777, 0o711, "{name}");
    }
    fs::write(temp.path().join("file"), "").unwrap();
    assert!(dir.make("file", me(), 0o711).is_err());
    assert!(dir.remove_dir("fresh").unwrap());
    assert!(!dir.remove_dir("fresh").unwrap());
}

#[test]
fn a_file_of_another_owner_mode_size_or_kind_is_not_read() {
    let (temp, dir) = sandbox();
    dir.write("f", b"12345", me(), 0o600).unwrap();
    assert!(dir.read("absent", me(), 0o600, 10).unwrap().is_none());
    assert!(dir.read("f", me(), 0o600, 4).is_err(), "too long");
    assert!(dir.read("f", me(), 0o600, 5).is_ok());
    assert!(dir.read("f", Owner { uid: me().uid + 1, gid: 0 }, 0o600, 10).is_err(), "another owner");
    assert!(dir.read("f", me(), 0o400, 10).is_err(), "more permissions");
    fs::hard_link(temp.path().join("f"), temp.path().join("g")).unwrap();
    assert!(dir.read("f", me(), 0o600, 10).is_err(), "two names");
    nix::unistd::mkfifo(&temp.path().join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    assert!(dir.read("fifo", me(), 0o600, 10).is_err(), "a FIFO");
    for name in ["", ".", "..", "a/b", "a\0b"] {
        assert!(dir.write(name, b"", me(), 0o600).is_err(), "{name:?}");
    }
}

#[test]
fn directories_and_files_of_another_user_are_refused() {
    if !is_root() {
        return skip("only root can give files away").unwrap();
    }
    let (temp, dir) = sandbox();
    let theirs = temp.path().join("theirs");
    fs::create_dir_all(theirs.join("below")).unwrap();
    fs::write(theirs.join("below/f"), "x").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o700)).unwrap();
    let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
    let error = |result: Result<Directory, FileError>| result.unwrap_err().to_string();
    assert!(Directory::open(&theirs.join("below")).is_ok());
    give(&theirs, ALICE.uid);
    assert!(error(Directory::open(&theirs.join("below"))).contains("it belongs to user 62001"), "in the path");
    assert!(error(Directory::open(&theirs)).contains("it belongs to user 62001"), "at the end");
    assert!(error(dir.step("theirs")).contains("it belongs to user 62001"));
    assert!(error(dir.enter("theirs", me(), 0o700)).contains("it belongs to user 62001"));
    assert!(dir.enter("theirs", ALICE, 0o700).is_ok());
    assert!(dir.make("theirs", me(), 0o700).is_err(), "its owner is not changed");
    assert_eq!(fs::metadata(&theirs).unwrap().uid(), ALICE.uid);
    dir.write("f", b"x", me(), 0o600).unwrap();
    give(&temp.path().join("f"), ALICE.uid);
    let error = dir.read("f", me(), 0o600, 10).unwrap_err().to_string();
    assert!(error.contains("it belongs to user 62001"), "{error}");
    assert!(dir.read("f", ALICE, 0o600, 10).is_ok());
}

#[test]
fn root_can_make_directories_and_files_for_a_user() {
    if !is_root() {
        return skip("only root can give files away").unwrap();
    }
    let (temp, dir) = sandbox();
    let theirs = dir.make("62001", ALICE, 0o700).unwrap();
    assert_eq!(theirs.stat().unwrap().st_uid, ALICE.uid);
    assert!(dir.make("62001", Owner { uid: 62_002, gid: 62_002 }, 0o700).is_err(), "its owner is not changed");
    dir.write("bt", b"x", ALICE, 0o400).unwrap();
    let meta = fs::metadata(temp.path().join("bt")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (ALICE.uid, ALICE.gid, 0o400));
}

#[test]
fn acting_as_a_user_has_only_the_rights_of_the_user() {
    if !is_root() {
        return skip("only root can act as another").unwrap();
    }
    let (temp, dir) = sandbox();
    let theirs = dir.make("62001", ALICE, 0o700).unwrap();
    dir.write("secret", b"root's", me(), 0o600).unwrap();
    as_user(ALICE, || theirs.write("at", b"token", ALICE, 0o600)).unwrap();
    let meta = fs::metadata(temp.path().join("62001/at")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (ALICE.uid, ALICE.gid, 0o600));
    assert!(as_user(ALICE, || dir.write("at", b"token", ALICE, 0o600)).is_err());
    assert!(as_user(ALICE, || dir.read("secret", me(), 0o600, 100).map(drop)).is_err());
    // The user puts a link to root's file into the directory. A write as the user replaces the link.
    symlink(temp.path().join("secret"), temp.path().join("62001/link")).unwrap();
    as_user(ALICE, || theirs.write("link", b"token", ALICE, 0o600)).unwrap();
    assert_eq!(fs::read_to_string(temp.path().join("secret")).unwrap(), "root's");
}
