// SPDX-License-Identifier: MIT OR Apache-2.0
//! Login sessions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mytoken::{Clock, Secret, SystemClock};
use mytoken_login::Process;
use mytoken_wire::agent::{RenewalCredential, SessionEnd, SessionStart, StatusQuery};

use crate::play::{Stage, eventually, me};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// What the PAM module makes, and a process in the monitor's place.
fn login(stage: &Stage) -> (PathBuf, Child) {
    let uid = me().uid;
    let session = stage.dir.path().join(format!("mytoken/sessions/{uid}/{ID}"));
    fs::create_dir_all(&session).unwrap();
    let mode = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&stage.dir.path().join("mytoken/sessions"), 0o711);
    mode(session.parent().unwrap(), 0o700);
    mode(&session, 0o700);
    for name in ["bt", "mt"] {
        fs::write(session.join(format!("{name}_u{uid}")), "first").unwrap();
    }
    (session, Command::new("sleep").arg("60").spawn().unwrap())
}

fn request(child: &Child, lifetime: u64, mytoken: Option<&str>) -> SessionStart {
    SessionStart {
        session: ID.into(),
        uid: me().uid,
        gid: me().gid,
        pid: child.id(),
        renewal: mytoken.map(|mytoken| RenewalCredential {
            server: "testbed".into(),
            mytoken: Secret::new(mytoken),
            scope: "a".into(),
            audience: "b".into(),
        }),
        exp: SystemClock.now() + lifetime,
        lifetime,
    }
}

