// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken-ssh status --check`.

use mytoken::server::Server;
use mytoken::token_store::StoredToken;
use serde_json::{Value, json};

use crate::login_site::{LoginSite, deadline, stderr};

fn check(site: &LoginSite) -> (Option<i32>, String, Value) {
    let shown = site.run(&["status", "--check"]);
    assert!(shown.stderr.is_empty(), "{}", stderr(&shown));
    let listed = site.run(&["status", "--check", "--json"]);
    let list: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(shown.status.code(), listed.status.code());
    (shown.status.code(), String::from_utf8(shown.stdout).unwrap(), list[0]["check"].clone())
}

#[test]
fn the_server_tells_whether_it_accepts_a_mytoken() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT", "tokeninfo:introspect"], &Value::Null);
    let (code, shown, object) = check(&site);
    assert!(code == Some(0) && shown.contains("\n  the server accepts it\n"), "{shown}");
    assert_eq!(object, json!({"state": "valid", "reason": null, "clock": null}));
    let http = site.http();
    Server::discover(&http, &site.url(), deadline()).unwrap().revoke(&entry.mytoken, true, deadline()).unwrap();
    let (code, shown, object) = check(&site);
    assert!(
        code == Some(1)
            && shown.contains("the server does not accept it: ")
            && shown.contains("run: mytoken-ssh login"),
        "{shown}"
    );
    assert_eq!(object["state"], "refused");
    // Without the question, only what is known here counts: what the server has said before too.
    let quiet = site.run(&["status", "--json"]);
    let printed = String::from_utf8_lossy(&quiet.stdout).into_owned();
    assert!(quiet.status.code() == Some(1) && !printed.contains("check"), "{quiet:?}");
    assert!(printed.contains("\"trouble\":\"refused\""), "{printed}");
}

#[test]
fn a_mytoken_without_the_capability_is_accepted_and_one_that_rotates_stays() {
    for (capabilities, rotation) in
        [(&["AT"][..], Value::Null), (&["AT", "tokeninfo"], json!({"on_AT": true, "on_other": true}))]
    {
        let site = LoginSite::start();
        site.store_mytoken(capabilities, &rotation);
        let before = site.stored().unwrap();
        let (code, shown, object) = check(&site);
        assert!(code == Some(0) && object["state"] == "valid", "{shown} {object}");
        assert_eq!(site.stored().unwrap().mytoken, before.mytoken, "the same mytoken is stored");
        assert_eq!(check(&site).0, Some(0), "and still valid");
    }
}

/// This machine's clock may be wrong.
#[test]
fn the_servers_word_counts_more_than_this_machines_clock() {
    let site = LoginSite::start();
    let entry = site.store_mytoken(&["AT"], &Value::Null);
    let early = StoredToken { expires_at: Some(2), ..entry };
    site.store().lock(deadline()).unwrap().put(&early).unwrap();
    assert_eq!(site.run(&["status"]).status.code(), Some(1));
    let (code, shown, _) = check(&site);
    assert!(code == Some(0) && shown.contains("  expired, ") && shown.contains("  the server accepts it\n"), "{shown}");
}

#[test]
fn a_server_that_does_not_answer_leaves_the_state_open() {
    let mut site = LoginSite::start();
    site.store_mytoken(&["AT"], &Value::Null);
    site.stop_server();
    let (code, shown, object) = check(&site);
    assert!(code == Some(1) && shown.contains("\n  not checked: ") && object["state"] == "unknown", "{shown}");
    assert!(object["reason"].as_str().unwrap().contains("127.0.0.1"), "{object}");
}
