// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process without root rights cannot use the identity of another user.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "../../tests/ordinary_user.rs"]
mod ordinary_user;

use mytoken::private_files::FileError;
use mytoken::private_files::{Directory, Owner, as_user};
use ordinary_user::as_ordinary_user;

const OTHER: Owner = Owner { uid: 54_321, gid: 54_321 };

#[test]
fn acting_as_another_user_is_refused() {
    as_ordinary_user(|| {
        let before = Owner::current();
        assert_ne!(before.uid, 0);
        assert_eq!(as_user(OTHER, || Ok(Owner::current())), Err(FileError::Identity { uid: OTHER.uid }));
        assert_eq!(Owner::current(), before);
    });
}

#[test]
fn writing_a_file_for_another_user_fails_and_keeps_the_old_file() {
    as_ordinary_user(|| {
        let temp = tempfile::tempdir().unwrap();
        let (dir, me) = (Directory::open(temp.path()).unwrap(), Owner::current());
        dir.write("old", b"old", me, 0o600).unwrap();
        assert!(dir.write("old", b"new", OTHER, 0o600).is_err());
        assert_eq!(dir.read("old", me, 0o600, 10).unwrap().unwrap().as_slice(), b"old");
        assert_eq!(dir.names().unwrap(), ["old"]);
    });
}
