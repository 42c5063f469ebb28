// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh import` and `export`.

use std::io::Write;
use std::process::{Output, Stdio};

use mytoken::server::Server;
use mytoken::token_store::StoredToken;
use serde_json::{Value, json};

use crate::login_site::{LoginSite, deadline, stderr};

const CAPABILITIES: &[&str] = &["AT", "create_mytoken", "tokeninfo"];

fn import(site: &LoginSite, text: &str, more: &[&str]) -> Output {
    let mut helper = site.helper(&[&["import"], more].concat());
    let mut running = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

/// The stored mytoken, which is taken out of the store.
fn taken(site: &LoginSite) -> StoredToken {
    let entry = site.store().token(&site.url()).unwrap().unwrap();
    std::fs::remove_dir_all(site.path("home/.config/mytoken/tokens")).unwrap();
    entry
}

#[test]
fn a_mytoken_goes_to_another_machine_with_all_that_is_known_of_it() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let exported = site.run(&["export"]);
    assert!(exported.status.success() && exported.stderr.is_empty(), "{exported:?}");
    let before = taken(&site);
    let text = String::from_utf8(exported.stdout).unwrap();
    assert_eq!(text, format!("{}\n", before.mytoken.expose()));
    // The mytoken names its server.
    let file = site.path("home/.config/mytoken/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    let imported = import(&site, &format!("\n {text}"), &[]);
    assert!(imported.status.success(), "{}", stderr(&imported));
    let told = String::from_utf8(imported.stdout).unwrap();
    assert!(told.starts_with("✓ alice @ ") && told.contains("mytoken \"laptop\", valid "), "{told}");
    assert!(!told.contains(before.mytoken.expose()), "{told}");
    let after = taken(&site);
    assert_eq!((&after.mytoken, &after.restrictions), (&before.mytoken, &before.restrictions));
    assert_eq!((after.capabilities, after.expires_at), (before.capabilities, before.expires_at));
    assert_eq!((after.name, after.issuer), (before.name, before.issuer));
}

#[test]
fn a_transfer_code_is_redeemed_once_and_a_valid_mytoken_is_not_replaced() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(CAPABILITIES, &Value::Null);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    let code = server.transfer_code(&entry.mytoken, deadline()).unwrap().code;
    let refused = import(&site, code.expose(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("you have the mytoken \"laptop\"") && stderr(&refused).contains("mytoken-ssh logout")
    );
    taken(&site);
    let imported = import(&site, code.expose(), &[]);
    assert!(imported.status.success(), "{}", stderr(&imported));
    assert_eq!(taken(&site).mytoken, entry.mytoken);
    let again = import(&site, code.expose(), &[]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("already used"), "{again:?}");
    assert!(site.store().token(&site.url()).unwrap().is_none());
}

#[test]
fn what_is_no_valid_mytoken_is_not_stored() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT"], &Value::Null);
    taken(&site);
    let http = site.http();
    Server::discover(&http, &site.url(), deadline()).unwrap().revoke(&entry.mytoken, true, deadline()).unwrap();
    for (text, told) in [
        ("", "this is no mytoken: nothing was entered"),
        ("hunter2", "this is no mytoken: too short"),
        ("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL29wIn0.", "this is no mytoken"),
        (entry.mytoken.expose(), "does not accept this mytoken"),
    ] {
        let refused = import(&site, text, &[]);
        let shown = stderr(&refused);
        assert!(refused.status.code() == Some(1) && shown.contains(told) && shown.lines().count() == 1, "{shown}");
        assert!(text.len() < 8 || !shown.contains(text), "{shown}");
    }
    assert!(site.store().tokens().unwrap().is_empty());
    assert_eq!(site.run(&["export"]).status.code(), Some(1));
}

#[test]
fn a_mytoken_without_introspection_or_with_rotation_is_stored_as_it_says_itself() {
    for (capabilities, rotation) in [(&["AT"][..], Value::Null), (CAPABILITIES, json!({"on_AT": true}))] {
        let site = LoginSite::start();
        let entry = site.store_mytoken(capabilities, &rotation);
        let exported = site.run(&["export"]);
        assert_eq!(exported.status.success(), rotation.is_null(), "{exported:?}");
        taken(&site);
        let imported = import(&site, entry.mytoken.expose(), &[]);
        assert!(imported.status.success(), "{}", stderr(&imported));
        let warned = String::from_utf8(imported.stdout).unwrap().contains("! the server replaces it at each use");
        assert_eq!(warned, !rotation.is_null());
        let after = taken(&site);
        assert_eq!((after.rotates(), after.capabilities), (!rotation.is_null(), entry.capabilities));
    }
}