#[test]
fn the_token_is_renewed_in_place_and_gone_with_the_session() {
    let stage = Stage::new(2);
    let (session, mut child) = login(&stage);
    let file = session.join(format!("bt_u{}", me().uid));
    stage.ask(&request(&child, 2, Some("m.y.t"))).unwrap();
    eventually("the renewal", || fs::read_to_string(&file).unwrap().starts_with("token-"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    stage.ask(&SessionEnd { session: ID.into() }).unwrap();
    assert!(!session.exists());
    let state = fs::read_to_string(stage.dir.path().join(format!("mytoken/state/session-{ID}.json"))).unwrap();
    assert!(!state.contains("m.y.t"), "the mytoken is forgotten");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_session_whose_process_is_gone_is_over_also_after_a_restart() {
    let mut stage = Stage::new(3600);
    let (session, mut child) = login(&stage);
    stage.ask(&request(&child, 3600, Some("m.y.t"))).unwrap();
    stage.end();
    let state = stage.dir.path().join(format!("mytoken/state/session-{ID}.json"));
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o600);
    stage.begin();
    assert!(session.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the removal", || !session.exists());
}

#[test]
fn without_a_mytoken_the_files_are_removed_but_not_renewed() {
    let stage = Stage::new(3600);
    let (session, mut child) = login(&stage);
    stage.ask(&request(&child, 1, None)).unwrap();
    let file = session.join(format!("bt_u{}", me().uid));
    eventually("the removal of the expired token", || !file.exists());
    assert_eq!(stage.script.with(|script| script.exchanges), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the removal", || !session.exists());
}

/// A mytoken that ends at this Unix time.
fn mytoken_until(exp: u64) -> String {
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let claims = part(format!("{{\"iss\":\"https://mt\",\"exp\":{exp}}}"));
    format!("{}.{claims}.{}", part(r#"{"alg":"ES512","typ":"MT+JWT"}"#.into()), part("x".repeat(132)))
}

/// The access token is renewed when 25 to 40 percent of its life are left: of 3600 s, 900 to 1440.
#[test]
fn a_mytoken_is_kept_when_it_outlives_the_renewal_and_not_otherwise() {
    for (before_the_end, renewed) in [(0, true), (890, true), (1_450, false), (3_000, false)] {
        let stage = Stage::new(3600);
        let (_, mut child) = login(&stage);
        let mut start = request(&child, 3600, Some(""));
        let exp = start.exp;
        start.renewal.as_mut().unwrap().mytoken = Secret::new(mytoken_until(exp - before_the_end));
        stage.ask(&start).unwrap();
        let status = stage.ask(&StatusQuery { job: None }).unwrap();
        let until = if renewed { exp - before_the_end } else { exp };
        assert_eq!(status.jobs[0].until, Some(until), "{before_the_end}");
        let state = fs::read_to_string(stage.dir.path().join(format!("mytoken/state/session-{ID}.json"))).unwrap();
        assert_eq!(state.contains("will be renewed"), renewed, "{before_the_end}: {state}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The times of a session's first renewal are counted from what the login said of its token, not from the agent's own.
#[test]
fn the_first_renewal_comes_in_the_last_part_of_the_tokens_life() {
    let stage = Stage::new(3600);
    let (session, mut child) = login(&stage);
    let file = session.join(format!("bt_u{}", me().uid));
    let start = SessionStart { exp: SystemClock.now() + 4, ..request(&child, 4, Some("m.y.t")) };
    let begun = std::time::Instant::now();
    stage.ask(&start).unwrap();
    eventually("the renewal", || fs::read_to_string(&file).unwrap().starts_with("token-"));
    // 4 s of life, up to one of them over already, and 1.6 s left at the most.
    assert!(begun.elapsed() >= std::time::Duration::from_millis(1_300), "{:?}", begun.elapsed());
    assert_eq!(stage.script.with(|script| script.exchanges), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_mytoken_that_ends_before_the_renewal_is_not_used_up() {
    let stage = Stage::new(3600);
    let (session, mut child) = login(&stage);
    let mytoken = mytoken_until(SystemClock.now() + 300);
    let claims = mytoken.split('.').nth(1).unwrap().to_owned();
    let start = request(&child, 3600, Some(&mytoken));
    let exp = start.exp;
    stage.ask(&start).unwrap();
    let status = stage.ask(&StatusQuery { job: None }).unwrap();
    assert_eq!(status.jobs[0].until, Some(exp), "what the session has lasts as long as its access token");
    let state = fs::read_to_string(stage.dir.path().join(format!("mytoken/state/session-{ID}.json"))).unwrap();
    assert!(state.contains("ends before its access token is due for renewal") && !state.contains(&claims), "{state}");
    assert!(session.join(format!("bt_u{}", me().uid)).exists(), "the access token of the login stays");
    assert_eq!(stage.script.with(|script| script.exchanges), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the removal", || !session.exists());
}

#[test]
fn a_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
    let stage = Stage::new(2);
    let (session, mut child) = login(&stage);
    let file = session.join(format!("bt_u{}", me().uid));
    let victim = stage.dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&victim, &file).unwrap();
    stage.ask(&request(&child, 1, Some("m.y.t"))).unwrap();
    eventually("the renewal", || fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file()));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_id_that_is_a_path_is_refused() {
    let stage = Stage::new(2);
    let (_, mut child) = login(&stage);
    for id in ["../../etc/passwd0123456789abcdef0", "", "0123456789ABCDEF0123456789ABCDEF"] {
        let start = SessionStart { session: id.into(), ..request(&child, 2, None) };
        assert!(stage.ask(&start).is_err(), "{id}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Another factor failed after the token was accepted, and nobody has logged in since.
#[test]
fn what_a_login_without_a_session_left_is_removed() {
    let stage = Stage::new(3_600);
    let place = stage.dir.path().join("mytoken/handover/1001");
    fs::create_dir_all(&place).unwrap();
    for directory in [place.parent().unwrap(), &place] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    // When it was written, and who may take it.
    let (now, Process { pid, start }) = (SystemClock.now(), Process::own().unwrap());
    let [old, orphan, young] = [(1, start), (now, start + 1), (now, start)]
        .map(|(created, start)| place.join(format!("{created}-{pid}.{start}-{}", "a".repeat(32))));
    for file in [&old, &orphan, &young] {
        fs::write(file, "").unwrap();
    }
    eventually("the removal", || !old.exists() && !orphan.exists());
    assert!(young.exists(), "its session may be about to begin");
}
