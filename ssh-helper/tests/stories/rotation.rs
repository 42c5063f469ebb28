// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mytoken that the server replaces at each use: answers that are lost, processes that are killed, and many at once.

use std::process::{Child, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::login_site::{LoginSite, deadline};

const REFUSED: &str = "does not accept your mytoken: it is expired, revoked, replaced or not valid yet";

fn rotating(site: &LoginSite) {
    site.store_mytoken(&["AT"], &json!({"on_AT": true, "lifetime": 0, "auto_revoke": false}));
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `status` prints, its exit status, and `trouble` of `status --json`.
fn status(site: &LoginSite, more: &[&str]) -> (String, Option<i32>, Value) {
    let shown = site.run(&[&["status"], more].concat());
    let list: Value = serde_json::from_slice(&site.run(&["status", "--json"]).stdout).unwrap();
    (String::from_utf8(shown.stdout).unwrap(), shown.status.code(), list[0]["trouble"].clone())
}

/// The stored mytoken is in doubt, then refused, and a new one is neither.
fn is_in_doubt_then_refused(site: &LoginSite) {
    let (shown, code, trouble) = status(site, &[]);
    assert!(shown.contains("  in doubt: an answer of the server was lost") && code == Some(0), "{shown}");
    assert_eq!(trouble, "answer_lost");
    let refused = site.run(&["token"]);
    let told = stderr(&refused);
    assert!(
        told.contains(REFUSED)
            && told.contains("an answer was lost before")
            && told.ends_with("run: mytoken-ssh login\n"),
        "{told}"
    );
    let (shown, code, trouble) = status(site, &[]);
    assert!(shown.contains("  refused at its last use") && code == Some(1), "{shown}");
    assert_eq!(trouble, "refused");
    rotating(site);
    assert!(site.run(&["token"]).status.success());
    let (shown, code, trouble) = status(site, &["--check"]);
    assert!(!shown.contains("doubt") && !shown.contains("refused") && code == Some(0) && trouble.is_null(), "{shown}");
}

#[test]
fn after_a_lost_answer_the_mytoken_is_in_doubt() {
    let site = LoginSite::start();
    rotating(&site);
    let fault = json!({"name": "drop-after-commit", "endpoint": "access_token", "times": 1});
    site.control("POST", "/mytoken/fault", &fault);
    let told = stderr(&site.run(&["token"]));
    assert!(
        told.contains("the answer with the new one is lost; if it is not accepted any more, run: mytoken-ssh login"),
        "{told}"
    );
    is_in_doubt_then_refused(&site);

    // The server itself failed, or took no more requests.
    for fault in ["500-html", "429"] {
        site.control("POST", "/mytoken/fault", &json!({"name": fault, "endpoint": "access_token", "times": 9}));
        assert!(!site.run(&["token"]).status.success());
        assert!(status(&site, &[]).2.is_null(), "{fault}");
        site.control("POST", "/mytoken/fault", &json!({"name": "clear"}));
    }
}

#[test]
fn after_a_killed_process_the_mytoken_is_in_doubt() {
    let site = LoginSite::start();
    rotating(&site);
    site.delay_one("access_token");
    let mut child = site.direct(&["token"]).stdout(Stdio::null()).spawn().unwrap();
    site.wait_for_request("access_token");
    assert!(status(&site, &[]).2.is_null(), "it is being used");
    child.kill().unwrap();
    child.wait().unwrap();
    is_in_doubt_then_refused(&site);
}

/// The server revokes what was made from a mytoken if somebody presents it after it was replaced.
#[test]
fn a_mytoken_in_doubt_is_not_presented_where_that_would_revoke_more() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT"], &json!({"on_AT": true, "lifetime": 0, "auto_revoke": true}));
    let fault = json!({"name": "drop-after-commit", "endpoint": "access_token", "times": 1});
    site.control("POST", "/mytoken/fault", &fault);
    assert!(!site.run(&["token"]).status.success());
    site.control("DELETE", "/journal", &Value::Null);
    for args in [&["token"][..], &["ssh", "tb"], &["code", "tb"]] {
        let told = stderr(&site.run(args));
        assert!(told.contains("the server would revoke all that was made from it"), "{args:?}: {told}");
    }
    let (shown, _, trouble) = status(&site, &["--check"]);
    assert!(shown.contains("  in doubt: ") && shown.contains("not checked: ") && trouble == "answer_lost", "{shown}");
    assert_eq!(site.answered("tokeninfo"), [Value::Null; 0], "nobody has asked about it");
    // Nor does the login revoke it.
    let screen = site.login(&["--capability", "AT"]);
    assert!(screen.contains("was not revoked: the server may have replaced it"), "{screen}");
    assert_eq!(site.answered("revocation"), [Value::Null; 0], "{entry:?}");
    assert!(site.run(&["token"]).status.success());
}

#[test]
fn a_revoked_mytoken_that_does_not_rotate_is_shown_as_refused() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT"], &Value::Null);
    let http = site.http();
    let server = mytoken::server::Server::discover(&http, &site.url(), deadline()).unwrap();
    server.revoke(&entry.mytoken, true, deadline()).unwrap();
    assert!(status(&site, &[]).2.is_null());
    let told = stderr(&site.run(&["token"]));
    assert!(told.contains(REFUSED) && !told.contains("an answer was lost"), "{told}");
    assert_eq!((status(&site, &[]).1, status(&site, &[]).2), (Some(1), json!("refused")));
}

