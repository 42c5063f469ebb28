// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files, directories and links that other users could have made or changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::private_files::Owner;

use super::*;
use crate::config::ConfigError;
use crate::skipped::skip;

const ALICE: u32 = 62_001;

fn me() -> FileTrust {
    FileTrust::user(Owner::current().uid)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A new directory with the directory `etc` and the file `etc/login.toml`. The paths have no links.
fn sandbox() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let etc = temp.path().canonicalize().unwrap().join("etc");
    fs::create_dir(&etc).unwrap();
    let file = etc.join("login.toml");
    fs::write(&file, "x = 1").unwrap();
    (temp, etc, file)
}

/// The message with which `path` is refused.
fn refusal(path: &Path) -> String {
    match me().read(path) {
        Err(error @ ConfigError::Unsafe { .. }) => error.to_string(),
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let (_temp, _, file) = sandbox();
    assert_eq!(me().read(&file).unwrap(), "x = 1");
    for mode in [0o666, 0o664, 0o646] {
        chmod(&file, mode);
        let expected = format!(
            "{0} is not used: it can be written by others (mode {mode:04o}); run: chmod go-w {0}",
            file.display()
        );
        assert_eq!(refusal(&file), expected);
    }
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let (_temp, etc, file) = sandbox();
    for mode in [0o777, 0o775, 0o757] {
        chmod(&etc, mode);
        assert!(refusal(&file).contains(&format!("the directory {} can be written", etc.display())));
        assert!(matches!(me().names(&etc), Err(ConfigError::Unsafe { .. })));
    }
}

#[test]
fn a_sticky_directory_is_accepted_for_a_user_and_refused_for_root() {
    let (_temp, etc, file) = sandbox();
    chmod(&etc, 0o1777);
    assert!(me().read(&file).is_ok(), "a user's own file");
    if Owner::current().uid != 0 {
        return skip("only root can make files of root").unwrap();
    }
    let error = FileTrust::ROOT.read(&file).unwrap_err().to_string();
    assert!(error.contains("can be written by others (mode 1777)"), "{error}");
}

#[test]
fn links_are_followed() {
    let (temp, etc, file) = sandbox();
    let up = temp.path().canonicalize().unwrap();
    for (name, target) in [
        ("to-file", file.clone()),
        ("relative", "etc/login.toml".into()),
        ("through-a-directory", "directory/login.toml".into()),
        ("around", "etc/../etc/./login.toml".into()),
        ("twice", "around".into()),
    ] {
        symlink(target, up.join(name)).unwrap();
        if name == "to-file" {
            symlink(&etc, up.join("directory")).unwrap();
        }
        assert_eq!(me().read(&up.join(name)).unwrap(), "x = 1", "{name}");
    }
    assert_eq!(me().directory(&up.join("directory")).unwrap(), etc);
    assert_eq!(me().names(&up.join("directory")).unwrap().unwrap(), ["login.toml"]);
    assert_eq!(me().directory(&up.join("directory/../etc/..")).unwrap(), up, "the directory above the real one");
    symlink("loop", up.join("loop")).unwrap();
    let error = me().read(&up.join("loop")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
}

#[test]
fn the_target_of_a_link_is_checked_like_a_file() {
    let (temp, etc, file) = sandbox();
    let link = temp.path().join("link.toml");
    symlink("etc/login.toml", &link).unwrap();
    for (part, mode, kind) in [(&file, 0o666, "the file"), (&etc, 0o777, "the directory")] {
        let before = fs::metadata(part).unwrap().permissions();
        chmod(part, mode);
        let refusal = refusal(&link);
        let expected = format!("{kind} {} (reached by the link {}) can be written", part.display(), link.display());
        assert!(refusal.contains(&expected), "{refusal}");
        assert!(matches!(me().check_file(&link), Err(ConfigError::Unsafe { .. })));
        fs::set_permissions(part, before).unwrap();
    }
    assert!(me().check_file(&link).is_ok());
    fs::remove_file(&file).unwrap();
    assert!(me().check_file(&link).is_ok(), "the reader reports a missing file");
    let error = me().read(&link).unwrap_err().to_string();
    assert!(error.contains("link.toml: ") && error.contains("etc/login.toml: No such file"), "{error}");
}

#[test]
fn a_part_of_the_path_that_belongs_to_another_user_is_refused() {
    if Owner::current().uid != 0 {
        return skip("only root can give files away").unwrap();
    }
    let (temp, etc, file) = sandbox();
    let up = temp.path().canonicalize().unwrap();
    let theirs = |part: &Path, asked: &Path, kind: &str| {
        lchown(part, Some(ALICE), Some(ALICE)).unwrap();
        let refusal = refusal(asked);
        assert!(refusal.starts_with(&format!("{} is not used: {kind}", asked.display())), "{refusal}");
        assert!(refusal.ends_with(&format!("belongs to user {ALICE}; it must belong to you or root")), "{refusal}");
        assert!(FileTrust::user(ALICE).read(asked).is_ok(), "alice trusts her own files");
        lchown(part, Some(0), Some(0)).unwrap();
        assert!(me().read(asked).is_ok());
    };
    theirs(&file, &file, "it ");
    theirs(&etc, &file, &format!("the directory {} ", etc.display()));
    // A link of root leads to the directory.
    fs::create_dir(up.join("root")).unwrap();
    let link = up.join("root/conf");
    symlink("../etc", &link).unwrap();
    let asked = link.join("login.toml");
    theirs(&file, &asked, &format!("the file {} (reached by the link {}) ", file.display(), link.display()));
    theirs(&etc, &asked, &format!("the directory {} (reached by the link {}) ", etc.display(), link.display()));
    // The link itself: whoever owns it chooses where it leads.
    theirs(&link, &asked, &format!("the link {} ", link.display()));
    // A directory above a link's target.
    fs::create_dir_all(up.join("home/conf")).unwrap();
    fs::write(up.join("home/conf/login.toml"), "y = 1").unwrap();
    let deep = up.join("root/deep");
    symlink(up.join("home/conf"), &deep).unwrap();
    let home = up.join("home");
    theirs(
        &home,
        &deep.join("login.toml"),
        &format!("the directory {} (reached by the link {}) ", home.display(), deep.display()),
    );
    // A directory counts even if `..` leaves it again.
    theirs(&home, &up.join("home/../etc/login.toml"), &format!("the directory {} ", home.display()));
}

#[test]
fn a_link_into_the_directory_of_another_user_is_refused() {
    if Owner::current().uid != 0 {
        return skip("only root can give files away").unwrap();
    }
    let (temp, etc, _) = sandbox();
    let up = temp.path().canonicalize().unwrap();
    chown(&etc, Some(ALICE), Some(ALICE)).unwrap();
    symlink(&etc, up.join("mytoken")).unwrap();
    fs::write(etc.join("login.toml"), "").unwrap();
    for asked in [up.join("mytoken/login.toml"), up.join("mytoken/login.d")] {
        let read = me().read(&asked).map(drop);
        assert!(matches!(read, Err(ConfigError::Unsafe { .. })), "{read:?}");
        assert!(matches!(me().names(&asked), Err(ConfigError::Unsafe { .. })), "the drop-ins are not ignored");
        assert!(matches!(me().check_file(&asked), Err(ConfigError::Unsafe { .. })));
        assert!(matches!(me().read_private(&asked, 10), Err(ConfigError::Unsafe { .. })));
    }
    assert!(matches!(me().directory(&up.join("mytoken")), Err(ConfigError::Unsafe { .. })));
}

#[test]
fn a_file_that_is_swapped_during_the_check_is_not_read() {
    if Owner::current().uid != 0 {
        return skip("only root can give files away").unwrap();
    }
    let (temp, etc, file) = sandbox();
    let up = temp.path().canonicalize().unwrap();
    let evil = up.join("evil");
    fs::create_dir(&evil).unwrap();
    fs::write(evil.join("login.toml"), "evil").unwrap();
    chown(&evil, Some(ALICE), Some(ALICE)).unwrap();
    let done = AtomicBool::new(false);
    let (mut good, mut read) = (0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &etc, AT_FDCWD, &evil, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        for _ in 0..3_000 {
            match me().read(&file).as_deref() {
                Ok("x = 1") => good += 1,
                Ok(other) => read.push(other.to_owned()),
                Err(_) => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(read.is_empty(), "alice's file was read {} times", read.len());
    assert!(good > 0 && good < 3_000, "{good}: the directories were not swapped");
}

#[test]
fn a_path_that_is_not_a_regular_file_is_refused_without_blocking() {
    let (_temp, etc, file) = sandbox();
    nix::unistd::mkfifo(&etc.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    assert!(refusal(&etc.join("fifo")).contains("is not a regular file"));
    assert!(refusal(&etc).contains("it is a directory"));
    assert!(refusal(&file.join("below")).contains("is not a directory"));
    assert!(matches!(me().names(&file), Err(ConfigError::Unsafe { .. })));
    assert_eq!(me().names(&etc.join("missing")).unwrap(), None);
    let large = etc.join("large");
    fs::File::create(&large).unwrap().set_len(16 * 1024 * 1024 + 1).unwrap();
    assert!(matches!(me().read(&large), Err(ConfigError::Unreadable { .. })));
    let text = etc.join("text");
    std::fs::write(&text, b"a = 1\nb = '\xc3\xa4'\nc = '\xff'\n").unwrap();
    let error = me().read(&text).unwrap_err().to_string();
    assert_eq!(error, format!("{}:3: it is not UTF-8", text.display()));
}

#[test]
fn a_secret_is_read_only_from_a_private_file() {
    let (_temp, etc, file) = sandbox();
    chmod(&file, 0o600);
    assert_eq!(&me().read_private(&file, 5).unwrap().unwrap()[..], b"x = 1");
    assert!(me().read_private(&file, 4).is_err(), "too long");
    assert!(me().read_private(&etc.join("missing"), 5).unwrap().is_none());
    for mode in [0o640, 0o604, 0o700] {
        chmod(&file, mode);
        assert!(matches!(me().read_private(&file, 5), Err(ConfigError::Unsafe { .. })), "{mode:o}");
    }
    chmod(&file, 0o600);
    fs::hard_link(&file, etc.join("second")).unwrap();
    assert!(me().read_private(&file, 5).is_err(), "two names");
}

#[test]
fn a_link_to_nothing_is_not_a_directory_that_does_not_exist() {
    let (temp, etc, file) = sandbox();
    let up = temp.path().canonicalize().unwrap();
    fs::create_dir(up.join("there")).unwrap();
    for (name, target) in [
        ("etc/login.d", "../gone"),
        ("etc/deep.d", "../gone/deeper"),
        ("etc/twice.d", "login.d"),
        ("site", "etc"),
        ("nowhere", "gone"),
        ("etc/half", "../site/gone.d"),
        ("etc/there.d", "../there"),
    ] {
        symlink(target, up.join(name)).unwrap();
    }
    let unreadable = |error: ConfigError, name: &str| {
        let text = error.to_string();
        assert!(matches!(error, ConfigError::Unreadable { .. }) && text.contains("gone"), "{name}: {text}");
    };
    for name in ["etc/login.d", "etc/deep.d", "etc/twice.d", "etc/half", "nowhere", "nowhere/login.d", "site/login.d"] {
        unreadable(me().names(&up.join(name)).unwrap_err(), name);
        unreadable(me().read_private(&up.join(name), 9).unwrap_err(), name);
        unreadable(me().read_optional(&up.join(name)).unwrap_err(), name);
    }
    // What a link leads to is there, and the part after it is not.
    for name in ["site/missing.d", "etc/there.d/missing", "site/there.d/missing", "missing/login.d"] {
        assert_eq!(me().names(&up.join(name)).unwrap(), None, "{name}");
        assert_eq!(me().read_optional(&up.join(name)).unwrap(), None, "{name}");
    }
    for (name, missing) in [
        ("etc/login.toml", false),
        ("etc/login.d", false),
        ("nowhere/login.toml", false),
        ("site/login.toml", false),
        ("site/missing", true),
        ("missing", true),
    ] {
        assert_eq!(is_missing(&up.join(name)), missing, "{name}");
    }
    assert_eq!(me().names(&etc.join("there.d")).unwrap(), Some(vec![]));
    assert_eq!(me().read_optional(&file).unwrap().as_deref(), Some("x = 1"));
}
