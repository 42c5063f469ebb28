// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh import` and `export`.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Output, Stdio};

use mytoken::Secret;
use mytoken::server::Server;
use mytoken::token_store::StoredToken;
use nix::pty::openpty;
use serde_json::{Value, json};

use crate::login_site::{LoginSite, deadline, stderr};

const CAPABILITIES: &[&str] = &["AT", "create_mytoken", "tokeninfo"];

fn import(site: &LoginSite, text: &str, more: &[&str]) -> Output {
    let mut helper = site.helper(&[&["import"], more].concat());
    let mut running = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

/// Transfer codes for a mytoken.
fn codes<const COUNT: usize>(site: &LoginSite, mytoken: &Secret) -> [Secret; COUNT] {
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    [(); COUNT].map(|()| server.transfer_code(mytoken, deadline()).unwrap().code)
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
    let [code] = codes(&site, &entry.mytoken);
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

/// A code that is typed: the server's answer comes once.
#[test]
fn ctrl_c_at_a_terminal_does_not_lose_the_mytoken_of_a_code() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(CAPABILITIES, &Value::Null);
    let [code] = codes(&site, &entry.mytoken);
    taken(&site);
    site.delay_one("mytoken");
    let pty = openpty(None, None).unwrap();
    let mut helper = site.at_terminal(&["import"]);
    let child = helper.stdin(pty.slave).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut user = File::from(pty.master);
    let mut shown = Vec::new();
    while !shown.ends_with(b"mytoken: ") {
        let mut byte = [0];
        user.read_exact(&mut byte).unwrap();
        shown.extend_from_slice(&byte);
    }
    user.write_all(format!("{}\n", code.expose()).as_bytes()).unwrap();
    site.wait_for_request("mytoken");
    // Ctrl-C.
    user.write_all(&[3]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).starts_with('✓'), "{output:?}");
    assert_eq!(taken(&site).mytoken, entry.mytoken);
}

#[test]
fn two_imports_of_codes_at_once_lose_no_mytoken() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(CAPABILITIES, &Value::Null);
    let codes: [Secret; 2] = codes(&site, &entry.mytoken);
    taken(&site);
    site.delay_one("mytoken");
    let outputs = std::thread::scope(|scope| {
        let imports = codes.each_ref().map(|code| scope.spawn(|| import(&site, code.expose(), &[])));
        imports.map(|import| import.join().unwrap())
    });
    // The later one finds the mytoken of the other one, and does not use its code.
    let refused = outputs.iter().position(|output| !output.status.success()).unwrap();
    assert!(outputs[1 - refused].status.success(), "{outputs:?}");
    assert!(stderr(&outputs[refused]).contains("you have the mytoken"), "{outputs:?}");
    assert!(site.redeem(codes[refused].expose()).is_ok());
    assert_eq!(taken(&site).mytoken, entry.mytoken);
}

#[test]
fn a_lost_answer_to_a_code_is_told() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(CAPABILITIES, &Value::Null);
    let [code] = codes(&site, &entry.mytoken);
    taken(&site);
    let fault = json!({"name": "drop-after-commit", "endpoint": "mytoken", "times": 1});
    site.control("POST", "/mytoken/fault", &fault);
    let lost = import(&site, code.expose(), &[]);
    let told = stderr(&lost);
    assert!(lost.status.code() == Some(1) && told.contains("The code may be used up: make a new one"), "{told}");
    assert!(stderr(&import(&site, code.expose(), &[])).contains("already used"));
}

#[test]
fn a_mytoken_is_sent_to_its_own_server_and_repeated_nowhere() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(CAPABILITIES, &Value::Null);
    taken(&site);
    site.control("DELETE", "/journal", &Value::Null);
    let mytoken = entry.mytoken.expose();
    // The same server by another name.
    let other = site.mytoken_url().replace("127.0.0.1", "localhost");
    assert_ne!(other, site.mytoken_url());
    let refused = import(&site, mytoken, &["--server", &other]);
    assert!(stderr(&refused).contains(", not of ") && stderr(&refused).contains("it was sent nowhere"), "{refused:?}");
    assert_eq!(site.control("GET", "/journal?service=mytoken", &Value::Null), json!([]));
    let wrong = site.run(&["import", mytoken]);
    let told = stderr(&wrong);
    assert!(wrong.status.code() == Some(2) && told.contains("mytoken-ssh import < FILE"), "{told}");
    assert!(!told.contains(mytoken) && site.store().tokens().unwrap().is_empty(), "{told}");
    let option = stderr(&site.run(&["import", "--sever", "https://x"]));
    assert!(option.contains("--sever") && option.contains("--server"), "{option}");
    // What cannot log in is told.
    for (capabilities, told) in
        [(&["AT"][..], "makes no narrower mytokens"), (&["tokeninfo"], "gives no access tokens")]
    {
        let entry = site.store_mytoken(capabilities, &Value::Null);
        taken(&site);
        let imported = String::from_utf8(import(&site, entry.mytoken.expose(), &[]).stdout).unwrap();
        taken(&site);
        assert!(imported.contains(told) && imported.contains("Next: ") == (capabilities == ["AT"]), "{imported}");
    }
}