/// Twenty processes use it for a time, and one of those that run is killed again and again if `kills`. Returns how often it was lost.
fn crowd(site: &LoginSite, time: Duration, kills: bool) -> u32 {
    let begin = Instant::now();
    let (lost, given, restored, killed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let killed_since = AtomicBool::new(false);
    let running: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    let restoring = Mutex::new(());
    let use_it = || {
        while begin.elapsed() < time {
            let (begun, child): (u32, Child) = {
                let _not_while_restored = restoring.lock().unwrap();
                let begun = restored.load(Ordering::Relaxed);
                (begun, site.direct(&["token"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            };
            let pid = child.id();
            running.lock().unwrap().push(pid);
            let output = child.wait_with_output().unwrap();
            running.lock().unwrap().retain(|other| *other != pid);
            if output.status.success() {
                given.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let told = stderr(&output);
            if told.is_empty() && kills {
                continue;
            }
            // Lost only by a process that was killed, and told.
            assert!(kills && told.contains(REFUSED) && told.ends_with("run: mytoken-ssh login\n"), "{told}");
            let _one_restores = restoring.lock().unwrap();
            // Others that began before it was restored are refused too.
            if begun == restored.load(Ordering::Relaxed) {
                assert!(killed_since.swap(false, Ordering::Relaxed), "lost without a kill: {told}");
                lost.fetch_add(1, Ordering::Relaxed);
                rotating(site);
                restored.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let kill = || {
        while kills && begin.elapsed() < time {
            std::thread::sleep(Duration::from_millis(500));
            let running = running.lock().unwrap();
            if let Some(pid) = running.first() {
                killed_since.store(true, Ordering::Relaxed);
                killed.fetch_add(1, Ordering::Relaxed);
                let pid = nix::unistd::Pid::from_raw(i32::try_from(*pid).unwrap());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(use_it);
        }
        scope.spawn(kill);
    });
    assert!(given.load(Ordering::Relaxed) > 20, "only {given:?} tokens");
    let (lost, killed) = (lost.load(Ordering::Relaxed), killed.load(Ordering::Relaxed));
    assert!(lost <= killed && (killed > 0) == kills, "{lost} of {killed}");
    lost
}

#[test]
fn twenty_processes_lose_a_rotating_mytoken_only_when_one_is_killed() {
    let long = std::env::var_os("TESTBED_LONG").is_some();
    let time = Duration::from_secs(if long { 60 } else { 4 });
    let site = LoginSite::start();
    rotating(&site);
    assert_eq!(crowd(&site, time, false), 0);
    assert!(site.run(&["token"]).status.success());
    let lost = crowd(&site, time, true);
    // Whoever was killed last may have lost it, and then it is told before anybody uses it.
    let in_doubt = !status(&site, &[]).2.is_null();
    let last = site.run(&["token"]);
    assert!(last.status.success() || (in_doubt && stderr(&last).contains(REFUSED)), "{last:?}");
    println!("lost {lost} times by a killed process");
}
