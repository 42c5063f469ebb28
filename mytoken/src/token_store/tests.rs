// SPDX-License-Identifier: MIT OR Apache-2.0
//! Crashes, simultaneous users, full disks, and files that others can access.

mod trouble;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::disk::{Coming, WriteStep};
use super::*;
use crate::skipped::skip;
use crate::token_store::StoreError;

const SERVER: &str = "https://mytoken.example.org";

fn server() -> ServerUrl {
    ServerUrl::parse(SERVER, false).unwrap()
}

fn entry(token: &str, rotates: bool) -> StoredToken {
    let rotation = if rotates { serde_json::json!({"on_AT": true}) } else { serde_json::Value::Null };
    serde_json::from_value(serde_json::json!({
        "server": SERVER, "issuer": "https://op.example.org", "name": "laptop", "mytoken": token, "mom_id": "bW9t",
        "capabilities": ["AT", "create_mytoken"], "restrictions": [{"exp": 2_000_000_000, "scope": "openid"}],
        "rotation": rotation, "expires_at": 2_000_000_000, "created": 1_700_000_000,
    }))
    .unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn store() -> (tempfile::TempDir, TokenStore) {
    let home = tempfile::tempdir().unwrap();
    let store = TokenStore::open(&TokenStore::default_path(home.path())).unwrap();
    (home, store)
}

#[test]
fn a_stored_token_is_found_and_its_file_is_private() {
    let (home, store) = store();
    assert_eq!(store.token(&server()).unwrap(), None);
    store.lock(soon()).unwrap().put(&entry("a.b.c", false)).unwrap();
    assert_eq!(store.token(&server()).unwrap(), Some(entry("a.b.c", false)));
    let dir = TokenStore::default_path(home.path());
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("mytoken.example.org.json")), 0o600);
    assert!(store.lock(soon()).unwrap().remove(&server()).unwrap());
    assert!(store.tokens().unwrap().is_empty());
}

/// Users keep their logins after an upgrade. The text is exactly what release 0.1.0 wrote, with an invented token.
#[test]
fn files_of_earlier_releases_are_read() {
    let text = r#"{
  "server": "https://mytoken.example.org",
  "issuer": "https://op.example.org",
  "name": "laptop",
  "mytoken": "one.two.three",
  "mom_id": "bW9t",
  "capabilities": [
    "AT",
    "create_mytoken"
  ],
  "restrictions": [
    {
      "exp": 2000000000,
      "scope": "openid"
    }
  ],
  "rotation": {
    "on_AT": true
  },
  "expires_at": 2000000000,
  "created": 1700000000
}"#;
    let (home, store) = store();
    let file = TokenStore::default_path(home.path()).join("mytoken.example.org.json");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store.token(&server()).unwrap(), Some(entry("one.two.three", true)));
    store.lock(soon()).unwrap().put(&entry("one.two.three", true)).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "an earlier release can read new files");
}

#[test]
fn servers_have_different_files() {
    let urls =
        ["https://a.example.org", "https://a.example.org:8443", "https://a.example.org/x", "https://a.example.org/y"];
    let mut names: Vec<String> = urls.iter().map(|url| file_name(&ServerUrl::parse(url, false).unwrap())).collect();
    assert_eq!(names[2], "a.example.org%2Fx.json");
    names.dedup();
    assert_eq!(names.len(), urls.len());
}

#[test]
fn a_file_or_directory_that_others_can_access_is_refused() {
    let (home, store) = store();
    store.lock(soon()).unwrap().put(&entry("a.b.c", false)).unwrap();
    let dir = TokenStore::default_path(home.path());
    let file = dir.join("mytoken.example.org.json");
    for mode in [0o640, 0o604, 0o620, 0o602] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(store.token(&server()), Err(StoreError::Unsafe { .. })), "{mode:o}");
    }
    fs::rename(&file, dir.join("else")).unwrap();
    symlink(dir.join("else"), &file).unwrap();
    assert!(matches!(store.token(&server()), Err(StoreError::Unsafe { .. })));
    for mode in [0o750, 0o701, 0o777] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(TokenStore::open(&dir), Err(StoreError::Unsafe { .. })), "{mode:o}");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let link = home.path().join("link");
    symlink(&dir, &link).unwrap();
    assert!(matches!(TokenStore::open(&link), Err(StoreError::Unsafe { .. })));
}

