// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-submit` in a loop: the fourth submission within a minute makes a credential for those that follow.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use mytoken::private_files::Owner;
use mytoken_wire::agent::JobState;
use serde_json::{Value, json};

use crate::harness::{AUDIENCE, SCOPE, TestSite, eventually, unix_time};

/// A site in which submissions share a credential for so long.
fn sharing(time: &str) -> TestSite {
    site_with(&format!("share_for = '{time}'"))
}

fn site_with(settings: &str) -> TestSite {
    let site = TestSite::new(60);
    let drop_ins = site.config().join("jobs.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("share.toml"), format!("[submit]\n{settings}\n")).unwrap();
    site.log_in();
    site.clear_journal();
    site
}

/// The handles of so many submissions, one after another.
fn handles(site: &TestSite, count: usize) -> Vec<String> {
    (0..count).map(|_| site.submit().1).collect()
}

fn different(handles: &[String]) -> usize {
    handles.iter().collect::<BTreeSet<_>>().len()
}

#[test]
fn a_loop_makes_four_credentials_in_a_window() {
    let site = sharing("60s");
    let (first, handle) = site.submit();
    assert_eq!(site.open(&first).shared_for, 0);
    let handles = [vec![handle], handles(&site, 11)].concat();
    assert_eq!(different(&handles), 4, "{handles:?}");
    assert_eq!(different(&handles[3..]), 1, "the fourth is shared");
    assert_eq!((site.requests("mytoken"), site.sub_tokens().len()), (4, 4));
    let (sealed, handle) = site.submit();
    assert_eq!(handle, handles[3]);
    let credential = site.open(&sealed);
    assert_eq!((credential.shared_for, credential.id.as_str()), (60, handle.as_str()));
    assert!((unix_time() - 60..=unix_time()).contains(&credential.made));
}

#[test]
fn the_file_is_private_and_holds_no_token() {
    let site = sharing("60s");
    let handle = handles(&site, 5).pop().unwrap();
    let directory = site.home().join(".cache/mytoken/submissions");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("shared.json"))), (0o700, 0o600));
    let text = fs::read_to_string(directory.join("shared.json")).unwrap();
    assert!(text.contains(&handle) && text.contains("mt1.") && !text.contains("eyJ"), "{text}");
    for server in [site.endpoint("mytoken"), SCOPE, AUDIENCE] {
        assert!(!text.contains(server), "{server}: {text}");
    }
    // A file that others can write, a directory that they can open, a link: no credential comes from there.
    fs::set_permissions(directory.join("shared.json"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_ne!(site.submit().1, handle);
    fs::remove_dir_all(&directory).unwrap();
    std::os::unix::fs::symlink(site.dir.path(), &directory).unwrap();
    assert_eq!(different(&handles(&site, 6)), 6, "without a usable cache nothing is shared");
}

#[test]
fn other_jobs_do_not_share() {
    let site = sharing("60s");
    let shared = handles(&site, 5).pop().unwrap();
    let required = site.submit_with(&["--profile", "default", "--required"]);
    assert!(site.open(required.line["sealed"].as_str().unwrap()).required, "a required job has its own");
    // A new login has a new mytoken.
    site.log_in();
    assert_ne!(site.submit().1, shared);
}

#[test]
fn each_submission_of_a_loop_is_told_what_the_credential_lacks() {
    let site = sharing("60s");
    let told: Vec<Value> = (0..6).map(|_| site.submit_with(&["--profile", "default"]).line).collect();
    assert_eq!(told[5]["handle"], told[3]["handle"]);
    for line in &told {
        let notes = line["notes"].as_array().unwrap();
        assert!(notes.len() == 1 && notes[0].as_str().unwrap().starts_with("this job's credential ends on "), "{line}");
    }
}

#[test]
fn a_credential_with_few_access_tokens_is_not_shared() {
    let site = sharing("60s");
    let clause =
        json!({"scope": "openid storage.read", "audience": [AUDIENCE], "exp": unix_time() + 3600, "usages_AT": 7});
    let granted = site.mytoken(&json!({"restrictions": [clause]}));
    fs::write(site.dir.path().join("mt"), granted["mytoken"].as_str().unwrap()).unwrap();
    let made: Vec<(String, String)> = (0..6).map(|_| site.submit()).collect();
    assert!(made.iter().all(|(sealed, _)| site.open(sealed).shared_for == 0));
    let handles: Vec<String> = made.into_iter().map(|(_, handle)| handle).collect();
    assert_eq!(different(&handles), 6, "{handles:?}");
}

#[test]
fn a_credential_that_its_user_revokes_is_given_to_no_further_submission() {
    let mut site = sharing("60s");
    site.begin_agent();
    let (sealed, shared) = (0..5).map(|_| site.submit()).collect::<Vec<_>>().remove(4);
    assert_eq!(site.submit().1, shared);
    assert_eq!(site.start(1, Owner::current().uid, &sealed).state, JobState::Ready);
    let mut revoke = Command::new(env!("CARGO_BIN_EXE_mytokenctl"));
    revoke.args(["revoke", "--here", "1", "--socket"]).arg(site.socket()).env("HOME", site.home());
    let output = revoke.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let (sealed, next) = site.submit();
    assert_ne!(next, shared);
    assert!(site.access_token(&site.open(&sealed).sub_token).is_ok());
    assert_eq!(site.submit().1, next, "the loop goes on");
}

#[test]
fn after_the_window_a_new_credential_is_made() {
    // Long enough for three submissions on a busy machine, from any part of a second on.
    let site = sharing("6s");
    let shared = handles(&site, 4).pop().unwrap();
    std::thread::sleep(Duration::from_millis(7100));
    let next = handles(&site, 3);
    assert!(next[0] != shared && different(&next) == 1, "the loop goes on: {shared} {next:?}");
}

#[test]
fn zero_switches_sharing_off() {
    let site = sharing("0s");
    assert_eq!(different(&handles(&site, 7)), 7);
    assert!(!site.home().join(".cache/mytoken/submissions").exists());
}

#[test]
fn a_credential_that_nobody_took_is_not_shared() {
    let site = sharing("60s");
    handles(&site, 3);
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 1000, "endpoint": "mytoken", "times": 1}));
    site.submit_without_reader(Duration::from_millis(500)).wait().unwrap();
    eventually("the revocation", || site.requests("revocation") == 1);
    let (sealed, _) = site.submit();
    assert!(site.access_token(&site.open(&sealed).sub_token).is_ok());
}

#[test]
fn submissions_at_the_same_time_share_too() {
    let site = sharing("60s");
    handles(&site, 3);
    let all = at_once(&site);
    assert_eq!(different(&all), 1, "{all:?}");
}

#[test]
fn they_share_also_when_the_server_is_slow() {
    let site = site_with("share_for = '60s'\ndeadline = '10s'");
    handles(&site, 3);
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 2800, "endpoint": "mytoken", "times": 1}));
    let all = at_once(&site);
    assert_eq!(different(&all), 1, "{all:?}");
}

/// The handles of submissions that run at the same time.
fn at_once(site: &TestSite) -> Vec<String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| site.submit().1)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_server_that_hangs_holds_up_nobody_else() {
    let site = sharing("60s");
    handles(&site, 3);
    // The fourth hangs beyond its deadline of 3 s, while it holds the lock.
    site.control("/mytoken/fault", &json!({"name": "latency", "ms": 8000, "endpoint": "mytoken", "times": 1}));
    std::thread::scope(|scope| {
        scope.spawn(|| site.submit_with(&["--profile", "default"]));
        std::thread::sleep(Duration::from_millis(400));
        site.submit();
    });
}
