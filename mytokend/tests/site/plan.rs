// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl explain --submission` and `profile show`: what a submission would request, without the request.

use std::io::Write;
use std::process::{Command, Stdio};

use mytoken::Secret;
use mytoken::time_format::TimeFormat;
use mytoken_wire::clock::FixedClock;
use mytokend::control::{explain_submission, profile};
use mytokend::submit::UserEnvironment;
use serde_json::{Value, json};

use crate::harness::{AUDIENCE, SCOPE, TestSite, unix_time};

/// Runs the command with a mytoken on standard input, and returns its status and output.
fn explained(site: &TestSite, granted: &Value, profile: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mytokenctl"));
    command.args(["explain", "--submission"]).args(profile).arg("--config").arg(site.config());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let token = granted["mytoken"].as_str().unwrap();
    child.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(token), "the mytoken is shown");
    (output.status.code().unwrap(), text)
}

/// How many sub-tokens the server was asked for.
fn sub_tokens(site: &TestSite) -> usize {
    site.journal().iter().filter(|request| request["grant_type"] == "mytoken").count()
}

#[test]
fn the_plan_is_what_a_submission_gets() {
    let site = TestSite::new(60);
    let granted = site.mytoken(&json!({}));
    let (status, text) = explained(&site, &granted, &[]);
    assert_eq!(status, 0, "{text}");
    let planned = text.lines().find_map(|line| line.strip_prefix("sub-token")).unwrap();
    let clause: Value = serde_json::from_str(&planned[planned.find('{').unwrap()..]).unwrap();
    assert_eq!(sub_tokens(&site), 0, "nothing was made: {:?}", site.journal());
    site.log_in();
    let sub_token = site.open(&site.submit().0).sub_token;
    assert_eq!(sub_tokens(&site), 1);
    let claims = mytoken::token::unverified_claims(&sub_token).unwrap();
    let mut made = serde_json::to_value(&claims.unverified().restrictions[0]).unwrap();
    made.as_object_mut().unwrap().remove("exp");
    assert_eq!(clause, made);
    assert_eq!(
        (clause["scope"].as_str(), clause["audience"].as_array().unwrap().len()),
        (Some(SCOPE), 1),
        "{AUDIENCE}"
    );
}

#[test]
fn each_reason_for_no_credential_is_told_without_a_request_for_one() {
    let site = TestSite::new(60);
    let until = unix_time() + 86_400;
    let narrow = json!({"restrictions": [{"scope": "openid compute.read", "audience": [AUDIENCE], "exp": until}]});
    for (change, profile, reason) in [
        (json!({}), "none", "this cluster has: default"),
        (json!({"capabilities": ["AT"]}), "default", "may not make sub-tokens"),
        (json!({"rotation": {"on_AT": true}}), "default", "is replaced at each use"),
        (narrow, "default", "storage.read"),
    ] {
        let (status, text) = explained(&site, &site.mytoken(&change), &[profile]);
        assert!(status == 1 && text.starts_with("no credential: ") && text.contains(reason), "{reason}: {text}");
    }
    assert_eq!(sub_tokens(&site), 0, "{:?}", site.journal());
    let (status, text) = explained(&site, &json!({"mytoken": "ABCD2345"}), &["default"]);
    assert!(status == 1 && text.contains("is malformed"), "{text}");
}

/// What `mytokenctl profile` prints for the owner of the site's home, and its status.
fn profiles(site: &TestSite, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mytokenctl"));
    command.arg("profile").args(arguments).arg("--config").arg(site.config());
    let output = command.env("HOME", site.home()).env_remove("MYTOKEN_FILE").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

#[test]
fn a_profile_is_shown_against_the_mytoken_of_the_caller() {
    let site = TestSite::new(60);
    let (status, text) = profiles(&site, &["list"]);
    assert_eq!((status, text), (0, format!("default  scope {SCOPE}, audience {AUDIENCE}\n")));
    let (status, text) = profiles(&site, &["show"]);
    assert!(status == 1 && text.contains(&format!("{{\"scope\":\"{SCOPE}\"")), "{text}");
    assert!(text.contains("\nresult       no credential: your session has none and "), "{text}");
    site.store(&site.mytoken(&json!({})));
    let login = site.journal().len();
    let (status, text) = profiles(&site, &["show", "default"]);
    assert!(status == 0 && text.contains("\nmytoken      that of mytoken-ssh login"), "{text}");
    assert!(text.lines().filter(|line| line.starts_with("sub-token    until ")).count() == 1, "{text}");
    let (status, text) = profiles(&site, &["show", "other"]);
    assert!(status == 1 && text.contains("no profile \"other\"; this cluster has: default"), "{text}");
    let journal = site.journal();
    let sent = journal.get(login..).unwrap_or_default();
    assert!(!sent.is_empty() && sent.iter().all(|request| request["endpoint"] == "discovery"), "{sent:?}");
}

#[test]
fn a_wrong_clock_of_this_host_changes_no_plan() {
    let site = TestSite::new(60);
    let granted = site.mytoken(&json!({}));
    site.store(&granted);
    let (mytoken, years) = (Secret::new(granted["mytoken"].as_str().unwrap()), 3 * 31_557_600);
    let environment = UserEnvironment { home: Some(site.home()), mytoken_file: None };
    let caller = profile::Caller { environment: &environment, variable: None };
    let year = |time: u64| format!("{}-", 1970 + time / 31_556_952);
    for here in [unix_time() - years, unix_time() + years] {
        let (clock, times) = (FixedClock(here), TimeFormat::utc(here));
        let explained = explain_submission::explain(&site.config(), "default", &mytoken, &clock, times).unwrap();
        let shown = profile::show(&site.config(), (Some("default"), (None, None)), caller, &clock, times).unwrap();
        for (text, good) in [explained, shown] {
            assert!(good, "{text}");
            // Until a day of this year, or of the next one in December.
            let right = [unix_time(), unix_time() + 31_557_600].map(year);
            assert!(right.iter().any(|year| text.contains(year)) && !text.contains(&year(here)), "{text}");
        }
    }
}