#[test]
fn a_file_or_directory_of_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can give files away").unwrap();
    }
    let (home, store) = store();
    store.lock(soon()).unwrap().put(&entry("a.b.c", false)).unwrap();
    let dir = TokenStore::default_path(home.path());
    let file = dir.join("mytoken.example.org.json");
    std::os::unix::fs::chown(&file, Some(62_001), None).unwrap();
    for error in [store.token(&server()).unwrap_err(), store.tokens().unwrap_err()] {
        assert!(matches!(error, StoreError::Unsafe { .. }), "{error}");
        assert!(error.to_string().contains("belongs to user 62001, not to you"), "{error}");
    }
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    assert!(store.token(&server()).unwrap().is_some());
    std::os::unix::fs::chown(&dir, Some(62_001), None).unwrap();
    assert!(matches!(TokenStore::open(&dir), Err(StoreError::Unsafe { .. })));
}

#[test]
fn the_error_for_a_damaged_file_does_not_show_its_content() {
    let (home, store) = store();
    store.lock(soon()).unwrap().put(&entry("a.b.c", false)).unwrap();
    let file = TokenStore::default_path(home.path()).join("mytoken.example.org.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"a.b.c\"", "[\"eyJsecret\"]")).unwrap();
    let error = store.token(&server()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }));
    assert!(!error.to_string().contains("eyJsecret") && !format!("{error:?}").contains("eyJsecret"), "{error}");
    fs::write(&file, text.replace(SERVER, "https://other.example.org")).unwrap();
    assert!(store.token(&server()).unwrap_err().to_string().contains("other.example.org"));
}

#[test]
fn a_crash_after_any_step_leaves_the_old_or_the_new_token() {
    let steps = [WriteStep::Created, WriteStep::HalfWritten, WriteStep::Written, WriteStep::Synced, WriteStep::Renamed];
    for (crash, reserved) in steps.into_iter().flat_map(|step| [(step, false), (step, true)]) {
        let (_home, store) = store();
        let mut guard = store.lock(soon()).unwrap();
        guard.put(&entry("old.old.old", true)).unwrap();
        let bytes = serde_json::to_vec(&entry("new.new.new", true)).unwrap();
        let stop = |step| if step == crash { Err(std::io::Error::other("crash")) } else { Ok(()) };
        let name = file_name(&server());
        let reservation = reserved.then(|| store.disk.reserve(&name, Coming::Successor, 9_000).unwrap());
        store.disk.replace_with(&name, reservation, &bytes, &mut { stop }).unwrap_err();
        let found = guard.token(&server()).unwrap().unwrap();
        // A whole successor is the token wherever it is.
        let is_whole = reserved && [WriteStep::Written, WriteStep::Synced].contains(&crash);
        let is_new = is_whole || crash == WriteStep::Renamed;
        let expected = if is_new { "new.new.new" } else { "old.old.old" };
        assert_eq!(found.mytoken.expose(), expected, "{crash:?}");
        // The file that the crash left does not disturb.
        guard.put(&entry("next.next.next", true)).unwrap();
        assert_eq!(store.tokens().unwrap().len(), 1);
        assert_eq!(guard.token(&server()).unwrap().unwrap().mytoken.expose(), "next.next.next");
    }
}

#[test]
fn the_store_is_locked_only_while_a_rotating_token_is_in_use() {
    let (_home, store) = store();
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    let short = Deadline::after(Duration::from_millis(100));
    assert!(matches!(store.lock(short), Err(StoreError::Busy { .. })));
    acquired.store_successor(&Secret::new("two.two.two")).unwrap();
    assert_eq!(store.token(&server()).unwrap().unwrap().mytoken.expose(), "two.two.two");
    drop(acquired);
    store.lock(soon()).unwrap().put(&entry("three.three.three", false)).unwrap();
    let _held = store.acquire(&server(), soon()).unwrap().unwrap();
    drop(store.lock(Deadline::after(Duration::from_millis(100))).unwrap());
}

