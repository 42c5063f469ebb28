// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which token a host gets for its prompt.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::login_site::{AUDIENCE, LoginSite, deadline, stderr};
use mytoken::server::{AccessTokenRequest, Granted, Server, refuse_rotation};
use serde_json::{Value, json};

const CAPABILITIES: &[&str] = &["AT", "create_mytoken", "tokeninfo:introspect"];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_login_gets_a_sub_token_that_expires_in_five_minutes_and_gives_only_access_tokens() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    let output = site.run(&["ssh", "tb"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers = site.answers();
    assert_eq!((answers.len(), answers[0].len()), (1, 8), "{answers:?}");
    let child = site.redeem(&answers[0]).unwrap();
    assert_eq!(child.capabilities.to_string(), "AT");
    let clause = &child.restrictions[0];
    assert!(clause.exp.unwrap() <= now() + 300 && clause.usages_at == Some(2) && clause.usages_other == Some(0));
    assert_eq!(
        (clause.audience.as_slice(), clause.scope.as_str()),
        ([AUDIENCE.to_owned()].as_slice(), "openid profile storage.read")
    );
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    let request =
        AccessTokenRequest { mytoken: &child.mytoken, scope: "openid profile", audience: AUDIENCE, comment: "test" };
    server.access_token(&request, &mut refuse_rotation, deadline()).unwrap();
}

#[test]
fn a_delegated_mytoken_has_the_requested_lifetime_limited_by_its_parent() {
    let site = LoginSite::start();
    let parent = site.store_mytoken(CAPABILITIES, &Value::Null);
    site.run(&["ssh", "--delegate=10m", "tb"]);
    site.run(&["ssh", "--delegate", "tb"]);
    let children: Vec<Granted> = site.answers().iter().map(|code| site.redeem(code).unwrap()).collect();
    assert_eq!(children[0].capabilities.to_string(), "AT create_mytoken tokeninfo:introspect");
    assert!(children[0].restrictions[0].exp.unwrap().abs_diff(now() + 600) < 30);
    assert_eq!(children[1].restrictions[0].exp, parent.expires_at);
    assert_eq!(children[1].restrictions[0].usages_at, None);
}

#[test]
fn a_host_rule_limits_the_scope() {
    let site = LoginSite::start();
    let file = site.path("home/.config/mytoken/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config + "[[host]]\npattern = \"test*\"\nscope = \"openid\"\n").unwrap();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.run(&["ssh", "tb"]);
    site.run(&["ssh", "--scope", "compute.write", "tb"]);
    let answers = site.answers();
    assert_eq!(site.redeem(&answers[0]).unwrap().restrictions[0].scope, "openid");
    // The stored mytoken lacks the scope compute.write. So the helper refuses to ask for it, and there is no second
    // answer.
    assert_eq!(answers.len(), 1);
}

#[test]
fn the_transfer_code_of_a_failed_login_is_revoked() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.install_ssh("ask '(alice@testbed) Access Token: '; exit 255");
    assert_eq!(site.run(&["ssh", "--delegate", "tb"]).status.code(), Some(255));
    assert!(matches!(
        site.redeem(&site.answers()[0]),
        Err(mytoken::Error::Server(mytoken::server::ServerError::CodeRefused { .. }))
    ));
}

#[test]
fn simultaneous_logins_with_a_rotating_mytoken_succeed() {
    let site = LoginSite::start();
    let first = site.store_mytoken(CAPABILITIES, &json!({"on_AT": true, "on_other": true}));
    let mut runs: Vec<_> = (0..4).map(|_| site.helper(&["ssh", "tb"]).spawn().unwrap()).collect();
    assert!(runs.iter_mut().all(|run| run.wait().unwrap().success()));
    let answers = site.answers();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|code| site.redeem(code).is_ok()));
    let stored = site.stored().unwrap();
    assert_ne!(stored.mytoken, first.mytoken);
    let http = site.http();
    let server = Server::discover(&http, &site.url(), deadline()).unwrap();
    assert_eq!(server.introspect(&stored.mytoken, deadline()).unwrap().claims.seq_no, Some(5));
}

#[test]
fn a_sub_token_with_more_rights_than_requested_is_revoked_and_not_sent() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.control("POST", "/mytoken/fault", &json!({"name": "broader-child"}));
    let output = site.run(&["ssh", "tb"]);
    assert!(site.answers().is_empty());
    assert!(
        stderr(&output).contains("more rights than asked for") && stderr(&output).contains("was revoked"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn in_an_outage_nothing_is_sent_and_one_sentence_says_why() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.install_ssh("ask '(alice@testbed) Access Token: '; exit 255");
    site.control("POST", "/outage", &json!({"service": "mytoken", "on": true}));
    let output = site.run(&["ssh", "tb"]);
    let messages = stderr(&output);
    assert!(site.answers().is_empty() && output.status.code() == Some(255));
    assert_eq!(messages.lines().count(), 1, "{messages}");
    assert!(messages.contains("cannot be reached") && messages.contains("try again later"), "{messages}");
}

#[test]
fn without_a_prompt_no_token_is_made() {
    let site = LoginSite::start();
    site.store_mytoken(CAPABILITIES, &Value::Null);
    site.install_ssh("exit 0");
    site.control("DELETE", "/journal", &Value::Null);
    assert!(site.run(&["ssh", "tb"]).status.success());
    assert_eq!(site.control("GET", "/journal?service=mytoken", &Value::Null), json!([]));
}

#[test]
fn without_a_needed_capability_ssh_is_not_started() {
    let site = LoginSite::start();
    site.store_mytoken(&["AT"], &Value::Null);
    site.install_ssh("touch \"$HOME/started\"");
    let output = site.run(&["ssh", "tb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("create_mytoken") && !site.path("home/started").exists());
}
