// SPDX-License-Identifier: MIT OR Apache-2.0
//! A first mytoken, as a person at a browser gets it.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use crate::site::{AUDIENCE, Site, said};
use mytoken::Deadline;
use mytoken::server::Server;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn a_login_stores_a_token_and_tells_it_in_words() {
    let site = Site::start();
    let told = site.login(&[]);
    assert!(told.contains("✓ alice @ ") && told.contains("mytoken \"laptop\", valid 30 days"), "{told}");
    assert!(told.contains("may: get access tokens, create narrower mytokens"), "{told}");
    assert!(!told.contains("\n! ") && !told.contains('\u{1b}') && !told.contains("eyJ"), "{told}");
    let entry = site.stored().unwrap();
    assert_eq!(entry.restrictions[0].audience, [AUDIENCE]);
    assert_eq!(entry.restrictions[0].scope, "openid profile storage.read");
    assert!(!entry.mom_id.is_empty() && !entry.rotates());

    let status = site.run(&["status"]);
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && shown.contains(&entry.mytoken.fingerprint()), "{shown}");
    assert!(!shown.contains(entry.mytoken.expose()));
}

#[test]
fn what_the_provider_left_out_stands_out() {
    let site = Site::start();
    let told = site.login(&["--scope", "openid", "--scope", "no.such.scope"]);
    assert!(told.contains("! the server left out the scope no.such.scope"), "{told}");
}

#[test]
fn a_second_login_replaces_and_revokes_the_first() {
    let site = Site::start();
    site.login(&[]);
    let first = site.stored().unwrap();
    site.login(&[]);
    let second = site.stored().unwrap();
    assert_ne!(first.mytoken, second.mytoken);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    assert!(matches!(server.introspect(&first.mytoken, soon()), Err(mytoken::Error::TokenRefused { .. })));
    assert!(server.introspect(&second.mytoken, soon()).unwrap().valid);
}

#[test]
fn a_declined_login_is_told_and_stores_nothing() {
    let site = Site::start();
    let (child, _lines, link) = site.begin_login(&[]);
    site.browse(&link, &["--decline"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("declined in the browser"), "{}", said(&output));
    assert!(site.stored().is_none());
}

#[test]
fn ctrl_c_ends_the_waiting_and_stores_nothing() {
    let site = Site::start();
    let (mut child, mut lines, _link) = site.begin_login(&[]);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains('✓') && site.stored().is_none());
}

#[test]
fn a_login_that_ignores_hangups_goes_on() {
    let site = Site::start();
    let (mut child, mut lines, link) = site.begin_login_after("trap '' HUP", &[]);
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(300));
    site.browse(&link, &[]);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success() && rest.contains('✓') && site.stored().is_some(), "{rest}");
}

#[test]
fn a_token_that_cannot_be_stored_is_revoked() {
    let site = Site::start();
    let (child, _lines, link) = site.begin_login(&[]);
    fs::remove_dir_all(site.path("home/.config/mytoken/tokens")).unwrap();
    site.browse(&link, &[]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the token store cannot be used"), "{}", said(&output));
    let journal = site.control("GET", "/journal?service=mytoken", &serde_json::Value::Null);
    let revocations = journal.as_array().unwrap().iter().filter(|request| request["endpoint"] == "revocation");
    assert_eq!(revocations.map(|request| request["status"].clone()).collect::<Vec<_>>(), [204], "{journal}");
}

#[test]
fn logout_revokes_what_was_made_from_it_and_removes_it() {
    let site = Site::start();
    let entry = site.give(&["AT", "create_mytoken", "tokeninfo:introspect"], &serde_json::Value::Null);
    site.run(&["ssh", "--delegate", "tb"]);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), soon()).unwrap();
    let child = server.redeem(&mytoken::Secret::new(site.answers().remove(0)), soon()).unwrap().mytoken;
    assert!(server.introspect(&child, soon()).unwrap().valid);

    let output = site.run(&["logout"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(site.stored().is_none());
    for token in [&entry.mytoken, &child] {
        assert!(matches!(server.introspect(token, soon()), Err(mytoken::Error::TokenRefused { .. })));
    }
}

#[test]
fn logout_keeps_a_token_that_it_cannot_revoke_unless_told_to_forget() {
    let site = Site::start();
    site.give(&["AT"], &serde_json::Value::Null);
    site.control("POST", "/outage", &serde_json::json!({"service": "mytoken", "on": true}));
    let output = site.run(&["logout"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("--forget") && site.stored().is_some());
    assert!(site.run(&["logout", "--forget"]).status.success() && site.stored().is_none());
}