#[test]
fn a_successor_is_stored_even_if_the_entry_says_that_the_token_does_not_rotate() {
    let (_home, store) = store();
    store.lock(soon()).unwrap().put(&entry("one.one.one", false)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    acquired.store_successor(&Secret::new("two.two.two")).unwrap();
    assert_eq!(acquired.stored().mytoken.expose(), "two.two.two");
    assert_eq!(
        store.token(&server()).unwrap().unwrap().mytoken.expose(),
        "two.two.two",
        "the old token no longer works"
    );
    drop(acquired);
    drop(store.lock(soon()).unwrap());
}

#[test]
fn a_successor_does_not_replace_a_newer_login() {
    let (_home, store) = store();
    store.lock(soon()).unwrap().put(&entry("one.one.one", false)).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    store.lock(soon()).unwrap().put(&entry("login.login.login", false)).unwrap();
    acquired.store_successor(&Secret::new("two.two.two")).unwrap();
    assert_eq!(store.token(&server()).unwrap().unwrap().mytoken.expose(), "login.login.login");
}

#[test]
fn reserved_disk_space_is_used_or_freed() {
    let (home, store) = store();
    let dir = TokenStore::default_path(home.path());
    let files = || {
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    store.lock(soon()).unwrap().check_room(&server()).unwrap();
    let before = files();
    drop(store.acquire(&server(), soon()).unwrap().unwrap());
    assert_eq!(files(), before, "nothing was rotated");
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    let room = fs::metadata(dir.join(".next-mytoken.example.org.json")).unwrap();
    assert!(room.len() > RESERVE_MARGIN as u64 && room.permissions().mode() & 0o077 == 0);
    acquired.store_successor(&Secret::new("two.two.two")).unwrap();
    acquired.store_successor(&Secret::new("three.three.three")).unwrap();
    drop(acquired);
    assert_eq!(files(), before);
    assert_eq!(store.token(&server()).unwrap(), Some(entry("three.three.three", true)), "the file has no filler left");
    // Room for a token that is yet to come: used by it alone, and freed with the lock.
    let room = || dir.join(".new-mytoken.example.org.json").exists();
    let mut guard = store.lock(soon()).unwrap();
    guard.keep_room(&server()).unwrap();
    let mut other = entry("other.other.other", false);
    other.server = ServerUrl::parse("https://other.example.org", false).unwrap();
    guard.put(&other).unwrap();
    assert!(room());
    guard.put(&entry("four.four.four", true)).unwrap();
    guard.put(&entry("five.five.five", true)).unwrap();
    assert!(!room());
    guard.remove(&other.server).unwrap();
    guard.keep_room(&server()).unwrap();
    assert!(room());
    drop(guard);
    assert_eq!(files(), before);
    assert_eq!(store.token(&server()).unwrap(), Some(entry("five.five.five", true)));
    // A file that a crash left does not disturb.
    fs::write(dir.join(".new-mytoken.example.org.json"), "left").unwrap();
    assert!(store.acquire(&server(), soon()).unwrap().is_some());
}

#[test]
fn on_a_full_disk_a_token_is_not_used_and_reserved_space_stays_usable() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can mount a small file system").unwrap();
    }
    let mut child = Command::new("unshare");
    child.arg("--mount").arg(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "token_store::tests::fill_a_small_disk_in_a_child_process"]);
    let output = child.env("STORE_TEST_DISK", "1").output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
        return skip("no namespace to mount in").unwrap();
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test: the child process of the test above, which mounts a file system.
#[test]
#[ignore = "run by the test above in a child process with mounts of its own"]
fn fill_a_small_disk_in_a_child_process() {
    if std::env::var_os("STORE_TEST_DISK").is_none() {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=64k,mode=0700", "none"];
    assert!(Command::new("mount").args(mount).arg(disk.path()).status().unwrap().success());
    let store = TokenStore::open(&disk.path().join("tokens")).unwrap();
    store.lock(soon()).unwrap().put(&entry("one.one.one", true)).unwrap();
    let fill = || {
        let mut file = fs::File::options().append(true).create(true).open(disk.path().join("ballast")).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 1024]).is_ok() {}
    };
    let stored = || store.token(&server()).unwrap().unwrap().mytoken.expose().to_owned();

    fill();
    for error in [
        store.acquire(&server(), soon()).map(drop).unwrap_err(),
        store.lock(soon()).unwrap().check_room(&server()).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(
            error.to_string().contains("No space left") && error.to_string().contains("was not asked for one"),
            "{error}"
        );
    }
    assert_eq!(stored(), "one.one.one");
    assert!(!disk.path().join("tokens/.new-mytoken.example.org.json").exists(), "a partial reservation is left");

    fs::remove_file(disk.path().join("ballast")).unwrap();
    let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
    fill();
    let successor = format!("two.{}.two", "x".repeat(1_000));
    acquired.store_successor(&Secret::new(successor.as_str())).unwrap();
    assert_eq!(stored(), successor);
    drop(acquired);
    fs::remove_file(disk.path().join("ballast")).unwrap();
    let mut guard = store.lock(soon()).unwrap();
    guard.keep_room(&server()).unwrap();
    fill();
    let imported = format!("three.{}.three", "x".repeat(1_000));
    guard.put(&entry(&imported, true)).unwrap();
    assert_eq!(stored(), imported);
    drop(guard);
    // The disk is full, so the token is not used.
    fill();
    assert!(store.acquire(&server(), soon()).is_err());
    assert_eq!(stored(), imported);
}

/// Not a test: a child process that rotates the token n -> n+1 in a loop.
#[test]
#[ignore = "run by the two tests below in a child process"]
fn rotate_in_a_child_process() {
    let (Ok(dir), Ok(rounds)) = (std::env::var("STORE_TEST_DIR"), std::env::var("STORE_TEST_ROUNDS")) else { return };
    let store = TokenStore::open(Path::new(&dir)).unwrap();
    for _ in 0..rounds.parse::<u32>().unwrap() {
        let mut acquired = store.acquire(&server(), soon()).unwrap().unwrap();
        let count: u32 = acquired.stored().mytoken.expose().parse().unwrap();
        acquired.store_successor(&Secret::new((count + 1).to_string())).unwrap();
    }
}

fn rotator(dir: &Path, rounds: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "token_store::tests::rotate_in_a_child_process"])
        .env("STORE_TEST_DIR", dir)
        .env("STORE_TEST_ROUNDS", rounds.to_string())
        .stdout(Stdio::null());
    command
}

#[test]
fn two_processes_never_lose_a_rotation() {
    let (home, store) = store();
    let dir = TokenStore::default_path(home.path());
    store.lock(soon()).unwrap().put(&entry("0", true)).unwrap();
    let mut children: Vec<_> = (0..2).map(|_| rotator(&dir, 50).spawn().unwrap()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(store.token(&server()).unwrap().unwrap().mytoken.expose(), "100");
}

#[test]
fn a_killed_process_leaves_a_complete_file_and_no_lock() {
    let (home, store) = store();
    let dir = TokenStore::default_path(home.path());
    store.lock(soon()).unwrap().put(&entry("0", true)).unwrap();
    let mut last = 0;
    for round in 0..8_u64 {
        let mut child = rotator(&dir, 1_000_000).spawn().unwrap();
        // Long enough for the start, and different in each round, so that different steps are interrupted.
        std::thread::sleep(Duration::from_millis(60 + 7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(store.lock(soon()).unwrap());
        let count: u32 = store.token(&server()).unwrap().unwrap().mytoken.expose().parse().unwrap();
        assert!(count >= last, "{count} after {last}");
        last = count;
    }
    assert!(last > 0, "no child ever rotated");
}
